_base_ = ['../_base_/models/vit.py', '../_base_/recipes/cifar10_seed.py']
