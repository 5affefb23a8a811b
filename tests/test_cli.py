"""tools/train.py, tools/test.py and their shell scripts, as a user calls them."""

import csv
import json
import multiprocessing
import os
import re
import shutil
import socket
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmcyclemlp.checkpoints import read_checkpoint, reading
from mmcyclemlp.cli.main import main

from .helpers import REPO, call_tool
from .small_runs import TINY

DIGITS = REPO / 'configs' / 'cyclemlp' / 'digits_b1.py'
TOOLS = REPO / 'tools'
CIFAR = REPO / 'configs' / 'cyclemlp' / 'cifar10_b1.py'


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
    """A folder with tiny.py and the work dir of a run of its two epochs."""
    folder = tmp_path_factory.mktemp('tools')
    (folder / 'tiny.py').write_text(TINY)
    (folder / 'trained.txt').write_text(script(folder, 'train.py', 'tiny.py').stdout)
    return folder


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


def read(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def metrics(text):
    """The metrics that tools/test.py prints."""
    return dict(re.findall(r'^(\S+/\S+): (\d+\.\d+)$', text, re.MULTILINE))


@pytest.mark.slow
def test_training_leaves_checkpoint_log_and_curves(trained):
    work_dir = trained / 'work_dirs' / 'tiny'
    output = (trained / 'trained.txt').read_text()
    assert f'Checkpoint: {work_dir}/epoch_2.pth' in output
    assert 'Curves: work_dirs/tiny/curves.csv and curves.png' in output
    assert 'eta: ' in output and len(output.splitlines()) < 20
    assert {'epoch_1.pth', 'epoch_2.pth', 'curves.csv', 'curves.png', 'last_checkpoint', 'tiny.py'} <= {
        path.name for path in work_dir.iterdir()
    }
    assert [row['epoch'] for row in read(work_dir / 'curves.csv')] == ['1', '2']


@pytest.mark.slow
def test_testing_repeats_the_last_validation(trained, tool):
    code, output, _ = tool(trained, 'test.py', 'tiny.py', 'work_dirs/tiny/epoch_2.pth', '--out', 'metrics.json')
    assert code == 0
    last = read(trained / 'work_dirs/tiny/curves.csv')[-1]
    found = metrics(output)
    assert float(found['accuracy/top1']) / 100 == pytest.approx(float(last['test accuracy']), abs=1e-6)
    assert float(found['cross_entropy/mean']) == pytest.approx(float(last['test loss']), abs=1e-4)
    written = json.loads((trained / 'metrics.json').read_text())
    assert {name: f'{value:.4f}' for name, value in written.items()} == found


@pytest.mark.slow
def test_a_resumed_run_ends_as_one_that_never_stopped(trained, tool):
    four = '--cfg-options', 'train_cfg.max_epochs=4'
    for args in (['--work-dir', 'straight'], ['--work-dir', 'resumed', '--resume', 'straight/epoch_3.pth']):
        assert tool(trained, 'train.py', 'tiny.py', *args, *four)[0] == 0
    straight, resumed = read(trained / 'straight/curves.csv'), read(trained / 'resumed/curves.csv')
    assert len(straight) == 4 and resumed == straight[2:]  # the validation of epoch 3 is done again


@pytest.mark.slow
def test_a_finished_run_can_be_made_longer(tmp_path, tool):
    (tmp_path / 'tiny.py').write_text(TINY)
    assert tool(tmp_path, 'train.py', 'tiny.py', '--work-dir', 'run')[0] == 0
    first = read(tmp_path / 'run/curves.csv')
    (tmp_path / 'run').rename(tmp_path / 'moved')  # last_checkpoint holds the old path
    args = 'train.py', 'tiny.py', '--work-dir', 'moved', '--resume'
    code, output, _ = tool(tmp_path, *args)
    assert code == 0 and 'epoch_2.pth has 2 of 2 epochs done: nothing is left to train; to go on, raise' in output
    assert read(tmp_path / 'moved/curves.csv') == first
    code, output, _ = tool(tmp_path, *args, '--cfg-options', 'train_cfg.max_epochs=3')
    assert code == 0
    assert "going on with the config's, at learning rate 2.500e-04" in output  # 1e-3 (1 + cos(2/3 pi)) / 2
    rows = read(tmp_path / 'moved/curves.csv')
    assert rows[:2] == first and [row['epoch'] for row in rows] == ['1', '2', '3']


@pytest.mark.slow
def test_a_seed_decides_everything(tmp_path, tool):
    (tmp_path / 'tiny.py').write_text(TINY)
    tables = []
    for i, seed in enumerate((3, 3, 4)):
        args = '--seed', seed, '--deterministic', '--work-dir', f'{i}', '--local-rank=0'
        assert tool(tmp_path, 'train.py', 'tiny.py', *args)[0] == 0
        tables.append(read(tmp_path / f'{i}/curves.csv'))
    torch.use_deterministic_algorithms(False)
    assert tables[0] == tables[1] != tables[2]


@pytest.mark.slow
def test_amp_without_a_gpu_is_bfloat16(tmp_path, tool, monkeypatch):
    (tmp_path / 'tiny.py').write_text(TINY)
    monkeypatch.setattr('mmcyclemlp.config.edits.get_device', lambda: 'cpu')
    assert tool(tmp_path, 'train.py', 'tiny.py', '--amp', '--work-dir', 'amp')[0] == 0
    assert tool(tmp_path, 'train.py', 'tiny.py', '--work-dir', 'full')[0] == 0
    assert Config.fromfile(tmp_path / 'amp/tiny.py').optim_wrapper.type == 'CpuAmpOptimWrapper'
    amp, full = (float(read(tmp_path / name / 'curves.csv')[-1]['train loss']) for name in ('amp', 'full'))
    assert amp != full and amp == pytest.approx(full, rel=0.05)


@pytest.mark.slow
def test_the_learning_rate_follows_the_batch_size(tmp_path, tool):
    (tmp_path / 'tiny.py').write_text(TINY)
    code, output, _ = tool(tmp_path, 'train.py', 'tiny.py', '--auto-scale-lr')
    assert code == 0 and 'lr: 2.5000e-04' in output  # 1e-3 for 64, here 16


def other_arch(folder):
    checkpoint = read_checkpoint(folder / 'work_dirs/tiny/epoch_2.pth')
    state = checkpoint['state_dict']
    key = 'backbone.stages.1.0.mlp.fc1.weight'
    state[key] = state[key].repeat(2, 1)
    torch.save(checkpoint, folder / 'other.pth')


def truncated(folder):
    content = (folder / 'work_dirs/tiny/epoch_2.pth').read_bytes()
    (folder / 'truncated.pth').write_bytes(content[: len(content) // 2])


def weights_only(folder):
    checkpoint = read_checkpoint(folder / 'work_dirs/tiny/epoch_2.pth')
    torch.save({'state_dict': checkpoint['state_dict']}, folder / 'weights.pth')


def no_data(folder):
    (folder / 'empty').mkdir(exist_ok=True)


def broken_image(folder):
    for split in ('train', 'test'):
        for name in 'airplane automobile bird cat deer dog frog horse ship truck'.split():
            path = folder / 'broken' / split / name / '1.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new('RGB', (32, 32)).save(path)
    path.write_bytes(path.read_bytes()[:40])


def no_batch_size(folder):
    (folder / 'no_batch_size.py').write_text(TINY + 'auto_scale_lr = dict(_delete_=True)\n')


def data_options(folder):
    return [
        '--cfg-options',
        *(
            f'{part}_dataloader.dataset.{key}'
            for part in ('train', 'val', 'test')
            for key in (f'data_root={folder}', 'download=False')
        ),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    'prepare, args, sentence',
    [
        (None, ['train.py', 'tinny.py'], r'tinny.py does not exist; did you mean tiny.py'),
        (
            None,
            ['train.py', 'tiny.py', '--cfg-options', 'train_cfg.max_epoch=5'],
            r'did you mean train_cfg.max_epochs\?',
        ),
        (None, ['train.py', 'tiny.py', '--work-dir', 'none', '--resume'], r'expects a checkpoint in none, but nothing'),
        (None, ['train.py', 'tiny.py', '--resume', 'none.pth'], r'none.pth does not exist'),
        (
            weights_only,
            ['train.py', 'tiny.py', '--resume', 'weights.pth'],
            r'weights.pth holds weights only; .*load_from',
        ),
        (truncated, ['train.py', 'tiny.py', '--resume', 'truncated.pth'], r'truncated.pth is truncated'),
        (truncated, ['train.py', 'tiny.py', '--cfg-options', 'load_from=truncated.pth'], r'truncated.pth is truncated'),
        (
            other_arch,
            ['train.py', 'tiny.py', '--resume', 'other.pth', '--cfg-options', 'train_cfg.max_epochs=4'],
            r'other.pth does not fit the model of the config',
        ),
        (
            no_batch_size,
            ['train.py', 'no_batch_size.py', '--auto-scale-lr'],
            r'auto_scale_lr=dict\(base_batch_size=N\)',
        ),
        (
            None,
            ['train.py', 'tiny.py', '--amp', '--cfg-options', 'optim_wrapper.type=ApexOptimWrapper'],
            r'--amp expects optim_wrapper.type to be OptimWrapper, but the config has ApexOptimWrapper',
        ),
        (None, ['train.py', 'tiny.py', '--launcher', 'pytorch'], r'RANK is not in the environment; start through'),
        (
            None,
            ['train.py', 'tiny.py', '--launcher', 'slurm'],
            r'SLURM_PROCID is not in the environment; start through',
        ),
        (no_data, ['train.py', CIFAR, *data_options('empty')], r'expected CIFAR-10 in .*/empty, found neither'),
        (broken_image, ['train.py', CIFAR, *data_options('broken')], r'but .*/broken/test/truck/1.png cannot be read'),
        (None, ['test.py', 'tiny.py', 'none.pth'], r'none.pth does not exist'),
        (None, ['test.py', 'work_dirs/tiny/epoch_2.pth', 'tiny.py'], r'expected a config \(.*\), got .*epoch_2.pth'),
        (truncated, ['test.py', 'tiny.py', 'truncated.pth'], r'truncated.pth is truncated'),
        (other_arch, ['test.py', 'tiny.py', 'other.pth'], r'other.pth does not fit the model of the config'),
        (None, ['test.py', DIGITS, 'work_dirs/tiny/epoch_2.pth'], r'does not fit the model of the config'),
        (
            None,
            ['test.py', 'tiny.py', 'work_dirs/tiny/epoch_2.pth', '--out', 'none/metrics.json'],
            r'none is no folder',
        ),
        (
            None,
            ['test.py', 'tiny.py', 'work_dirs/tiny/epoch_2.pth', '--work-dir', 'tiny.py'],
            r'a folder to write to, but tiny.py cannot be used \(File exists\); give another by --work-dir',
        ),
    ],
)
def test_user_errors_print_one_line_and_exit_with_status_2(trained, tool, prepare, args, sentence):
    if prepare:
        prepare(trained)
    code, _, error = tool(trained, *args)
    assert code == 2
    assert re.fullmatch(rf'error: .*{sentence}.*\n', error), error


@pytest.mark.slow
def test_the_sentence_is_all_that_a_user_sees(trained):
    done = subprocess.run(
        [sys.executable, REPO / 'tools/test.py', 'tiny.py', 'none.pth'], cwd=trained, text=True, capture_output=True
    )
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr == 'error: expected a checkpoint file, but none.pth does not exist; check the path\n'


@pytest.mark.slow
@pytest.mark.parametrize(
    'args',
    [
        ['test.py', 'tiny.py', 'URL'],
        ['train.py', 'tiny.py', '--work-dir', 'again', '--resume', 'URL', '--cfg-options', 'train_cfg.max_epochs=3'],
        ['train.py', 'tiny.py', '--work-dir', 'again', '--cfg-options', 'load_from=URL', 'train_cfg.max_epochs=1'],
    ],
)
def test_a_url_is_downloaded_once(trained, tool, monkeypatch, args):
    downloaded = []

    def download(url, path):
        downloaded.append(url)
        shutil.copy(trained / 'work_dirs/tiny/epoch_2.pth', path)

    monkeypatch.setattr(reading, 'download', download)
    url = 'https://example.org/epoch_2.pth'
    code, _, error = tool(trained, *(each.replace('URL', url) for each in args))
    assert (code, downloaded) == (0, [url]), error


@pytest.mark.slow
def test_one_command_for_all_tools(trained, monkeypatch, capsys):
    def call(*args):
        monkeypatch.setattr(sys, 'argv', ['mmcyclemlp', *args])
        try:
            return (main(), *capsys.readouterr())
        except SystemExit as stop:
            return (stop.code, *capsys.readouterr())

    monkeypatch.chdir(trained)
    code, output, _ = call('--help')
    assert code == 0 and all(f'  {name} ' in output for name in ('train', 'infer', 'scales', 'check-segmentation'))
    assert call('trian')[0] == 2
    code, output, _ = call('train', '--help')
    assert code == 0 and output.startswith('usage: mmcyclemlp train ')
    assert call('test', 'tiny.py', 'none.pth')[::2] == (
        2,
        'error: expected a checkpoint file, but none.pth does not exist; check the path\n',
    )
    code, output, _ = call('info')
    assert (
        code == 0 and f'| torch | {torch.__version__} |' in output and '| classification (mmpretrain) | yes |' in output
    )
    assert re.search("backend 'shift_gemm', the default [|] yes [|]", output)
    if not torch.cuda.is_available():
        assert '| cpu: channels moved by Triton | no: the kernel runs on CUDA devices' in output
    code, output, _ = call('subset-coco', '--help')
    assert code == 0 and output.startswith('usage: mmcyclemlp subset-coco ')


@pytest.mark.slow
@pytest.mark.parametrize('option', ['train_cfg.max_epochs', 'a=[1,2'])
def test_options_that_cannot_be_parsed(trained, tool, option):
    code, _, error = tool(trained, 'train.py', 'tiny.py', '--cfg-options', option)
    assert code == 2 and f'--cfg-options takes KEY=VALUE pairs such as train_cfg.max_epochs=5, got {option}' in error


@pytest.mark.parametrize(
    'name, options',
    [
        (
            'train.py',
            [
                'CONFIG',
                '--work-dir',
                '--resume',
                '--amp',
                '--auto-scale-lr',
                '--cfg-options',
                '--launcher',
                '--seed',
                '--deterministic',
            ],
        ),
        ('test.py', ['CONFIG', 'CHECKPOINT', '--work-dir', '--out', '--cfg-options', '--launcher']),
    ],
)
def test_help_names_every_option(tmp_path, tool, name, options):
    code, output, _ = tool(tmp_path, name, '--help')
    assert code == 0 and all(option in output for option in options)


@pytest.mark.parametrize(
    'name', sorted(str(path.relative_to(TOOLS)) for path in TOOLS.glob('*/*.py') if '__main__' in path.read_text())
)
def test_every_tool_has_help_and_refuses_what_it_does_not_know(tmp_path, tool, monkeypatch, name):
    monkeypatch.syspath_prepend(str((TOOLS / name).parent))  # as Python does it for a script
    code, output, _ = tool(tmp_path, name, '--help')
    assert code == 0 and 'usage: ' in output
    code, _, error = tool(tmp_path, name, '--no-such-option')
    assert code == 2 and 'error: ' in error


@pytest.mark.slow
def test_two_processes_on_the_cpu(trained):
    output = script(
        trained, 'dist_train.sh', 'tiny.py', 2, '--work-dir', 'two', '--cfg-options', 'train_dataloader.batch_size=8'
    ).stdout
    assert output.count('Checkpoint: ') == 1
    assert [row['epoch'] for row in read(trained / 'two' / 'curves.csv')] == ['1', '2']
    one = read(trained / 'work_dirs/tiny/curves.csv')
    two = read(trained / 'two' / 'curves.csv')
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


@pytest.mark.slow
def test_two_slurm_tasks_test_as_one_process(trained, tool, tmp_path, monkeypatch):
    """Forked, which saves two starts; with an scontrol that knows their host."""
    args = trained, 'test.py', 'tiny.py', 'work_dirs/tiny/epoch_2.pth'
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


def test_every_script_finds_the_package_of_its_checkout():
    scripts = [
        path for path in (REPO / 'tools').rglob('*.py') if re.match('#!(.|\n)*from mmcyclemlp', path.read_text())
    ]
    assert len(scripts) >= 10
    for path in scripts:
        (depth,) = re.findall(
            r'sys\.path\.insert\(0, str\(Path\(__file__\)\.resolve\(\)\.parents\[(\d)\]\)\)', path.read_text()
        )
        assert path.parents[int(depth)] == REPO
