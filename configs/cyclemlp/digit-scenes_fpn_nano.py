# From the weights of the classifier of single digits (digits_nano.py), which come with the package.
_base_ = 'digit-scenes_fpn_b1.py'
model = dict(
    backbone=dict(
        arch='nano',
        init_cfg=dict(type='Pretrained', checkpoint='cyclemlp://digits', prefix='backbone.')),
    neck=dict(in_channels=[32, 64, 128]))
train_cfg = dict(max_iters=3600, val_interval=3600)
