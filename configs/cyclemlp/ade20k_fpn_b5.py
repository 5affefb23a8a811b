_base_ = 'ade20k_fpn_b1.py'
model = dict(
    backbone=dict(arch='b5', init_cfg=dict(checkpoint='cyclemlp://b5')),
    neck=dict(in_channels=[96, 192, 384, 768]))
