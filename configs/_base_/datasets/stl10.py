# No augmentation, as in the study. Mean and deviation are ImageNet's, which STL-10's images were taken from.
# Validation is on the test split, so the best checkpoint is chosen on it: report the last one where that matters.
data_preprocessor = dict(
    type='ClsDataPreprocessor',
    num_classes=10,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=False)  # the images are RGB already

# default_collate: one tensor a batch, which comes from a worker ten times faster than one an image.
train_dataloader = dict(
    batch_size=256,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='STL10',
        data_root='data/stl10',
        split='train',
        pipeline=[dict(type='PackInputs')]),
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=256,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='STL10',
        data_root='data/stl10',
        split='test',
        pipeline=[dict(type='PackInputs')]),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader

val_evaluator = [dict(type='Accuracy', topk=(1, )), dict(type='MeanCrossEntropy')]
test_evaluator = val_evaluator
