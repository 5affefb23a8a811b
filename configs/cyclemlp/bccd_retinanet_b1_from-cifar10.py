# Starts from what `python tools/study.py cifar10-short` leaves behind.
_base_ = 'bccd_retinanet_b1.py'
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/studies/cifar10-short/CycleMLP-B1/seed0/epoch_3.pth',
            prefix='backbone.')))
