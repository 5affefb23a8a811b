# A strong recipe for STL-10: crops, flips, RandAugment, mixup or CutMix, label smoothing, averaged weights. Labels
# are mixed, so there is no training accuracy; validation is of the averaged weights.
_base_ = ['../datasets/stl10.py', '../schedules/adamw_cosine_warmup.py', '../classification_runtime.py']
data_preprocessor = dict(
    batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.)]))
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='RandomCrop', crop_size=96, padding=12),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(
                type='RandAugment',
                policies='timm_increasing',
                num_policies=2,
                total_level=10,
                magnitude_level=9,
                magnitude_std=0.5,
                hparams=dict(pad_val=[124, 116, 104], interpolation='bicubic')),
            dict(type='PackInputs'),
        ]))
custom_hooks = [
    dict(type='CurvesHook'),
    dict(type='ResumeScheduleHook'),
    dict(
        type='SwitchRecipeHook',  # from the first epoch on, so that any head gets this loss
        schedule=[dict(action_epoch=1, loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1))]),
    dict(type='EMAHook', ema_type='MomentumAnnealingEMA', momentum=2e-3, gamma=100, update_buffers=True),
]
