# Embedded in scikit-learn, so nothing is downloaded. Validation is on the held-out fifth.
data_preprocessor = dict(
    type='ClsDataPreprocessor',
    num_classes=10,
    mean=[78., 78., 78.],
    std=[96., 96., 96.],
    to_rgb=False)

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    dataset=dict(
        type='Digits',
        split='train',
        pipeline=[dict(type='Resize', scale=32), dict(type='PackInputs')]),
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    dataset=dict(
        type='Digits',
        split='test',
        pipeline=[dict(type='Resize', scale=32), dict(type='PackInputs')]),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader

val_evaluator = [dict(type='Accuracy', topk=(1, )), dict(type='MeanCrossEntropy')]
test_evaluator = val_evaluator
