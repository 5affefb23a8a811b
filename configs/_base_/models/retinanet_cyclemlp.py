# RetinaNet on CycleMLP. The FPN starts at stride 8, so the backbone gives the three maps from there on: a fourth
# would end in a norm without gradient, which distributed training refuses. Drop path as in the authors' training on
# ImageNet, and in mmdet's PVT.
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='CycleMLP',
        arch='b1',
        drop_path_rate=0.1,
        out_indices=(1, 2, 3)),
    neck=dict(in_channels=[128, 320, 512], start_level=0))
