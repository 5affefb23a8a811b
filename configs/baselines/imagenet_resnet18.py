_base_ = ['../_base_/models/resnet18.py', '../_base_/recipes/imagenet.py']
model = dict(head=dict(num_classes=1000))
