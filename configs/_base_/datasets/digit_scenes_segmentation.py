# Made when it is first read, so nothing is downloaded. Validation is on scenes of held-out digits. A mirrored digit is
# none, so nothing is flipped.
train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        type='DigitScenesSegmentation',
        data_root='data/digit_scenes',
        data_prefix=dict(img_path='train', seg_map_path='masks/train'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', num_classes=11),
            dict(type='RandomCrop', crop_size=(96, 96)),
            dict(type='PackSegInputs'),
        ]),
    sampler=dict(type='InfiniteSampler', shuffle=True))
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        type='DigitScenesSegmentation',
        data_root='data/digit_scenes',
        data_prefix=dict(img_path='val', seg_map_path='masks/val'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', num_classes=11),
            dict(type='PackSegInputs'),
        ]),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader

val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
