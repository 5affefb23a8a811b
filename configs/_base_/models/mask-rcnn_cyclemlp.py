# Mask R-CNN on CycleMLP, with drop path as in the authors' training on ImageNet, and in mmdet's PVT.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='CycleMLP',
        arch='b1',
        drop_path_rate=0.1,
        out_indices=(0, 1, 2, 3)),
    neck=dict(in_channels=[64, 128, 320, 512]))
