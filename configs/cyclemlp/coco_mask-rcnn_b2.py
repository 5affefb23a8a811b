_base_ = 'coco_mask-rcnn_b1.py'
model = dict(backbone=dict(arch='b2', init_cfg=dict(checkpoint='cyclemlp://b2')))
