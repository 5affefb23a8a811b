_base_ = [
    '../_base_/models/mask-rcnn_cyclemlp.py',
    'mmdet::_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x.py',
    '../_base_/detection_runtime.py',
]
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='cyclemlp://b1', prefix='backbone.')))
optim_wrapper = dict(optimizer=dict(lr=2e-4))
