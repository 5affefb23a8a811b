"""The shell scripts that start several processes, as a user calls them."""

import multiprocessing
import os
import re
import socket
import subprocess
import sys

import pytest
import torch

from .helpers import REPO, call_tool, read_table
from .small_runs import TINY, metrics, script


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
    """A folder with tiny.py and the work dir `two` of a run of its two epochs in two processes."""
    folder = tmp_path_factory.mktemp('launchers')
    (folder / 'tiny.py').write_text(TINY)
    options = '--cfg-options', 'train_dataloader.batch_size=8'
    output = script(folder, 'dist_train.sh', 'tiny.py', 2, '--work-dir', 'two', *options).stdout
    assert output.count('Checkpoint: ') == 1
    return folder


@pytest.mark.slow
def test_two_processes_train_as_one(trained, tool):
    assert tool(trained, 'train.py', 'tiny.py', '--work-dir', 'one')[0] == 0
    one, two = (read_table(trained / f'{name}/curves.csv') for name in ('one', 'two'))
    assert [row['epoch'] for row in two] == ['1', '2']
    # Two processes of batch 8 see the samples of one of batch 16, and average their gradients to the same.
    for a, b in zip(one, two):
        assert float(a['test loss']) == pytest.approx(float(b['test loss']), rel=1e-3)
        assert float(a['train loss']) == pytest.approx(float(b['train loss']), rel=1e-3)


@pytest.mark.parametrize(
    'name, args',
    [
        ('dist_train.sh', []),
        ('dist_train.sh', ['tiny.py']),
        ('dist_train.sh', ['tiny.py', 'two']),
        ('dist_test.sh', ['tiny.py', 'epoch_1.pth']),
        ('dist_test.sh', ['tiny.py', 'epoch_1.pth', '0']),
        ('slurm_train.sh', ['part', 'job']),
        ('slurm_test.sh', ['part', 'job', 'tiny.py']),
    ],
)
def test_wrong_calls_of_the_scripts_show_their_usage(name, args):
    done = subprocess.run([REPO / 'tools' / name, *args], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ''
    assert re.match(rf'usage: .*{name} .*CONFIG', done.stderr) and len(done.stderr.splitlines()) == 1


@pytest.fixture
def arguments(tmp_path):
    """A program that prints its arguments one a line."""
    path = tmp_path / 'srun'
    path.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    path.chmod(0o755)
    return path


OPTIONS = ['--cfg-options', 'a=[1, 2]', 'b=x y']  # with spaces, which must not part


@pytest.mark.parametrize(
    'name, args, tool_args, env, options',
    [
        ('dist_train.sh', ['c.py', '2'], ['train.py', 'c.py'], {}, ['--standalone']),
        ('dist_test.sh', ['c.py', 'e.pth', '2'], ['test.py', 'c.py', 'e.pth'], {}, ['--standalone']),
        ('dist_train.sh', ['c.py', '2'], ['train.py', 'c.py'], dict(PORT='1234'), ['--master_port', '1234']),
        (
            'dist_train.sh',
            ['c.py', '2'],
            ['train.py', 'c.py'],
            dict(NNODES='3', NODE_RANK='1', MASTER_ADDR='first'),
            ['--nnodes', '3', '--node_rank', '1', '--master_addr', 'first'],
        ),
    ],
)
def test_dist_scripts_call_torchrun(arguments, name, args, tool_args, env, options):
    done = subprocess.run(
        [REPO / 'tools' / name, *args, *OPTIONS],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, 'PYTHON': str(arguments), **env},
    )
    given = done.stdout.splitlines()
    assert given[0].endswith('/tools/launch.py') and given[given.index('--nproc_per_node') + 1] == '2'
    assert ' '.join(options) in ' '.join(given)
    start = next(i for i, argument in enumerate(given) if argument.endswith(f'/tools/{tool_args[0]}'))
    assert given[start + 1 :] == [*tool_args[1:], '--launcher', 'pytorch', *OPTIONS]


@pytest.mark.parametrize(
    'name, args', [('slurm_train.sh', ['train.py', 'c.py']), ('slurm_test.sh', ['test.py', 'c.py', 'e.pth'])]
)
def test_slurm_scripts_call_srun(arguments, name, args):
    env = dict(PATH=f'{arguments.parent}:{os.environ["PATH"]}', GPUS='4', SRUN_ARGS='--time 1:00 --qos high')
    done = subprocess.run(
        [REPO / 'tools' / name, 'part', 'job', *args[1:], *OPTIONS],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **env},
    )
    given = done.stdout.splitlines()
    assert given[:8] == ['--partition', 'part', '--job-name', 'job', '--ntasks', '4', '--ntasks-per-node', '4']
    assert '--gres gpu:4' in ' '.join(given) and '--time 1:00 --qos high' in ' '.join(given)
    start = next(i for i, argument in enumerate(given) if argument.endswith(f'/tools/{args[0]}'))
    assert given[start + 1 :] == [*args[1:], '--launcher', 'slurm', *OPTIONS]


@pytest.mark.parametrize(
    'name, value', [('GPUS', 'two'), ('GPUS', '0'), ('GPUS_PER_NODE', '-1'), ('CPUS_PER_TASK', '2.5')]
)
def test_a_wrong_number_for_slurm_is_told_in_a_sentence(name, value):
    done = subprocess.run(
        [REPO / 'tools/slurm_train.sh', 'part', 'job', 'c.py'],
        capture_output=True,
        text=True,
        env={**os.environ, 'PATH': '/usr/bin:/bin', name: value},
    )
    assert done.returncode == 2 and done.stdout == ''
    assert done.stderr == f"error: {name} expects a whole number from 1 up, got '{value}'; correct it\n"


@pytest.mark.slow
def test_two_slurm_tasks_test_as_one_process(trained, tool, tmp_path, monkeypatch):
    """Forked, which saves two starts; with an scontrol that knows their host."""
    args = trained, 'test.py', 'tiny.py', 'two/epoch_2.pth'
    expected = metrics(tool(*args)[1])
    (tmp_path / 'scontrol').write_text('#!/bin/sh\n[ "$3" = nodes ] && echo 127.0.0.1\n')
    (tmp_path / 'scontrol').chmod(0o755)
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    environment = dict(SLURM_NTASKS='2', SLURM_JOB_NODELIST='nodes', MASTER_PORT=str(port), OMP_NUM_THREADS='1')
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')

    def task(i):
        os.environ.update(environment, SLURM_PROCID=str(i), SLURM_LOCALID=str(i))
        torch.set_num_threads(1)
        with open(tmp_path / f'{i}.txt', 'w') as sys.stdout:
            call_tool(monkeypatch, *args, '--launcher', 'slurm')

    tasks = [multiprocessing.get_context('fork').Process(target=task, args=(i,)) for i in range(2)]
    for each in tasks:
        each.start()
    for each in tasks:
        each.join(120)
    assert [each.exitcode for each in tasks] == [0, 0]
    first, second = (metrics((tmp_path / f'{i}.txt').read_text()) for i in range(2))
    assert first == expected and set(expected) == {'accuracy/top1', 'cross_entropy/mean'} and second == {}
