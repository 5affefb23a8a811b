"""Runs that take a second: the config of a small classifier, the tools on it, and a model of one parameter."""

import itertools
import os
import re
import subprocess
import sys

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import DataLoader

from mmcyclemlp.engine import ConsoleRunner

from .helpers import REPO

TINY = f"""
_base_ = '{REPO}/configs/cyclemlp/digits_b1.py'
model = dict(
    backbone=dict(arch=dict(_delete_=True, depths=(1, 1), embed_dims=(8, 16), mlp_ratios=(2, 2)), out_indices=(1, )),
    head=dict(in_channels=16))
train_dataloader = dict(batch_size=16, dataset=dict(indices=64))
val_dataloader = dict(dataset=dict(indices=33))
test_dataloader = dict(dataset=dict(indices=33))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True)]
train_cfg = dict(max_epochs=2)
"""
NUMBER = itertools.count()  # mmengine keeps its loggers by experiment name


def script(folder, name, *args, **env):
    """Run a tool in a process of its own, from a folder that is not the repository."""
    program = [sys.executable] if name.endswith('.py') else []
    done = subprocess.run(
        [*program, str(REPO / 'tools' / name), *map(str, args)],
        cwd=folder,
        text=True,
        capture_output=True,
        timeout=300,
        env={**os.environ, 'OMP_NUM_THREADS': '1', **env},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done


def metrics(text):
    """The metrics that tools/test.py prints."""
    return dict(re.findall(r'^(\S+/\S+): (\d+\.\d+)$', text, re.MULTILINE))


class Line(BaseModel):
    """y = w x, whose prediction is w."""

    def __init__(self, size=1):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(size))

    def forward(self, x, y, mode):
        return {'loss': ((self.w * x - y) ** 2).mean()} if mode == 'loss' else [self.w.detach().clone()]


class Weight(BaseMetric):
    """The w that predicted."""

    def process(self, data_batch, data_samples):
        self.results.append(data_samples[0].item())

    def compute_metrics(self, results):
        return {'w': results[-1]}


def runner(work_dir, model, epochs=1, hooks=(), load_from=None, resume=False, optimizer='SGD'):
    loader = DataLoader([(torch.tensor([1.0]), torch.tensor([2.0]))] * 4, 1)
    return ConsoleRunner(
        model,
        str(work_dir),
        experiment_name=f'runner{next(NUMBER)}',
        log_level='ERROR',
        randomness=dict(seed=0),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        train_dataloader=loader,
        optim_wrapper=dict(optimizer=dict(type=optimizer, lr=0.05)),
        test_cfg=dict(),
        test_dataloader=loader,
        test_evaluator=Weight(prefix=''),
        custom_hooks=list(hooks),
        load_from=load_from and str(load_from),
        resume=resume,
    )
