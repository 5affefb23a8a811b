# Semantic FPN on CamVid, from random weights. The leaves add a backbone, and the recipe that did best for it on a
# development part of the training images: docs/results/segmentation.md.
_base_ = ['models/fpn.py', 'datasets/camvid.py', 'segmentation_runtime.py']
model = dict(
    data_preprocessor=dict(size=(180, 240), seg_pad_val=11),
    # Narrower than ADE20K's: eleven classes need no more, and training takes half the time.
    neck=dict(out_channels=64, norm_cfg=dict(type='GN', num_groups=16)),
    decode_head=dict(
        in_channels=[64, 64, 64, 64],
        channels=64,
        num_classes=11,
        ignore_index=11,
        # The fourth root of the median share of the training pixels over each class's: a quarter of the way to equal
        # shares. With more, the rare classes are found where there are none.
        loss_decode=dict(class_weight=[0.72, 0.66, 1.46, 0.61, 1.00, 0.82, 1.40, 1.41, 0.94, 1.63, 1.98])))
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05, fused=True),
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0.),
    clip_grad=dict(max_norm=1.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=300),
    dict(type='PolyLR', power=0.9, by_epoch=False),
]
# Validation is on what results are reported for, so no choice may be made by it: take the last checkpoint.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=6400, val_interval=1600)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(interval=1600))
auto_scale_lr = dict(enable=True, base_batch_size=4)
