# Eight images of COCO for training and validation alike, an overfit check of a detector. Their json
# is made by tools/datasets/subset_coco.py: `indices=8` of the whole one would be judged by all its images.
train_dataloader = dict(
    batch_size=1,
    num_workers=0,
    dataset=dict(
        type='RepeatDataset',
        times=25,  # an epoch is 200 iterations
        dataset=dict(
            type='CocoDataset',
            data_root='data/coco_mini',
            ann_file='annotations/instances_train8.json',
            data_prefix=dict(img='images/train/'),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
                # Not smaller: masks are bitmaps here, and at 384x256 nothing is left of a car of 5 pixels.
                dict(type='Resize', scale=(640, 640), keep_ratio=True),
                dict(type='PackDetInputs'),
            ])),
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    dataset=dict(
        type='CocoDataset',
        data_root='data/coco_mini',
        ann_file='annotations/instances_train8.json',
        data_prefix=dict(img='images/train/'),
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(640, 640), keep_ratio=True),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
        ]),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader

val_evaluator = dict(
    type='CocoMetric', ann_file='data/coco_mini/annotations/instances_train8.json', metric=['bbox', 'segm'])
test_evaluator = val_evaluator
