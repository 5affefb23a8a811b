_base_ = [
    '../_base_/models/retinanet_cyclemlp.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '../_base_/schedules/adamw_1x.py',
    '../_base_/detection_runtime.py',
]
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='cyclemlp://b1', prefix='backbone.')))
