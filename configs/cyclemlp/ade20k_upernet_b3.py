_base_ = 'ade20k_upernet_b2.py'
model = dict(backbone=dict(arch='b3', init_cfg=dict(checkpoint='cyclemlp://b3')))
