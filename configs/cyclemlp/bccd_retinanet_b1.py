_base_ = '../_base_/bccd_retinanet.py'
model = dict(
    backbone=dict(_delete_=True, type='CycleMLP', arch='b1', out_indices=(1, 2, 3)),
    neck=dict(in_channels=[128, 320, 512]))
