"""tools/study.py: its plans, its runs through kills and failures, its tables and pictures."""

import multiprocessing
import os
import re
import signal
import subprocess
import time

import pytest
import yaml
from PIL import Image

from mmcyclemlp.checkpoints import read_checkpoint
from mmcyclemlp.engine import load_config
from mmcyclemlp.errors import InputError
from mmcyclemlp.study import load_study, run_study
from mmcyclemlp.study.execute import _locked, _progress
from mmcyclemlp.study.record import RunFolder, read_curves
from mmcyclemlp.study.report import read_seed
from mmcyclemlp.study.results import Result, size_of
from mmcyclemlp.study.tables import comparison, results_table

from .helpers import REPO, read_table

STUDIES = sorted((REPO / 'configs' / 'studies').glob('*.yml'))
SEED = REPO / 'docs' / 'results' / 'seed'
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
    """A study of two tiny systems on the digits; their config's name says cifar10, whose seed curve is there."""
    (folder / 'cifar10_tiny.py').write_text(TINY)
    content = dict(title='two tiny systems', image_size=32, epochs=EPOCHS, runs=RUNS)
    path = folder / 'tiny.yml'
    path.write_text(yaml.safe_dump({key: value for key, value in {**content, **changes}.items() if value is not None}))
    return path


@pytest.fixture
def tool(tool, tmp_path, monkeypatch):
    """Run the tool in this process. The training processes are its own."""
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    handler = signal.getsignal(signal.SIGTERM)
    yield lambda *args: tool(tmp_path, 'study.py', *args)
    signal.signal(signal.SIGTERM, handler)


def run_until_killed(path, out, amid):
    """Run a study whose processes are all killed, as by a machine that goes down, once ``amid`` has a row."""

    popen, training = subprocess.Popen, path.with_suffix('.pid')

    def noted(*args, **kwargs):
        process = popen(*args, **kwargs)
        training.write_text(str(process.pid))
        return process

    def child():
        os.setsid()
        os.environ['OMP_NUM_THREADS'] = '1'
        subprocess.Popen = noted
        run_study(load_study(path), out, REPO / 'tools' / 'train.py', dict(os.environ))

    process = multiprocessing.get_context('fork').Process(target=child)
    process.start()
    give_up = time.monotonic() + 120
    while not read_curves(amid) and time.monotonic() < give_up and process.is_alive():
        time.sleep(0.01)
    for group in (process.pid, int(training.read_text())):
        os.killpg(group, signal.SIGKILL)
    process.join()
    wait_until_free(out)


def wait_until_free(out):
    """Until the system has cleared away what was killed."""
    give_up = time.monotonic() + 10
    while True:
        try:
            with _locked(out):
                return
        except InputError:
            assert time.monotonic() < give_up


@pytest.mark.slow
def test_a_study_goes_on_after_a_kill(tmp_path, tool):
    """A run, killed amid its epochs; then the tool."""
    path = write_study(tmp_path, compare_with_seed=True, runs=RUNS[1:])
    out = tmp_path / 'out'
    curves = out / 'wide_steps' / 'seed0' / 'curves.csv'
    run_until_killed(path, out, curves)
    before = read_table(curves)
    assert 1 <= len(before) < EPOCHS

    code, output, error = tool(path, '--work-dir', out, '--device', 'cpu')
    assert (code, error) == (0, '')
    assert f'[1/1] wide steps, seed 0: epochs {len(before) + 1} to {EPOCHS}' in output
    assert re.search(
        rf'\[1/1\] wide steps, seed 0: epoch {EPOCHS} of {EPOCHS}, test accuracy [\d.]+ %, [\d.]+ s an '
        r'epoch; the study ends in about 0:00:00\n',
        output,
    )
    rows = read_table(curves)
    assert rows[: len(before)] == before and [int(row['epoch']) for row in rows] == list(range(1, EPOCHS + 1))

    (row,) = read_table(out / 'runs.csv')
    accuracies = [float(each['test accuracy']) for each in rows]
    assert float(row['best test accuracy']) == max(accuracies)
    assert accuracies[int(row['epoch of best']) - 1] == max(accuracies)
    assert float(row['last test accuracy']) == accuracies[-1]
    assert row['state'] == 'finished' and float(row['images/s']) > 0 and float(row['hours']) > 0
    assert 0 < float(row['share of time waiting for data']) < 1
    assert int(row['parameters']) == weights(curves.parent)

    page = (out / 'report.md').read_text()
    printed = re.findall(r'^\| .* \|$', output, re.MULTILINE)
    assert len(printed) == 3 and all(line in page for line in printed)
    assert '## wide steps, seed 0, compared with the study' in page
    assert f'{100 * accuracies[0]:.2f} | 12.24 |' in page  # the study's first epoch
    with Image.open(out / 'cifar10.png') as image:
        assert image.width > 800 and len(image.convert('RGB').getcolors(1 << 20)) > 50


