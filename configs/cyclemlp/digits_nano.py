_base_ = 'digits_b1.py'
model = dict(backbone=dict(arch='nano'), head=dict(in_channels=160))
train_cfg = dict(max_epochs=60)
