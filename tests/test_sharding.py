"""Runs of two processes under FSDP2 against one process; gloo stands in for NCCL."""

import os
import socket

import pytest
import torch

from mmcyclemlp.checkpoints import read_checkpoint
from mmcyclemlp.engine import ConsoleRunner, runner
from mmcyclemlp.engine.sharding import is_sharded

from .soak.kills import differences, end, log, start, write_config

pytestmark = pytest.mark.slow
OPTIONS = """
optim_wrapper = dict(clip_grad=dict(max_norm=0.1))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
"""
SHARDED = f"""{OPTIONS}
train_dataloader = dict(batch_size=8)
model_wrapper_cfg = dict(type='FSDP2')
"""


def run_two(folder, *args):
    """Statuses of two processes of one training, each of which fails if its weights are not divided."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])

    def prepare(rank):
        names = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=2, MASTER_PORT=port, MASTER_ADDR='127.0.0.1')
        os.environ.update({name: str(value) for name, value in names.items()})
        before = ConsoleRunner.call_hook

        def call_hook(self, name, **kwargs):
            if name == 'before_train':
                assert is_sharded(self.model) and is_sharded(self.model.backbone.stages[0][0])
                part = self.model.head.fc.weight
                assert (part.shape[0], part.to_local().shape[0]) == (10, 5)
            before(self, name, **kwargs)

        ConsoleRunner.call_hook = call_hook

    processes = [start(folder, [*args, '--launcher', 'pytorch'], lambda rank=rank: prepare(rank)) for rank in (0, 1)]
    return [end(process) for process in processes]


def test_sharded_processes_train_and_resume_as_one(tmp_path):
    base = write_config(tmp_path, 'plain')
    for name, text in (('one.py', OPTIONS), ('two.py', SHARDED)):
        (tmp_path / name).write_text(f"_base_ = '{base}'\n{text}")
    assert end(start(tmp_path, ['one.py', '--deterministic', '--work-dir', 'one'])) == 0, log(tmp_path)
    assert run_two(tmp_path, 'two.py', '--deterministic', '--work-dir', 'two') == [0, 0], log(tmp_path)
    one, two = (read_checkpoint(tmp_path / name / 'epoch_3.pth') for name in ('one', 'two'))
    # Sums in another order: 1e-7 here, of weights up to 1.
    assert all((two['state_dict'][key] - value).abs().max() < 1e-6 for key, value in one['state_dict'].items())
    states = [checkpoint['optimizer']['state'] for checkpoint in (one, two)]
    for number, state in states[0].items():
        assert all(torch.allclose(states[1][number][key], value, atol=1e-7) for key, value in state.items())
    (tmp_path / 'again').mkdir()
    for name in ('curves.csv', 'epoch_1.pth', 'epoch_2.pth'):
        (tmp_path / 'again' / name).write_bytes((tmp_path / 'two' / name).read_bytes())
    assert run_two(tmp_path, 'two.py', '--deterministic', '--work-dir', 'again', '--resume') == [0, 0], log(tmp_path)
    found = differences(tmp_path / 'two', tmp_path / 'again')
    assert [each for each in found if not each.startswith('files')] == []  # of the best checkpoints, one was not copied


def test_sharding_with_averaged_weights_is_refused(tmp_path):
    def prepare():
        runner.is_sharded = lambda model: True

    assert end(start(tmp_path, [write_config(tmp_path, 'ema')], prepare)) == 2
    assert 'error: FSDP2 cannot copy a model for EMAHook; leave the hook or model_wrapper_cfg out' in log(tmp_path)
