_base_ = 'coco_retinanet_b1.py'
model = dict(backbone=dict(arch='b3', init_cfg=dict(checkpoint='cyclemlp://b3')))
