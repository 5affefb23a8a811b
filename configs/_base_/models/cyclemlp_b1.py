# CycleMLP-B1 as a classifier: the backbone's norm, the mean over positions, a linear layer.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='CycleMLP', arch='b1'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        in_channels=512,
        num_classes=10,
        loss=dict(type='CrossEntropyLoss'),
        topk=(1, )))
