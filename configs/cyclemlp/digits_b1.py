_base_ = [
    '../_base_/models/cyclemlp_b1.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/adamw_cosine.py',
    '../_base_/classification_runtime.py',
]

train_cfg = dict(max_epochs=15)
default_hooks = dict(logger=dict(interval=25))
auto_scale_lr = dict(base_batch_size=64)
