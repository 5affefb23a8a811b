_base_ = ['../_base_/models/vit.py', '../_base_/recipes/imagenet.py']
model = dict(backbone=dict(img_size=224), head=dict(num_classes=1000))
