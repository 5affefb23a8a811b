_base_ = ['../_base_/models/regnet.py', '../_base_/recipes/cifar10_seed.py']
