# As ../cyclemlp/bccd_retinanet_b1.py, on ResNet-18.
_base_ = '../_base_/bccd_retinanet.py'
model = dict(
    backbone=dict(depth=18, out_indices=(1, 2, 3), frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[128, 256, 512]))
