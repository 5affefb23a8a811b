# As ../cyclemlp/camvid_fpn_b1.py, on ResNet-18.
_base_ = '../_base_/camvid_fpn.py'
model = dict(backbone=dict(type='ResNet', depth=18), neck=dict(in_channels=[64, 128, 256, 512]))
