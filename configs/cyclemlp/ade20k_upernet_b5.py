_base_ = 'ade20k_upernet_b2.py'
model = dict(
    backbone=dict(arch='b5', init_cfg=dict(checkpoint='cyclemlp://b5')),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384))
