"""A study of two tiny systems, as a file."""

import yaml

from .helpers import REPO

PUBLISHED = REPO / 'docs' / 'results' / 'seed'
EPOCHS = 4
TINY = f"""
_base_ = '{REPO}/configs/cyclemlp/digits_b1.py'
model = dict(
    backbone=dict(arch=dict(_delete_=True, depths=(1, ), embed_dims=(8, ), mlp_ratios=(2, )), out_indices=(0, )),
    head=dict(in_channels=8))
train_dataloader = dict(batch_size=8, dataset=dict(indices=320))
val_dataloader = dict(dataset=dict(indices=40))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True)]
default_hooks = dict(logger=dict(interval=10))
"""
RUNS = [
    dict(name='narrow', config='cifar10_tiny.py'),
    dict(name='wide steps', config='cifar10_tiny.py', options={'model.backbone.kernel_size': 5}),
]


def write_study(folder, **changes):
    """A study of two tiny systems on the digits; their config's name says cifar10, whose published curve is there."""
    (folder / 'cifar10_tiny.py').write_text(TINY)
    content = dict(title='two tiny systems', image_size=32, epochs=EPOCHS, runs=RUNS)
    path = folder / 'tiny.yml'
    path.write_text(yaml.safe_dump({key: value for key, value in {**content, **changes}.items() if value is not None}))
    return path
