# Made when it is first read, so nothing is downloaded. Validation is on scenes of held-out digits. Strokes are 3 pixels
# wide and more: enlarged by half, they are more than a position of the first maps. A mirrored digit is none, so nothing
# is flipped.
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        type='DigitScenesSegmentation',
        data_root='data/digit_scenes',
        data_prefix=dict(img_path='train', seg_map_path='masks/train'),
        pipeline=[
            dict(type='LoadReadableImage'),
            dict(type='LoadCheckedMask', num_classes=11),
            dict(type='Resize', scale_factor=1.5),
            dict(type='RandomCrop', crop_size=(192, 192)),
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
            dict(type='LoadReadableImage'),
            dict(type='Resize', scale_factor=1.5),
            dict(type='LoadCheckedMask', num_classes=11),
            dict(type='PackSegInputs'),
        ]),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader

val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
