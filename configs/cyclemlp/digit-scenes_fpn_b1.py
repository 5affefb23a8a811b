# From the weights of the classifier of single digits: first `python tools/train.py configs/cyclemlp/digits_b1.py`.
_base_ = [
    '../_base_/models/fpn_cyclemlp.py',
    '../_base_/datasets/digit_scenes_segmentation.py',
    '../_base_/schedules/adamw_poly_40k.py',
    '../_base_/segmentation_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=(96, 96), mean=[78., 78., 78.], std=[96., 96., 96.]),  # the classifier's
    backbone=dict(
        drop_path_rate=0.,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/digits_b1/epoch_15.pth', prefix='backbone.')),
    neck=dict(out_channels=128),
    decode_head=dict(
        in_channels=[128, 128, 128, 128],
        dropout_ratio=0.,
        num_classes=11,
        # The ground covers six sevenths, and with equal weights it takes long until one digit is told from another.
        loss_decode=dict(class_weight=[0.1, *[1.] * 10])))
optim_wrapper = dict(optimizer=dict(lr=5e-4, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=100),
    dict(type='PolyLR', power=0.9, by_epoch=False),
]
train_cfg = dict(max_iters=750, val_interval=750)
default_hooks = dict(checkpoint=dict(interval=250))
auto_scale_lr = dict(base_batch_size=8)
