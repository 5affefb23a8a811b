# ViT-Tiny/16, as DeiT initialises it. Its output is its class token, so there is no neck.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='VisionTransformer', arch='deit-tiny', img_size=32, patch_size=16),
    head=dict(
        type='VisionTransformerClsHead',
        in_channels=192,
        num_classes=10,
        loss=dict(type='CrossEntropyLoss'),
        topk=(1, )),
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=.02),
        dict(type='Constant', layer='LayerNorm', val=1., bias=0.),
    ])
