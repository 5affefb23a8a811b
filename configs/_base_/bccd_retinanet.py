# RetinaNet on blood cells, from random weights; the leaves add a backbone each, and all else is the same.
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', 'datasets/bccd.py', 'detection_runtime.py']
model = dict(
    # Half the channels and convolutions of COCO's: three classes need no more, and training takes a third of the time.
    # Neck and head start from random weights with any backbone, and group norms let them learn at small batches.
    neck=dict(out_channels=128, start_level=0, num_outs=4, norm_cfg=dict(type='GN', num_groups=32)),
    bbox_head=dict(
        norm_cfg=dict(type='GN', num_groups=32),
        num_classes=3,
        in_channels=128,
        stacked_convs=2,
        feat_channels=128,
        # Platelets measure about 20 pixels here, red cells 50 and white cells 100: anchors of 16 to 200.
        anchor_generator=dict(octave_base_scale=2, strides=[8, 16, 32, 64])))
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-4, weight_decay=0.05, fused=True),
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0.),
    clip_grad=dict(max_norm=1.))  # without, the loss leaps up now and then
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True),
]
# Validation is on what results are reported for, so no choice may be made by it: take the last checkpoint.
train_cfg = dict(by_epoch=True, max_epochs=48, val_interval=6)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(logger=dict(interval=25))
auto_scale_lr = dict(enable=True, base_batch_size=4)
