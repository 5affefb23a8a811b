# Made when it is first read, so nothing is downloaded. Validation is on scenes of held-out digits.
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        type='DigitScenesDetection',
        data_root='data/digit_scenes',
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        indices=1000,  # half of them: there is no time for more
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            # A mirrored digit is none, so nothing is flipped.
            dict(type='RandomResize', scale=[(104, 104), (128, 128)], keep_ratio=True),
            dict(type='PhotoMetricDistortion'),
            dict(type='PackDetInputs'),
        ]),
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        type='DigitScenesDetection',
        data_root='data/digit_scenes',
        ann_file='annotations/val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(128, 128), keep_ratio=True),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
        ]),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader

val_evaluator = dict(type='CocoMetric', ann_file='data/digit_scenes/annotations/val.json', metric='bbox')
test_evaluator = val_evaluator
