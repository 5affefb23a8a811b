# Own images, from the authors' ImageNet weights. DATA names a folder with train/CLASS/ and val/CLASS/:
#
#   DATA=data/flowers python tools/train.py configs/cyclemlp/finetune_b1.py
_base_ = [
    '../_base_/models/cyclemlp_b1.py',
    '../_base_/datasets/image_folder.py',
    '../_base_/schedules/adamw_cosine_warmup.py',
    '../_base_/classification_runtime.py',
]
model = dict(
    backbone=dict(
        drop_path_rate=0.1, init_cfg=dict(type='Pretrained', checkpoint='cyclemlp://b1', prefix='backbone.')),
    head=dict(
        num_classes=_base_.data_preprocessor.num_classes, loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1)))
# The nearer a layer is to the image, the slower it learns; from random weights, all would learn faster.
optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.8))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=3, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, eta_min=1e-6),
]
train_cfg = dict(max_epochs=30)
auto_scale_lr = dict(base_batch_size=64)
