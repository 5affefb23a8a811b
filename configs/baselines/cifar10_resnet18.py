_base_ = ['../_base_/models/resnet18.py', '../_base_/recipes/cifar10_seed.py']
