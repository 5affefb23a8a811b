"""The commands train and test, as a user calls them, and what all tools have in common."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmcyclemlp.checkpoints import read_checkpoint, reading
from mmcyclemlp.cli.main import main

from .helpers import REPO, read_table
from .small_runs import TINY, metrics, script

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
    assert [row['epoch'] for row in read_table(work_dir / 'curves.csv')] == ['1', '2']


@pytest.mark.slow
def test_testing_repeats_the_last_validation(trained, tool):
    code, output, _ = tool(trained, 'test.py', 'tiny.py', 'work_dirs/tiny/epoch_2.pth', '--out', 'metrics.json')
    assert code == 0
    last = read_table(trained / 'work_dirs/tiny/curves.csv')[-1]
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
    straight, resumed = read_table(trained / 'straight/curves.csv'), read_table(trained / 'resumed/curves.csv')
    assert len(straight) == 4 and resumed == straight[2:]  # the validation of epoch 3 is done again


@pytest.mark.slow
def test_a_finished_run_can_be_made_longer(tmp_path, tool):
    (tmp_path / 'tiny.py').write_text(TINY)
    assert tool(tmp_path, 'train.py', 'tiny.py', '--work-dir', 'run')[0] == 0
    first = read_table(tmp_path / 'run/curves.csv')
    (tmp_path / 'run').rename(tmp_path / 'moved')  # last_checkpoint holds the old path
    args = 'train.py', 'tiny.py', '--work-dir', 'moved', '--resume'
    code, output, _ = tool(tmp_path, *args)
    assert code == 0 and 'epoch_2.pth has 2 of 2 epochs done: nothing is left to train; to go on, raise' in output
    assert read_table(tmp_path / 'moved/curves.csv') == first
    code, output, _ = tool(tmp_path, *args, '--cfg-options', 'train_cfg.max_epochs=3')
    assert code == 0
    assert "going on with the config's, at learning rate 2.500e-04" in output  # 1e-3 (1 + cos(2/3 pi)) / 2
    rows = read_table(tmp_path / 'moved/curves.csv')
    assert rows[:2] == first and [row['epoch'] for row in rows] == ['1', '2', '3']


@pytest.mark.slow
def test_a_seed_decides_everything(tmp_path, tool):
    (tmp_path / 'tiny.py').write_text(TINY)
    tables = []
    for i, seed in enumerate((3, 3, 4)):
        args = '--seed', seed, '--deterministic', '--work-dir', f'{i}', '--local-rank=0'
        assert tool(tmp_path, 'train.py', 'tiny.py', *args)[0] == 0
        tables.append(read_table(tmp_path / f'{i}/curves.csv'))
    torch.use_deterministic_algorithms(False)
    assert tables[0] == tables[1] != tables[2]


@pytest.mark.slow
def test_amp_without_a_gpu_is_bfloat16(tmp_path, tool, monkeypatch):
    (tmp_path / 'tiny.py').write_text(TINY)
    monkeypatch.setattr('mmcyclemlp.config.edits.get_device', lambda: 'cpu')
    assert tool(tmp_path, 'train.py', 'tiny.py', '--amp', '--work-dir', 'amp')[0] == 0
    assert tool(tmp_path, 'train.py', 'tiny.py', '--work-dir', 'full')[0] == 0
    assert Config.fromfile(tmp_path / 'amp/tiny.py').optim_wrapper.type == 'CpuAmpOptimWrapper'
    amp, full = (float(read_table(tmp_path / name / 'curves.csv')[-1]['train loss']) for name in ('amp', 'full'))
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
    code, _, errors = call('traim')
    assert code == 2 and errors.endswith('error: traim is no command; did you mean train?\n')
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


@pytest.mark.slow
def test_the_config_of_a_run_stays_as_it_was(trained, tool):
    config = trained / 'work_dirs/tiny/tiny.py'
    before = config.read_bytes()
    code, _, _ = tool(
        trained, 'test.py', config, 'work_dirs/tiny/epoch_2.pth', '--cfg-options', 'test_dataloader.dataset.indices=16'
    )
    assert code == 0 and list((trained / 'work_dirs/tiny/test').glob('*/*.log'))
    wider = ['model.backbone.arch.embed_dims=(8,24)', 'model.head.in_channels=24', 'train_cfg.max_epochs=3']
    code, _, errors = tool(trained, 'train.py', 'tiny.py', '--resume', '--cfg-options', *wider)
    assert code == 2 and 'does not fit the model of the config' in errors
    assert config.read_bytes() == before


@pytest.mark.slow
def test_a_new_run_in_a_used_work_dir_is_warned(trained, tool, monkeypatch):
    warned = []
    monkeypatch.setattr('mmcyclemlp.cli.train.warn', warned.append)
    wrong = ['--cfg-options', 'train_dataloader.batch_size=0']  # so that nothing is trained
    assert tool(trained, 'train.py', 'tiny.py', *wrong)[0] == 2
    assert warned == [
        'work_dirs/tiny/epoch_2.pth is of an earlier run: until this one has saved its first, --resume would go on '
        'from it'
    ]
    assert tool(trained, 'train.py', 'tiny.py', '--work-dir', 'unused', *wrong)[0] == 2 and len(warned) == 1


@pytest.mark.parametrize('out, sentence', [('.', '. is a folder'), ('no/a.json', 'no is no folder; create it first')])
def test_metrics_go_to_a_file_in_a_folder(tmp_path, tool, out, sentence):
    code, _, errors = tool(tmp_path, 'test.py', DIGITS, 'none.pth', '--out', out)
    assert (code, errors) == (2, f'error: --out expects a file in an existing folder, but {sentence}\n')


def test_a_seed_is_a_number_of_32_bits(tmp_path, tool):
    code, _, errors = tool(tmp_path, 'train.py', DIGITS, '--seed', -1)
    assert (code, errors) == (2, 'error: --seed expects a whole number from 0 to 2**32 - 1, got -1\n')