def weights(folder):
    """Number of weights in the last checkpoint of a run."""
    return sum(weight.numel() for weight in read_checkpoint(folder / f'epoch_{EPOCHS}.pth')['state_dict'].values())


@pytest.mark.parametrize(
    'name, side, parameters, operations',
    [
        ('cyclemlp/cifar10_b1.py', 32, 14647530, 0.044),
        ('cyclemlp/imagenet_b1.py', 224, 15155400, 2.122),  # the authors' numbers, as the next two
        ('baselines/imagenet_resnet18.py', 224, 11689512, 1.82),
        ('baselines/imagenet_vit.py', 224, 5717416, 1.26),  # 1.08 without what attention multiplies
    ],
)
def test_sizes_are_the_published_ones(name, side, parameters, operations):
    found = size_of(load_config(REPO / 'configs' / name), side)
    assert found == (parameters, pytest.approx(1e9 * operations, rel=0.01))


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    return load_study(write_study(tmp_path_factory.mktemp('plan'), seeds=[0, 1]))


def put(folder, epochs, checkpoints=(), state='started', seconds=0.0):
    """Fill a run's folder as tools/train.py and the study do."""
    folder.path.mkdir(parents=True)
    lines = [f'{epoch},1.5,1.4,0.5,{0.1 * epoch:.3f}' for epoch in range(1, epochs + 1)]
    (folder.path / 'curves.csv').write_text(
        '\n'.join(['epoch,train loss,test loss,train accuracy,test accuracy', *lines]) + '\n'
    )
    for name in checkpoints:
        (folder.path / f'{name}.pth').write_bytes(b'')
    folder.write(state, seconds)


@pytest.mark.parametrize(
    'checkpoints, resumes', [(('epoch_2',), True), (('stopped',), True), ((), False), (('best_x',), False)]
)
def test_a_run_goes_on_where_there_is_a_checkpoint(study, tmp_path, checkpoints, resumes):
    folder = RunFolder(study.runs[0], tmp_path)
    put(folder, 2, checkpoints, seconds=60.0)
    assert RunFolder(study.runs[0], tmp_path).start() is resumes
    # What cannot be gone on from is cleared away, with the time it took.
    again = RunFolder(study.runs[0], tmp_path)
    assert (again.epochs, again.seconds) == ((2, 60.0) if resumes else (0, 0.0))


def test_a_run_killed_after_its_last_epoch_is_finished(study, tmp_path):
    lines = []
    for run in study.runs:
        put(RunFolder(run, tmp_path), EPOCHS, [f'epoch_{EPOCHS}'], seconds=5.0)
    assert run_study(study, tmp_path, tmp_path / 'no-train.py', dict(os.environ), lines.append) == [] == lines
    assert {RunFolder(run, tmp_path).state for run in study.runs} == {'finished'}
    assert run_study(study, tmp_path, tmp_path / 'no-train.py', dict(os.environ), lines.append) == []
    assert lines[-1] == '[4/4] wide steps, seed 1: finished before'


def test_other_settings_are_refused(study, tmp_path):
    put(RunFolder(study.runs[0], tmp_path), EPOCHS, state='finished')
    other = load_study(write_study(tmp_path, options={'train_dataloader.batch_size': 32}))
    with pytest.raises(
        InputError,
        match='narrow/seed0 holds the run under other settings of the study; remove it, or give another --work-dir',
    ):
        run_study(other, tmp_path, tmp_path / 'no-train.py', {})
    (tmp_path / 'narrow' / 'seed0' / 'study.json').unlink()
    with pytest.raises(InputError, match='narrow/seed0 holds no run of the study'):
        run_study(study, tmp_path, tmp_path / 'no-train.py', {})


def test_where_the_data_lie_is_no_setting(tmp_path, monkeypatch):
    path = write_study(tmp_path, runs=[dict(name='b1', config=str(REPO / 'configs/cyclemlp/cifar10_b1.py'))])
    first = load_study(path).runs[0]
    (tmp_path / 'data' / 'cifar10').mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    second = load_study(path).runs[0]
    assert second.config.train_dataloader.dataset.data_root == 'data/cifar10'
    assert first.settings == second.settings


