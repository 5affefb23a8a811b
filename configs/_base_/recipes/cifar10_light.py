# For runs of few epochs, where the strong recipe's mixed labels would only slow learning: crops and flips, twice as
# many updates, and a short warm-up.
_base_ = ['../datasets/cifar10.py', '../schedules/adamw_cosine_warmup.py', '../classification_runtime.py']
train_dataloader = dict(
    batch_size=128,
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
auto_scale_lr = dict(base_batch_size=128)
