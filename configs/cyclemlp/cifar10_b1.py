_base_ = ['../_base_/models/cyclemlp_b1.py', '../_base_/recipes/cifar10_seed.py']