def test_a_run_that_fails_is_named_and_the_others_go_on(study, tmp_path):
    for run in study.runs[1:]:
        put(RunFolder(run, tmp_path), EPOCHS, [f'epoch_{EPOCHS}'])
    lines = []
    (tmp_path / 'fails.py').write_text("print('much'); raise SystemExit('error: no data; give some')")
    failed = run_study(study, tmp_path, tmp_path / 'fails.py', dict(os.environ), lines.append)
    assert failed == study.runs[:1]
    log = tmp_path / 'narrow' / 'seed0' / 'console.log'
    assert lines == [
        f'[1/4] narrow, seed 0: training {EPOCHS} epochs',
        f'[1/4] narrow, seed 0: FAILED (exit code 1): error: no data; give some; all of its output is in {log}',
    ]
    assert [RunFolder(run, tmp_path).state for run in study.runs] == ['failed', *['finished'] * 3]


def test_mixed_precision_is_an_option_of_the_training_and_a_setting(study, tmp_path):
    (tmp_path / 'notes.py').write_text('import sys; print(sys.argv)')
    mixed = load_study(write_study(tmp_path, amp=True))
    for each, expected in ((study, False), (mixed, True)):
        out = tmp_path / f'amp {expected}'
        run_study(each, out, tmp_path / 'notes.py', dict(os.environ), lambda line: None)
        logs = [(out / run.folder / 'console.log').read_text() for run in each.runs]
        assert len(logs) == len(each.runs) and all(("'--amp'" in log) is expected for log in logs)
    assert study.runs[0].seed == mixed.runs[0].seed and study.runs[0].settings != mixed.runs[0].settings


def test_a_run_that_is_killed_has_failed(study, tmp_path):
    lines = []
    (tmp_path / 'dies.py').write_text('import os, signal; os.kill(os.getpid(), signal.SIGKILL)')
    assert run_study(study, tmp_path, tmp_path / 'dies.py', dict(os.environ), lines.append) == study.runs
    assert 'narrow, seed 0: FAILED (killed by signal 9): no output; all of its output is in' in lines[1]


def test_a_failure_is_the_exit_code(tmp_path, tool, monkeypatch):
    path = write_study(tmp_path)
    monkeypatch.setattr('mmcyclemlp.cli.study.run_study', lambda study, *args: study.runs[1:])
    code, output, error = tool(path, '--work-dir', tmp_path)
    assert (code, error) == (1, 'error: wide steps, seed 0 failed\n')
    assert '| narrow (missing) |' in output and (tmp_path / 'report.md').is_file()


def test_the_time_left_is_that_of_each_run(study, tmp_path):
    folders = [RunFolder(run, tmp_path) for run in study.runs]
    put(folders[1], 2, seconds=20.0)
    put(folders[3], 3, seconds=3.0)
    # Itself 2 x 10 s, the next, unknown, as fast, the last 1 x 1 s.
    assert _progress(folders[1], folders[1:]).endswith(
        'epoch 2 of 4, test accuracy 20.00 %, 10.0 s an epoch; the study ends in about 0:01:01'
    )


SLEEPER = """
import pathlib, subprocess, sys, time
stubborn = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(100)'
subprocess.Popen([sys.executable, '-c', stubborn], close_fds=False)
work_dir = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
(work_dir / 'arguments').write_text(' '.join(sys.argv))
time.sleep(100)
"""


def test_a_stopped_study_ends_its_training_and_one_at_a_time_trains(study, tmp_path, monkeypatch):
    """A process that takes its time stands for the training, with one that does not end for loading."""
    (tmp_path / 'sleeper.py').write_text(SLEEPER)
    out = tmp_path / 'out'
    arguments = out / 'narrow' / 'seed0' / 'arguments'
    processes = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, 'Popen', lambda *args, **kwargs: processes.append(popen(*args, **kwargs)) or processes[-1]
    )

    asked = []

    def stop_once_started(seconds):
        if arguments.is_file() and not asked:
            asked.append(True)
            with pytest.raises(InputError, match=f'is still training in {out}; wait for it or end it, or give another'):
                run_study(study, out, tmp_path / 'sleeper.py', dict(os.environ))
            raise KeyboardInterrupt

    monkeypatch.setattr('mmcyclemlp.study.execute.time.sleep', stop_once_started)
    with pytest.raises(KeyboardInterrupt):
        run_study(study, out, tmp_path / 'sleeper.py', dict(os.environ), lambda line: None)
    (process,) = processes
    assert process.returncode == -signal.SIGTERM
    assert f'{tmp_path}' in arguments.read_text() and '--seed 0' in arguments.read_text()
    assert f'--cfg-options train_cfg.max_epochs={EPOCHS}' in arguments.read_text()
    wait_until_free(out)


