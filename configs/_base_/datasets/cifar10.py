# No augmentation, as in the study. Validation is on the test split, also as there, so the best checkpoint
# is chosen on it: report the last one where that matters.
data_preprocessor = dict(
    type='ClsDataPreprocessor',
    num_classes=10,
    mean=[125.3, 122.9, 113.9],
    std=[63.0, 62.1, 66.7],
    to_rgb=False)  # the images are RGB already

# default_collate: one tensor a batch, which comes from a worker ten times faster than one an image.
train_dataloader = dict(
    batch_size=256,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CIFAR10Auto',
        data_root='data/cifar10',
        split='train',
        pipeline=[dict(type='PackInputs')]),
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=256,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CIFAR10Auto',
        data_root='data/cifar10',
        split='test',
        pipeline=[dict(type='PackInputs')]),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader

val_evaluator = [dict(type='Accuracy', topk=(1, )), dict(type='MeanCrossEntropy')]
test_evaluator = val_evaluator
