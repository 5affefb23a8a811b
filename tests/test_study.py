"""tools/study.py: its runs through kills and failures, and the report it ends with."""

import multiprocessing
import os
import re
import signal
import subprocess
import time

import pytest
from PIL import Image

from mmcyclemlp.checkpoints import read_checkpoint
from mmcyclemlp.errors import InputError
from mmcyclemlp.study import load_study, run_study
from mmcyclemlp.study.execute import _locked, _progress
from mmcyclemlp.study.record import RunFolder, read_curves

from .helpers import REPO, read_table
from .small_study import EPOCHS, RUNS, write_study


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
    path = write_study(tmp_path, runs=RUNS[1:])
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
    with Image.open(out / 'cifar10.png') as image:
        assert image.width > 800 and len(image.convert('RGB').getcolors(1 << 20)) > 50


def weights(folder):
    """Number of weights in the last checkpoint of a run."""
    return sum(weight.numel() for weight in read_checkpoint(folder / f'epoch_{EPOCHS}.pth')['state_dict'].values())


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


def test_a_run_that_ends_early_and_well_is_finished(study, tmp_path):
    """As one with mmengine's EarlyStoppingHook does."""
    (tmp_path / 'stops.py').write_text(
        'import pathlib, sys\n'
        'folder = pathlib.Path(sys.argv[sys.argv.index("--work-dir") + 1])\n'
        '(folder / "curves.csv").write_text("epoch,test accuracy\\n1,0.5\\n2,0.4\\n")\n'
        '(folder / "epoch_2.pth").touch()\n'
    )
    lines = []
    assert run_study(study, tmp_path, tmp_path / 'stops.py', dict(os.environ), lines.append) == []
    assert f'[1/4] narrow, seed 0: ended well after epoch 2 of {EPOCHS}' in lines
    assert run_study(study, tmp_path, tmp_path / 'no-train.py', dict(os.environ), lines.append) == []
    assert lines[-1] == '[4/4] wide steps, seed 1: finished before'
    folders = [RunFolder(run, tmp_path) for run in study.runs]
    folders[0].write('started', 1.0)
    assert _progress(folders[0], folders).endswith('ends in about 0:00:01')  # which the others do not add to


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


def test_an_interrupted_call_ends_with_the_results_so_far(tmp_path, tool, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr('mmcyclemlp.cli.study.run_study', interrupted)
    (tmp_path / 'out').mkdir()
    code, output, error = tool(write_study(tmp_path, runs=RUNS[1:]), '--work-dir', tmp_path / 'out')
    assert (code, error) == (130, 'stopped; the same command continues\n')
    assert '| wide steps (missing) |' in output
    assert {'report.md', 'runs.csv'} <= {path.name for path in (tmp_path / 'out').iterdir()}


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
