# ResNet-18 with ImageNet's stem and stride 32, also on small images: what the study compared with.
_base_ = 'mmpretrain::_base_/models/resnet18.py'
model = dict(head=dict(num_classes=10, topk=(1, )))
