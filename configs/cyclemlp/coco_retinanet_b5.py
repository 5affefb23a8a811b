_base_ = 'coco_retinanet_b1.py'
model = dict(
    backbone=dict(arch='b5', init_cfg=dict(checkpoint='checkpoints/cyclemlp_b5.pth')),
    neck=dict(in_channels=[192, 384, 768]))