def test_every_shipped_study_can_be_read():
    names = [path.stem for path in STUDIES]
    assert {
        'cifar10-quick',
        'cifar10-literal',
        'cifar10-start',
        'cifar10-short',
        'cifar10-stem',
        'cifar10-light',
        'cifar10-strong',
        'cifar10-seed',
        'stl10-seed',
    } <= set(names)
    for path in STUDIES:
        plan = load_study(path)
        assert plan.name == path.stem and {run.dataset for run in plan.runs} == {plan.name.partition('-')[0]}
        if plan.compare_with_seed:
            assert read_seed(SEED / f'{plan.runs[0].dataset}_cyclemlp_b1.csv')


def test_the_literal_study_is_the_begin_of_the_long_schedule():
    (run,) = load_study(REPO / 'configs' / 'studies' / 'cifar10-literal.yml').runs
    assert run.epochs == 10 and run.config.param_scheduler[0].T_max == 100


def test_the_stem_study_changes_only_what_its_names_say():
    """Each run once without and once with crops and flips; nothing else differs."""
    configs = {run.name: run.config for run in load_study(REPO / 'configs' / 'studies' / 'cifar10-stem.yml').runs}
    assert len(configs) == 12
    for name, config in configs.items():
        *system, augmentation = name.split()
        crop, flip, _ = config.train_dataloader.dataset.pipeline
        assert (crop.padding, flip.prob) == ((4, 0.5) if augmentation == 'augmented' else (0, 0.0))
        crop.padding, flip.prob = None, None
        backbone = config.model.backbone
        if system != ['ResNet-18']:
            _, stride, _, kernel = system
            assert (backbone.pop('stem_stride'), backbone.pop('kernel_size')) == (int(stride), int(kernel))
    cyclemlp = {str(config.to_dict()) for name, config in configs.items() if name.startswith('stride')}
    resnet = {str(config.to_dict()) for name, config in configs.items() if name.startswith('ResNet')}
    assert (len(cyclemlp), len(resnet)) == (1, 1)
    assert len({str({**config.to_dict(), 'model': None}) for config in configs.values()}) == 1


@pytest.mark.parametrize(
    'changes, sentence',
    [
        (dict(epoch=3), r'tiny.yml has the unknown key epoch; did you mean epochs\?'),
        (dict(runs=[]), r'expected a study with a list of runs, but .*tiny.yml has none'),
        (dict(runs=[dict(name='a')]), r'a run of .*tiny.yml expects the keys config, name, but got name; add them'),
        (dict(runs=[dict(name='a', config='cifar10_tiny.py', seed=1)]), r'a run of .* the unknown key seed; it takes'),
        (
            dict(runs=[dict(name='a/b', config='cifar10_tiny.py')]),
            r"letters, digits, spaces and .* but got 'a/b'; rename",
        ),
        (dict(runs=[dict(name='a', config='cifar10_tiny.py')] * 2), r'but a/seed0 is there twice; rename one'),
        (dict(runs=[dict(name='a', config='cifar10_tinny.py')]), r'cifar10_tinny.py does not exist; did you mean'),
        (dict(options={'train_cfg.max_epoch': 1}), r'train_cfg.max_epoch is unknown to train_cfg; did you mean'),
        (
            dict(
                options={'train_cfg._delete_': True, 'train_cfg.by_epoch': False, 'train_cfg.max_iters': 5}, epochs=None
            ),
            'a study expects runs by epochs',
        ),
        (dict(image_size='large'), r"tiny.yml expects image_size to be of type int, but got 'large'; correct it"),
        (dict(amp=1), r'tiny.yml expects amp to be of type bool, but got 1'),
        (dict(seeds=0), r'tiny.yml expects seeds to be of type list, but got 0'),
    ],
)
def test_a_wrong_plan_is_refused_in_a_sentence(tmp_path, changes, sentence):
    with pytest.raises(InputError, match=sentence) as error:
        load_study(write_study(tmp_path, **changes))
    assert '\n' not in str(error.value)


