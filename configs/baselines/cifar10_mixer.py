_base_ = ['../_base_/models/mixer.py', '../_base_/recipes/cifar10_seed.py']
