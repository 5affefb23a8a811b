# UPerNet on CycleMLP, with drop path as in mmseg's UPerNet on Swin.
_base_ = 'mmseg::_base_/models/upernet_r50.py'
model = dict(
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='CycleMLP',
        arch='b2',
        drop_path_rate=0.3,
        out_indices=(0, 1, 2, 3)),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
    auxiliary_head=dict(in_channels=320))
