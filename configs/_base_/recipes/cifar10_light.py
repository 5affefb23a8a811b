# For runs of few epochs, where the strong recipe's mixed labels would only slow learning: crops and flips, and a
# warm-up of half an epoch instead of two and a half.
_base_ = ['../datasets/cifar10.py', '../schedules/adamw_cosine_warmup.py', '../classification_runtime.py']
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='RandomCrop', crop_size=32, padding=4),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ]))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, eta_min=1e-5),
]
