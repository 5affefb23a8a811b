# The study's recipe. The cosine ends with the run, whatever train_cfg.max_epochs is, so a shorter run is a whole
# one; for the first epochs of the long run, also set param_scheduler.0.T_max=100.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05, fused=True))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True)]
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=256, enable=False)
