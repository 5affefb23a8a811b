_base_ = ['../_base_/models/resnet18.py', '../_base_/recipes/cifar10_light.py']
train_cfg = dict(max_epochs=10)
