# Swin's for UPerNet, for 8 GPUs x 2 images.
_base_ = 'adamw_poly_40k.py'
optim_wrapper = dict(optimizer=dict(lr=6e-5, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, end=1500),
    dict(type='PolyLR', power=1.0, by_epoch=False),
]
train_cfg = dict(max_iters=160000, val_interval=16000)
auto_scale_lr = dict(base_batch_size=16)
