# From the weights of the classifier of single digits: first `python tools/train.py configs/cyclemlp/digits_b1.py`.
_base_ = [
    '../_base_/models/retinanet_cyclemlp.py',
    '../_base_/datasets/digit_scenes_detection.py',
    '../_base_/detection_runtime.py',
]
custom_imports = dict(imports=['mmcyclemlp', 'mmcyclemlp.engine', 'mmcyclemlp.datasets.digit_scenes_detection'])
model = dict(
    data_preprocessor=dict(mean=[78., 78., 78.], std=[96., 96., 96.]),  # the classifier's
    backbone=dict(
        drop_path_rate=0.,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/digits_b1/epoch_15.pth', prefix='backbone.')),
    # Neck and head start from random weights and have little time: norms shorten their way to the first boxes.
    neck=dict(out_channels=128, num_outs=3, norm_cfg=dict(type='GN', num_groups=32)),
    bbox_head=dict(
        norm_cfg=dict(type='GN', num_groups=32),
        num_classes=10, in_channels=128, stacked_convs=2, feat_channels=128,
        # Digits are about 30 to 55 pixels high here: anchors of 16 to 100.
        anchor_generator=dict(octave_base_scale=2, strides=[8, 16, 32])))
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05, fused=True),
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=4, val_interval=4)
val_cfg = dict()
test_cfg = dict()
