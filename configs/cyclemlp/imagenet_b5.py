_base_ = ['../_base_/models/cyclemlp_b1.py', '../_base_/recipes/imagenet.py']
model = dict(backbone=dict(arch='b5', drop_path_rate=0.1), head=dict(in_channels=768, num_classes=1000))

# Published with a crop of 0.875 of the short side.
val_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='ResizeEdge', scale=256, edge='short', backend='pillow', interpolation='bicubic'),
            dict(type='CenterCrop', crop_size=224),
            dict(type='PackInputs'),
        ]))
test_dataloader = val_dataloader
