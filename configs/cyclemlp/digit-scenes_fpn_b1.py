# From random weights, on three stages as wide as CycleMLP-B1's and half as deep: the fourth would have one or two cells
# for a digit of 32 to 52 pixels, and in eight minutes more iterations teach more than more layers.
_base_ = [
    '../_base_/models/fpn_cyclemlp.py',
    '../_base_/datasets/digit_scenes_segmentation.py',
    '../_base_/schedules/adamw_poly_40k.py',
    '../_base_/segmentation_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=(96, 96), mean=[78., 78., 78.], std=[96., 96., 96.]),
    backbone=dict(
        arch=dict(_delete_=True, depths=(1, 1, 2), embed_dims=(64, 128, 320), mlp_ratios=(4, 4, 4)),
        drop_path_rate=0.,
        out_indices=(0, 1, 2)),
    neck=dict(in_channels=[64, 128, 320], out_channels=64, num_outs=3, norm_cfg=dict(type='GN', num_groups=16)),
    decode_head=dict(
        in_index=[0, 1, 2], feature_strides=[4, 8, 16], in_channels=[64, 64, 64], channels=64,
        dropout_ratio=0.,
        num_classes=11,
        # The ground covers six sevenths, and with equal weights it takes long until one digit is told from another.
        loss_decode=dict(class_weight=[0.2, *[1.] * 10])))
# The rate is high, and the gradients are clipped, because time is short.
optim_wrapper = dict(optimizer=dict(lr=4e-3, weight_decay=0.05), clip_grad=dict(max_norm=1.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=100),
    dict(type='PolyLR', power=0.9, by_epoch=False),
]
train_cfg = dict(max_iters=1800, val_interval=1800)
default_hooks = dict(checkpoint=dict(interval=900))
auto_scale_lr = dict(base_batch_size=16)
