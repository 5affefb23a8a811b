# From the weights of the classifier of single digits (digits_nano.py), which come with the package.
_base_ = 'digit-scenes_retinanet_b1.py'
model = dict(
    backbone=dict(arch='nano', init_cfg=dict(checkpoint='cyclemlp://digits')),
    neck=dict(in_channels=[64, 128, 160], out_channels=64, norm_cfg=dict(num_groups=16)),
    bbox_head=dict(in_channels=64, feat_channels=64, norm_cfg=dict(num_groups=16)))
train_dataloader = dict(dataset=dict(indices=None))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_epochs=8, val_interval=8)
