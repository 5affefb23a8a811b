# Road scenes of 480x360: 367 for training, 101 for validation, seen at half their size, and in training at scales
# around it, cut to that size. 11 stands where none of the classes 0 to 10 applies.
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        type='CamVid',
        data_root='data/camvid',
        split='train',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', num_classes=11, ignore_index=11),
            dict(type='RandomResize', scale=(240, 180), ratio_range=(0.8, 1.6), keep_ratio=True),
            dict(type='RandomCrop', crop_size=(180, 240), cat_max_ratio=0.75, ignore_index=11),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PhotoMetricDistortion'),
            dict(type='PackSegInputs'),
        ]),
    sampler=dict(type='InfiniteSampler', shuffle=True))
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        type='CamVid',
        data_root='data/camvid',
        split='val',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(240, 180), keep_ratio=True),
            dict(type='LoadAnnotations', num_classes=11, ignore_index=11),
            dict(type='PackSegInputs'),
        ]),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
# In the place of the test pipeline, with a tta_model: three scales and mirror images, averaged.
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=scale, keep_ratio=True) for scale in ((180, 135), (240, 180), (300, 225))],
            [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0., 1.)],
            [dict(type='LoadAnnotations', num_classes=11, ignore_index=11)],
            [dict(type='PackSegInputs')],
        ])
]

val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'], ignore_index=11)
test_evaluator = val_evaluator
