_base_ = 'ade20k_fpn_b1.py'
model = dict(backbone=dict(arch='b3', init_cfg=dict(checkpoint='cyclemlp://b3')))
