# As CIFAR-10. Mean and deviation are ImageNet's, which STL-10's images were taken from.
_base_ = 'cifar10.py'
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
train_dataloader = dict(dataset=dict(type='STL10', data_root='data/stl10'))
val_dataloader = dict(dataset=dict(type='STL10', data_root='data/stl10'))
test_dataloader = val_dataloader
