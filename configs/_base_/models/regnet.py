_base_ = 'mmpretrain::_base_/models/regnet/regnetx_400mf.py'
model = dict(head=dict(num_classes=10, topk=(1, )))
