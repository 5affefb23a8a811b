_base_ = ['../_base_/models/regnet.py', '../_base_/recipes/imagenet.py']
model = dict(head=dict(num_classes=1000))
