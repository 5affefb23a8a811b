_base_ = ['../_base_/models/cyclemlp_b1.py', '../_base_/recipes/cifar10_light.py']
model = dict(backbone=dict(stem_stride=2))  # 16x16 positions in the first stage, not 8x8
train_cfg = dict(max_epochs=10)
