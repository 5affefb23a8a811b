# The twin of ../cyclemlp/bccd_retinanet_b1_from-cifar10.py.
_base_ = 'bccd_retinanet_r18.py'
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/studies/cifar10-short/ResNet-18/seed0/epoch_3.pth',
            prefix='backbone.')))
