# The authors' recipe for ImageNet-1K, on 8 GPUs of 128 images each. Testing resizes the short side to 248 and crops
# 224, as published for B1 to B3 (224 / 0.9).
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs128_poolformer_small_224.py',
    'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_conformer.py',
    '../classification_runtime.py',
]
data_preprocessor = dict(
    type='ClsDataPreprocessor',
    batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.)]))
train_dataloader = dict(
    collate_fn=dict(type='default_collate'),
    persistent_workers=True,
    sampler=dict(type='RepeatAugSampler'))
val_dataloader = dict(collate_fn=dict(type='default_collate'), persistent_workers=True)
test_dataloader = dict(collate_fn=dict(type='default_collate'), persistent_workers=True)
val_evaluator = [dict(type='Accuracy', topk=(1, 5)), dict(type='MeanCrossEntropy')]
test_evaluator = val_evaluator
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'.pos_embed': dict(decay_mult=0.)}))
custom_hooks = [
    dict(type='CurvesHook'),
    dict(type='ResumeScheduleHook'),
    dict(
        type='SwitchRecipeHook',  # from the first epoch on, so that any head gets this loss
        schedule=[dict(action_epoch=1, loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1))]),
    dict(type='EMAHook', momentum=4e-5, update_buffers=True),
]
