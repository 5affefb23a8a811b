_base_ = [
    '../_base_/models/cyclemlp_b1.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/adamw_cosine.py',
    '../_base_/classification_runtime.py',
]

# With only 345 iterations, the first steps of AdamW at its full rate cost more than a warm-up does.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True),
]
train_cfg = dict(max_epochs=15)
default_hooks = dict(logger=dict(interval=25))
auto_scale_lr = dict(base_batch_size=64)
