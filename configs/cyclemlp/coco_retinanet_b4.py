_base_ = 'coco_retinanet_b1.py'
model = dict(backbone=dict(arch='b4', init_cfg=dict(checkpoint='cyclemlp://b4')))
