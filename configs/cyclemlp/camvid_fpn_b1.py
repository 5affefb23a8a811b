_base_ = '../_base_/camvid_fpn.py'
model = dict(
    backbone=dict(type='CycleMLP', arch='b1', out_indices=(0, 1, 2, 3), drop_path_rate=0.1),
    neck=dict(in_channels=[64, 128, 320, 512]))
