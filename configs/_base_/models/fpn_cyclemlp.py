# Semantic FPN on CycleMLP, with drop path as in the authors' training on ImageNet, and in PVT.
_base_ = 'fpn.py'
model = dict(
    backbone=dict(type='CycleMLP', arch='b1', drop_path_rate=0.1, out_indices=(0, 1, 2, 3)),
    neck=dict(in_channels=[64, 128, 320, 512]))
