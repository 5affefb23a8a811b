"""Runs that are killed, and whether they end as if they had not been.

A run is a forked copy of this process, which saves it the import of the libraries.
"""

import os
import signal
import sys
import time
import traceback
from pathlib import Path

import torch
from mmengine.utils import ManagerMixin

from mmcyclemlp.checkpoints import read_checkpoint
from mmcyclemlp.cli.train import main

from ..small_runs import TINY

BASE = f"""{TINY}
val_dataloader = dict(batch_size=16, dataset=dict(indices=33))
train_cfg = dict(max_epochs=3)
"""
MIXUP = "model = dict(train_cfg=dict(augments=dict(type='Mixup', alpha=0.8)))\n"
CROPS = "train_dataloader = dict(dataset=dict(pipeline=[dict(type='Resize', scale=36), dict(type='RandomCrop', crop_size=32), dict(type='PackInputs')]))\n"  # noqa: E501
EMA = "custom_hooks = [dict(type='CurvesHook'), dict(type='EMAHook', momentum=0.1)]\n"
EARLY = """
custom_hooks = [
    dict(type='CurvesHook'),
    dict(type='EarlyStoppingHook', monitor='cross_entropy/mean', rule='less', min_delta=9, patience=1)]
"""  # after the second epoch
BEST = "default_hooks = dict(checkpoint=dict(save_best='cross_entropy/mean', rule='less'))\n"  # each epoch's
DROP_PATH = 'model = dict(backbone=dict(drop_path_rate=0.5))\n'
ITERATIONS = """
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=12, val_interval=4)
train_dataloader = dict(sampler=dict(type='InfiniteSampler'))
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=3))
log_processor = dict(by_epoch=False)
"""


def workers(persistent):
    return f'train_dataloader = dict(num_workers=2, persistent_workers={persistent})\n'


# Name -> parts of the config, each a file that inherits from the one before.
CONFIGS = {
    'plain': [],
    'ema': [EMA],
    'amp': ["optim_wrapper = dict(type='CpuAmpOptimWrapper')\n"],
    'accumulated': ['optim_wrapper = dict(accumulative_counts=5)\n', EARLY],
    'early': [EARLY, BEST],
    'threshold': [EARLY.replace('min_delta=9', 'stopping_threshold=9'), BEST],
    'clipped': ['optim_wrapper = dict(clip_grad=dict(max_norm=0.1))\n'],
    'drop-path': [DROP_PATH],
    'mixup': [MIXUP],
    'crops': [CROPS],
    'workers': [CROPS, workers(False)],
    'persistent-workers': [CROPS, workers(True)],
    'iterations': [CROPS, DROP_PATH, ITERATIONS],
    'iterations-workers': [CROPS, ITERATIONS, workers(True)],
    'all': [CROPS, DROP_PATH, MIXUP, EMA, workers(True)],
}


def write_config(folder: Path, name: str) -> str:
    """Write a config and its bases; returns its name."""
    parts = [BASE, *CONFIGS[name]]
    for i, part in enumerate(parts):
        base = f"_base_ = '{name}-{i - 1}.py'\n" if i else ''
        (folder / f'{name}-{i}.py').write_text(base + part)
    return f'{name}-{len(parts) - 1}.py'


def start(folder: Path, args, prepare=lambda: None, main=main) -> int:
    """Start a command, training by default, from a folder after ``prepare``; returns the process."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    status = 70
    try:
        os.chdir(folder)
        log = os.open('log.txt', os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(log, stream)
        sys.stdout, sys.stderr = open(1, 'w', closefd=False), open(2, 'w', closefd=False)
        kinds = [ManagerMixin]
        for kind in kinds:
            kind._instance_dict.clear()
            kinds.extend(kind.__subclasses__())
        prepare()
        status = main([str(arg) for arg in args])
    except BaseException as error:
        traceback.print_exc()
        status = error.code if isinstance(error, SystemExit) else 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def end(process: int, within: float = 300) -> int:
    """Status of a process: 0 and up as it exited, below 0 the signal that ended it."""
    limit = time.monotonic() + within
    while time.monotonic() < limit:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    raise TimeoutError(f'a run did not end within {within} s')


def log(folder: Path) -> str:
    """The last lines that runs in a folder printed."""
    return (folder / 'log.txt').read_text()[-6000:]


def killed_in_write(number: int, when: str):
    """Kill this process in its n-th write of a file: ``half`` of it written, whole but not in place, or just after."""

    def prepare():
        count = 0
        fsync, replace = os.fsync, os.replace

        def here():
            os.kill(os.getpid(), signal.SIGKILL)

        def counted(file):
            nonlocal count
            count += 1
            if count == number and when == 'half':
                path = os.readlink(f'/proc/self/fd/{file}')
                os.truncate(path, os.path.getsize(path) // 2)
            if count == number and when in ('half', 'before'):
                here()
            fsync(file)

        def replaced(*args):
            replace(*args)
            if count == number:
                here()

        os.fsync, os.replace = counted, replaced

    return prepare


def differences(one: Path, other: Path) -> list:
    """What separates two work dirs: weights, averages, optimizer, schedule, curves, names of files."""
    found = []
    names = [{path.name for path in folder.iterdir() if path.is_file()} for folder in (one, other)]
    if names[0] != names[1]:
        found.append(f'files {sorted(names[0] ^ names[1])}')
    if (one / 'curves.csv').read_text() != (other / 'curves.csv').read_text():
        found.append('curves.csv')
    for name in sorted(names[0] & names[1]):
        if name.endswith('.pth'):
            a, b = (read_checkpoint(folder / name) for folder in (one, other))
            for key in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
                if not same(a.get(key), b.get(key)):
                    found.append(f'{key} of {name}')
    return found


def same(a, b) -> bool:
    """Whether two trees of values are equal to the bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b
