_base_ = 'coco_retinanet_b1.py'
model = dict(backbone=dict(arch='b2', init_cfg=dict(checkpoint='cyclemlp://b2')))
