_base_ = [
    '../_base_/models/fpn_cyclemlp.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/adamw_poly_40k.py',
    '../_base_/segmentation_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=(512, 1024)),
    backbone=dict(
        arch='b2',
        init_cfg=dict(type='Pretrained', checkpoint='cyclemlp://b2', prefix='backbone.')))
train_cfg = dict(max_iters=80000, val_interval=8000)
