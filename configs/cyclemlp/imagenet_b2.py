_base_ = ['../_base_/models/cyclemlp_b1.py', '../_base_/recipes/imagenet.py']
model = dict(backbone=dict(arch='b2', drop_path_rate=0.1), head=dict(num_classes=1000))
