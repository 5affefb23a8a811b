_base_ = ['../_base_/models/resnet18.py', '../_base_/recipes/stl10_seed.py']
