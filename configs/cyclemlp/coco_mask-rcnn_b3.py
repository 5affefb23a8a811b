_base_ = 'coco_mask-rcnn_b1.py'
model = dict(backbone=dict(arch='b3', init_cfg=dict(checkpoint='cyclemlp://b3')))
