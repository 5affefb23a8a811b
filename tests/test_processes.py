"""Runs of several processes against one; gloo stands in for NCCL."""

import json
import os
import signal
import socket
import subprocess
import time

import pytest
import torch

from mmcyclemlp.checkpoints import read_checkpoint
from mmcyclemlp.cli import test, train
from mmcyclemlp.engine import ConsoleRunner, RandomStatesHook, runner
from mmcyclemlp.engine.sharding import is_sharded

from .helpers import REPO
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


def together(folder, number, args, prepare=lambda rank: None, main=train.main):
    """Start processes of one command."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])

    def prepared(rank):
        names = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=number, MASTER_PORT=port, MASTER_ADDR='127.0.0.1')
        os.environ.update({name: str(value) for name, value in names.items()})
        prepare(rank)

    args = [*args, '--launcher', 'pytorch']
    return [start(folder, args, lambda rank=rank: prepared(rank), main) for rank in range(number)]


def unequal(*work_dirs):
    """What separates two work dirs, but for names of files: of the configs, and of best checkpoints not copied."""
    return [each for each in differences(*work_dirs) if not each.startswith('files')]


@pytest.fixture(scope='module')
def one(tmp_path_factory):
    """Folder of a run of one process, ``one``, of the config ``one.py``."""
    folder = tmp_path_factory.mktemp('processes')
    (folder / 'one.py').write_text(f"_base_ = '{write_config(folder, 'plain')}'\n{OPTIONS}")
    assert end(start(folder, ['one.py', '--deterministic', '--work-dir', 'one'])) == 0, log(folder)
    return folder


def test_three_processes_have_the_metrics_of_one(one):
    args = ['one.py', 'one/epoch_3.pth', '--out']  # of 359 images, which three processes cannot divide evenly
    assert end(start(one, [*args, 'of-one.json'], main=test.main)) == 0, log(one)
    processes = together(one, 3, [*args, 'of-three.json'], main=test.main)
    assert [end(process) for process in processes] == [0, 0, 0], log(one)
    expected, found = (json.loads((one / f'of-{name}.json').read_text()) for name in ('one', 'three'))
    assert found['accuracy/top1'] == expected['accuracy/top1']
    assert found['cross_entropy/mean'] == pytest.approx(expected['cross_entropy/mean'], rel=1e-6)


def test_a_process_that_hangs_ends_the_others_in_time(one):
    def prepare(rank):
        def hang(self, runner, batch_idx, data_batch=None):
            if rank == 1 and runner.iter == 2:
                time.sleep(600)

        RandomStatesHook.before_train_iter = hang

    processes = together(one, 2, ['one.py', '--work-dir', 'hung', '--timeout', '5'], prepare)
    try:
        assert end(processes[0], within=120) == 2
    finally:
        os.kill(processes[1], signal.SIGKILL)
        os.waitpid(processes[1], 0)
    assert 'error: another process did not answer (--timeout 5), or ended; all are ended; --resume goes on' in log(one)


def test_a_run_that_fails_is_started_again_and_goes_on(one):
    imports = "['mmcyclemlp.engine', 'mmcyclemlp.datasets.digits', 'fails_once']"
    (one / 'failing.py').write_text(f"_base_ = 'one.py'\ncustom_imports = dict(imports={imports})\n")
    (one / 'fails_once.py').write_text("""
import os
from mmcyclemlp.engine import RandomStatesHook
before = RandomStatesHook.before_train_iter
def before_train_iter(self, runner, batch_idx, data_batch=None):
    if runner.iter == 9 and not os.path.exists('failed'):
        open('failed', 'w').close()
        os._exit(1)
    before(self, runner, batch_idx, data_batch)
RandomStatesHook.before_train_iter = before_train_iter
""")
    args = ['failing.py', '1', '--deterministic', '--work-dir', 'again']
    env = {**os.environ, 'MAX_RESTARTS': '1', 'PYTHONPATH': f'{one}:{os.environ.get("PYTHONPATH", "")}'}
    done = subprocess.run(
        [REPO / 'tools/dist_train.sh', *args], cwd=one, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0 and (one / 'failed').exists(), done.stdout + done.stderr
    assert 'resumed epoch: 2, iter: 8' in done.stdout + done.stderr  # from the start, it would end the same
    assert unequal(one / 'one', one / 'again') == []


def check_division(rank):
    """Fail in the first iteration unless each process has a part of the weights."""
    before = ConsoleRunner.call_hook

    def call_hook(self, name, **kwargs):
        if name == 'before_train':
            assert is_sharded(self.model) and is_sharded(self.model.backbone.stages[0][0])
            part = self.model.head.fc.weight
            assert (part.shape[0], part.to_local().shape[0]) == (10, 5)
        before(self, name, **kwargs)

    ConsoleRunner.call_hook = call_hook


def test_sharded_processes_train_and_resume_as_one(one):
    (one / 'two.py').write_text(f"_base_ = 'one.py'\n{SHARDED}")
    args = ['two.py', '--deterministic', '--work-dir']
    processes = together(one, 2, [*args, 'two'], check_division)
    assert [end(process) for process in processes] == [0, 0], log(one)
    whole, shards = (read_checkpoint(one / name / 'epoch_3.pth') for name in ('one', 'two'))
    # Sums in another order: 1e-7 here, of weights up to 1.
    assert all((shards['state_dict'][key] - value).abs().max() < 1e-6 for key, value in whole['state_dict'].items())
    states = [checkpoint['optimizer']['state'] for checkpoint in (whole, shards)]
    for number, state in states[0].items():
        assert all(torch.allclose(states[1][number][key], value, atol=1e-7) for key, value in state.items())
    (one / 'resumed').mkdir()
    for name in ('curves.csv', 'epoch_1.pth', 'epoch_2.pth'):
        (one / 'resumed' / name).write_bytes((one / 'two' / name).read_bytes())
    processes = together(one, 2, [*args, 'resumed', '--resume'], check_division)
    assert [end(process) for process in processes] == [0, 0], log(one)
    assert unequal(one / 'two', one / 'resumed') == []


def test_sharding_with_averaged_weights_is_refused(tmp_path):
    def prepare():
        runner.is_sharded = lambda model: True

    assert end(start(tmp_path, [write_config(tmp_path, 'ema')], prepare)) == 2
    assert 'error: FSDP2 cannot copy a model for EMAHook; leave the hook or model_wrapper_cfg out' in log(tmp_path)
