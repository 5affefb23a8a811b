# mmseg's, with images and masks checked as they are read.
_base_ = 'mmseg::_base_/datasets/ade20k.py'
train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='LoadReadableImage'),
        dict(type='LoadCheckedMask', num_classes=150),
        *_base_.train_pipeline[2:],
    ]))
val_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='LoadReadableImage'),
        dict(type='Resize', scale=(2048, 512), keep_ratio=True),
        dict(type='LoadCheckedMask', num_classes=150),
        dict(type='PackSegInputs'),
    ]))
test_dataloader = val_dataloader
