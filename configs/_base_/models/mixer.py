# MLP-Mixer-S/16. It takes images of img_size only.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='MlpMixer', arch='s', img_size=32, patch_size=16),
    neck=dict(type='GlobalAveragePooling', dim=1),
    head=dict(
        type='LinearClsHead',
        in_channels=512,
        num_classes=10,
        loss=dict(type='CrossEntropyLoss'),
        topk=(1, )))
