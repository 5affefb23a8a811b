# PVT's: 12 epochs, steps at 8 and 11, AdamW. The rate is meant for 8 GPUs x 2 images and follows any other number.
_base_ = 'mmdet::_base_/schedules/schedule_1x.py'
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=1e-4, fused=True),
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0.))
auto_scale_lr = dict(enable=True, base_batch_size=16)