def test_broken_yaml_is_refused_in_a_sentence(tmp_path):
    (tmp_path / 'broken.yml').write_text('runs: [\n')
    with pytest.raises(InputError, match=r'broken.yml is not valid YAML \(.*\); correct it') as error:
        load_study(tmp_path / 'broken.yml')
    assert '\n' not in str(error.value)
    (tmp_path / 'bytes.yml').write_bytes(b'\xff\xf0\x80')
    with pytest.raises(InputError, match='bytes.yml holds other bytes'):
        load_study(tmp_path / 'bytes.yml')


@pytest.mark.parametrize(
    'args, sentence',
    [
        (['cifar10-quik'], r'there is no study cifar10-quik in .*/configs/studies; did you mean cifar10-quick\?'),
        (['none.yml'], r'expected a study, but none.yml does not exist; check the path'),
        (['cifar10-quick', '--device', 'tpu'], r'--device expects cpu, cuda or cuda:N, but got tpu'),
        (['cifar10-quick', '--device', 'cuda:77'], r'--device cuda:77 expects 78 or more GPUs, but PyTorch sees \d+'),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(tool, tmp_path, monkeypatch, args, sentence):
    monkeypatch.chdir(tmp_path)
    code, _, error = tool(*args)
    assert code == 2 and re.fullmatch(rf'error: .*{sentence}.*\n', error)
    assert not list(tmp_path.iterdir())


def test_the_list_names_every_study(tool):
    code, output, _ = tool('--list')
    assert code == 0 and [line.split()[0] for line in output.splitlines()] == [path.stem for path in STUDIES]


def result(run, accuracies, state='finished'):
    curves = [
        {'epoch': float(i), 'train loss': 2.0, 'test loss': 2.0, 'train accuracy': 0.5, 'test accuracy': accuracy}
        for i, accuracy in enumerate(accuracies, 1)
    ]
    best = max(accuracies)
    return Result(
        run, state, curves, best, accuracies.index(best) + 1, accuracies[-1], 100.0, 0.02, 0.5, 2000000, 44000000
    )


def test_seeds_become_mean_and_deviation(study):
    narrow = [run for run in study.runs if run.name == 'narrow']
    wide = [run for run in study.runs if run.name == 'wide steps']
    table = results_table(
        [
            result(narrow[0], [0.1, 0.5, 0.4]),
            result(narrow[1], [0.3, 0.2, 0.2]),
            result(wide[0], [0.25]),
            result(wide[1], [0.9], state='failed'),
        ]
    )
    _, _, first, second = table.splitlines()
    # Best 50 and 30 %, in epochs 2 and 1; last 40 and 20 %.
    assert first == ('| narrow | 2 | 3 | 40.00 ± 14.14 | 2 ± 0.7 | 30.00 ± 14.14 | 100 | 2.0 | 0.50 | 2.00 | 0.044 |')
    assert second == ('| wide steps (failed, finished) | 1 | 1 | 25.00 | 1 | 25.00 | 100 | 2.0 | 0.50 | 2.00 | 0.044 |')


def test_epochs_are_counted_where_not_each_is_validated(study):
    rare = result(study.runs[0], [0.4])
    assert rare._replace(curves=[{**rare.curves[0], 'epoch': 10.0}]).epochs == 10
    assert rare._replace(curves=[]).epochs == 0


def test_the_seeds_epochs_count_from_zero():
    rows = read_seed(SEED / 'cifar10_cyclemlp_b1.csv')
    assert len(rows) == 100 and rows[0] == {
        'epoch': 1.0,
        'train loss': 2.349471,
        'test loss': 2.312655,
        'train accuracy': 0.10748,
        'test accuracy': 0.1224,
    }
    assert read_seed(SEED / 'imagenet_cyclemlp_b1.csv') == []


def test_the_comparison_is_epoch_by_epoch(study):
    ours = result(study.runs[0], [0.1424, 0.3026]).curves
    text = comparison(ours, read_seed(SEED / 'cifar10_cyclemlp_b1.csv'))
    lines = text.splitlines()
    assert lines[2] == '| 1 | 2.000 | 2.349 | 2.000 | 2.313 | 50.00 | 10.75 | 14.24 | 12.24 | +2.00 |'
    assert lines[3].endswith('| 30.26 | 32.26 | -2.00 |')
    assert lines[-1].startswith(
        'Mean absolute difference over 2 epochs: train accuracy: 32.37 points; test accuracy: 2.00 points'
    )
