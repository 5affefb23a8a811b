"""Configs of mmengine's newer kind, which import classes instead of naming them."""

import pytest
from mmengine.config import Config
from PIL import Image

from mmcyclemlp.config import load_config

from .helpers import read_table

BASE = """
from mmengine.hooks import CheckpointHook

default_scope = None
default_hooks = dict(checkpoint=dict(type=CheckpointHook, interval=1, save_best='accuracy/top1'))
randomness = dict(seed=0)
"""
TINY = """
from mmengine.config import read_base

with read_base():
    from .base import *

from mmcv.transforms import Resize
from mmengine.dataset import DefaultSampler
from mmengine.optim import CosineAnnealingLR, OptimWrapper
from mmpretrain.datasets.transforms import PackInputs
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import ClsDataPreprocessor, GlobalAveragePooling, ImageClassifier, LinearClsHead
from torch.optim import AdamW

from mmcyclemlp import CycleMLP
from mmcyclemlp.datasets.digits import Digits
from mmcyclemlp.engine import CurvesHook

arch = dict(depths=(1, 1), embed_dims=(8, 16), mlp_ratios=(2, 2))
data_preprocessor = dict(type=ClsDataPreprocessor, num_classes=10, mean=[78.0] * 3, std=[96.0] * 3, to_rgb=False)
model = dict(
    type=ImageClassifier,
    backbone=dict(type=CycleMLP, arch=arch, out_indices=(1,)),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=10, in_channels=16, topk=(1,)),
)
pipeline = [dict(type=Resize, scale=32), dict(type=PackInputs)]
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    dataset=dict(type=Digits, split='train', indices=64, pipeline=pipeline),
    sampler=dict(type=DefaultSampler, shuffle=True),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=0,
    dataset=dict(type=Digits, split='test', indices=33, pipeline=pipeline),
    sampler=dict(type=DefaultSampler, shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type=Accuracy, topk=(1,))
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=1e-3))
param_scheduler = [dict(type=CosineAnnealingLR, by_epoch=True)]
train_cfg = dict(by_epoch=True, max_epochs=2)
val_cfg = test_cfg = dict()
custom_hooks = [dict(type=CurvesHook)]
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('imports')
    (folder / 'base.py').write_text(BASE)
    (folder / 'tiny.py').write_text(TINY)
    return folder


def test_classes_are_put_by_their_paths_and_the_scope_by_the_model(folder):
    config = load_config(folder / 'tiny.py')
    assert config.model.backbone.type == 'mmcyclemlp.models.cyclemlp.CycleMLP'
    assert config.train_dataloader.sampler.type == 'mmengine.dataset.sampler.DefaultSampler'
    assert config.default_scope == 'mmpretrain'


@pytest.mark.slow
def test_it_is_trained_tested_and_used_as_any_other(folder, tool, monkeypatch):
    monkeypatch.setattr('mmcyclemlp.config.edits.get_device', lambda: 'cpu')
    code, output, error = tool(folder, 'train.py', 'tiny.py', '--amp')
    assert code == 0, error
    work_dir = folder / 'work_dirs/tiny'
    assert {'epoch_2.pth', 'last_checkpoint', 'curves.png'} <= {path.name for path in work_dir.iterdir()}
    (log,) = work_dir.glob('*/*.log')
    assert 'WholeCheckpointHook' in log.read_text()
    assert Config.fromfile(work_dir / 'tiny.py').optim_wrapper.type == 'CpuAmpOptimWrapper'
    last = read_table(work_dir / 'curves.csv')[-1]
    for config in ('tiny.py', work_dir / 'tiny.py'):  # as it was given, and as it was written
        code, output, error = tool(folder, 'test.py', config, work_dir / 'epoch_2.pth', '--work-dir', 'test')
        assert code == 0 and f'accuracy/top1: {100 * float(last["test accuracy"]):.4f}' in output, error
    Image.new('RGB', (20, 30)).save(folder / 'black.png')
    assert tool(folder, 'infer.py', 'tiny.py', work_dir / 'epoch_2.pth', 'black.png')[0] == 0
    more = '--cfg-options', 'train_cfg.max_epochs=3'
    code, output, error = tool(folder, 'train.py', 'tiny.py', '--resume', *more)
    assert code == 0 and [row['epoch'] for row in read_table(work_dir / 'curves.csv')] == ['1', '2', '3'], error


@pytest.mark.parametrize(
    'option, sentence',
    [
        (
            'model.backbone.archs=b2',
            'unknown to mmcyclemlp.models.cyclemlp.CycleMLP; did you mean model.backbone.arch?',
        ),
        ('optim_wrapper.optimizer.type=Adamm', 'is no registered class; did you mean Adam?'),
        (
            'model.head.num_classes=9',
            'expected as many classes of model.head as of train_dataloader.dataset, but they have 9 and 10 (0, 1, 2, ',
        ),
    ],
)
def test_it_is_checked_as_any_other(folder, tool, option, sentence):
    code, _, error = tool(folder, 'train.py', 'tiny.py', '--work-dir', 'wrong', '--cfg-options', option)
    assert code == 2 and error.startswith('error: ') and sentence in error
