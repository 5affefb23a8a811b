# ../cyclemlp/camvid_fpn_b1.py with another backbone, at a higher rate and without colour distortion.
_base_ = '../_base_/camvid_fpn.py'
model = dict(
    backbone=dict(
        type='ResNet', depth=18, norm_cfg=dict(type='SyncBN', requires_grad=True), contract_dilation=True),
    neck=dict(in_channels=[64, 128, 256, 512]))
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', num_classes=11, ignore_index=11),
            dict(type='RandomResize', scale=(240, 180), ratio_range=(0.8, 1.6), keep_ratio=True),
            dict(type='RandomCrop', crop_size=(180, 240), cat_max_ratio=0.75, ignore_index=11),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ]))
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
