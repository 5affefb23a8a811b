"""Runs that are interrupted and resumed; the long form of it is `make soak`."""

import multiprocessing
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import zipfile

import pytest
import torch
from mmengine.runner import ValLoop

from mmcyclemlp.checkpoints import read_checkpoint
from mmcyclemlp.checks import newest_checkpoint
from mmcyclemlp.engine import EndHook, RandomStatesHook, checkpoint
from mmcyclemlp.errors import InputError
from mmcyclemlp.files import claim

from .helpers import REPO
from .small_runs import Line, runner
from .soak.kills import differences, end, killed_in_write, log, start, write_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
    """Folder, work dir and arguments of a run of a config that was never interrupted, made once."""
    folder, done = tmp_path_factory.mktemp('straight'), {}

    def run(name):
        if name not in done:
            done[name] = write_config(folder, name)
            assert end(start(folder, [done[name], '--deterministic', '--work-dir', name])) == 0, log(folder)
        return folder, folder / name, [done[name], '--deterministic', '--work-dir']

    return run


@pytest.mark.parametrize(
    'name, number, when',
    [('all', 4, 'half'), ('accumulated', 4, 'half'), ('early', 7, 'after'), ('iterations-workers', 9, 'before')],
)
def test_a_killed_run_ends_as_one_that_never_stopped(straight, name, number, when):
    folder, whole, args = straight(name)
    work_dir = f'{name}-{number}'
    assert end(start(folder, [*args, work_dir], killed_in_write(number, when))) == -signal.SIGKILL, log(folder)
    assert end(start(folder, [*args, work_dir, '--resume'])) == 0, log(folder)
    assert differences(whole, folder / work_dir) == []


def signal_all(number):
    processes = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    subprocess.run(['kill', f'-{number}', *map(str, processes)], check=True)


def told_to_stop(number):
    """Send a signal to this process and those that load its data in its sixth iteration, the second of the second
    epoch, from another process, as Slurm does."""

    def prepare():
        before = RandomStatesHook.before_train_iter

        def sixth(self, runner, batch_idx, data_batch=None):
            if runner.iter == 5:
                signal_all(number)
            before(self, runner, batch_idx, data_batch)

        RandomStatesHook.before_train_iter = sixth

    return prepare


@pytest.mark.parametrize('name', ['all', 'accumulated', 'early'])
def test_a_run_that_is_told_to_stop_saves_and_goes_on_within_the_epoch(straight, name):
    number = signal.SIGTERM
    folder, whole, args = straight(name)
    assert end(start(folder, [*args, 'stopped'], told_to_stop(number))) == 128 + number, log(folder)
    assert f'stopped by {number.name}; saved to {folder}/stopped/stopped.pth, and --resume goes on' in log(folder)
    assert read_checkpoint(folder / 'stopped/stopped.pth')['meta']['iter'] == 6
    for _ in range(1 if name == 'all' else 2):  # a run that ended early has nothing to do the second time
        assert end(start(folder, [*args, 'stopped', '--resume'])) == 0, log(folder)
        assert differences(whole, folder / 'stopped') == []
    shutil.rmtree(folder / 'stopped')


def test_a_run_that_has_reached_its_threshold_stays_ended(straight):
    folder, whole, args = straight('threshold')
    assert sorted(path.name for path in whole.glob('epoch_*')) == ['epoch_1.pth']
    shutil.copytree(whole, folder / 'ended')
    assert end(start(folder, [*args, 'ended', '--resume'])) == 0, log(folder)
    assert differences(whole, folder / 'ended') == []


def told_to_stop_in_validation():
    """Send SIGTERM to this process in the validation after the second epoch, before its first batch."""
    before = ValLoop.run_iter

    def run_iter(self, index, batch):
        if self.runner.epoch == 2 and index == 0:
            signal_all(signal.SIGTERM)
        before(self, index, batch)

    ValLoop.run_iter = run_iter


def test_a_signal_in_a_validation_is_obeyed_after_its_iteration(straight):
    folder, whole, args = straight('all')
    assert end(start(folder, [*args, 'validated'], told_to_stop_in_validation)) == 143, log(folder)
    assert len((folder / 'validated/curves.csv').read_text().splitlines()) == 2  # the names, and the first epoch
    assert read_checkpoint(folder / 'validated/stopped.pth')['meta']['epoch'] == 2
    assert end(start(folder, [*args, 'validated', '--resume'])) == 0, log(folder)
    assert differences(whole, folder / 'validated') == []
    shutil.rmtree(folder / 'validated')


def test_a_damaged_checkpoint_is_passed_over_in_favour_of_an_older_one(straight):
    folder, whole, args = straight('all')
    shutil.copytree(whole, folder / 'damaged')
    with zipfile.ZipFile(folder / 'damaged/epoch_3.pth') as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
    data = bytearray((folder / 'damaged/epoch_3.pth').read_bytes())
    lengths = struct.unpack_from('<HH', data, largest.header_offset + 26)  # of its name and its padding
    data[largest.header_offset + 30 + sum(lengths)] ^= 1
    (folder / 'damaged/epoch_3.pth').write_bytes(data)
    assert end(start(folder, [*args, 'damaged', '--resume'])) == 0, log(folder)
    assert 'epoch_3.pth is damaged: the checksum of' in log(folder)
    assert differences(whole, folder / 'damaged') == []


def test_a_run_resumed_elsewhere_leaves_the_first_alone_and_tells_what_changed(straight):
    folder, whole, args = straight('all')
    before = {path.name: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    checkpoint = read_checkpoint(whole / 'epoch_2.pth')
    (best,) = whole.glob('best_*.pth')
    # The best of the first run would be replaced, and removed.
    checkpoint['message_hub']['runtime_info'].update(best_score=-1.0, best_ckpt=str(best))
    torch.save(checkpoint, folder / 'low.pth')
    changed = ['--resume', 'low.pth', '--cfg-options', 'train_dataloader.batch_size=8']
    assert end(start(folder, [*args, 'elsewhere', *changed])) == 0, log(folder)
    assert 'resumed with 8 images in an iteration instead of 16' in log(folder)
    assert before == {path.name: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    assert (folder / 'elsewhere/epoch_3.pth').exists() and list((folder / 'elsewhere').glob('best_*_3.pth'))


def test_a_loss_that_is_not_finite_ends_the_run(straight):
    folder, _, args = straight('all')
    assert end(start(folder, [*args, 'lost', '--cfg-options', 'optim_wrapper.optimizer.lr=1e30'])) == 2, log(folder)
    last = log(folder).splitlines()[-1]
    assert last.startswith('error: the loss is nan in iteration ') and 'the learning rate was 1e+30: lower it' in last
    assert not list((folder / 'lost').glob('*.pth'))


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    class Broken(RandomStatesHook):
        def after_train_epoch(self, runner):
            if runner.epoch == 1:
                runner.model.w.data.fill_(float('nan'))

    Broken.priority = 'VERY_HIGH'
    with pytest.raises(InputError, match=r'weights are not finite .* \(w and 0 more\).*the last good .*epoch_1.pth'):
        runner(tmp_path, Line(), epochs=3, hooks=[Broken()]).train()
    assert newest_checkpoint(tmp_path)[0].name == 'epoch_1.pth'
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1.pth']


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    written = []

    def full(file):
        written.append(file)
        if len(written) > 2:  # a checkpoint and its note
            raise OSError(28, 'No space left on device')

    monkeypatch.setattr('mmcyclemlp.files.os.fsync', full)
    with pytest.raises(InputError, match=r'could not write .*epoch_2.pth \(No space left on device\); check'):
        runner(tmp_path, Line(), epochs=3).train()
    assert newest_checkpoint(tmp_path)[0].name == 'epoch_1.pth'
    assert not list(tmp_path.glob('.*.pth'))


@pytest.mark.parametrize('iterations', [5, 10**9])
def test_more_iterations_than_there_are_data_are_refused(tmp_path, iterations):
    runner(tmp_path, Line()).train()
    content = read_checkpoint(tmp_path / 'epoch_1.pth')
    content['meta']['iter'] = iterations
    torch.save(content, tmp_path / 'forged.pth')
    resumed = runner(tmp_path, Line(), epochs=3, load_from=tmp_path / 'forged.pth', resume=True)
    resumed.give(read_checkpoint(tmp_path / 'forged.pth'))
    if iterations == 5:
        resumed.train()
    else:
        with pytest.raises(InputError, match=r'said to hold 1,000,000,000 iterations in 1 epochs'):
            resumed.train()


def test_a_state_of_something_else_is_refused(tmp_path):
    runner(tmp_path, Line()).train()
    content = dict(read_checkpoint(tmp_path / 'epoch_1.pth'), optimizer=dict(param_groups='x'), message_hub={})
    resumed = runner(tmp_path, Line(), epochs=3, load_from=tmp_path / 'epoch_1.pth', resume=True)
    resumed.give(content)
    with pytest.raises(InputError, match=r'epoch_1.pth holds a state from which this run cannot be resumed'):
        resumed.train()


@pytest.mark.parametrize('first, second, absent', [('AdamW', 'SGD', 'dampening'), ('SGD', 'AdamW', 'betas')])
def test_the_state_of_another_optimizer_is_refused(tmp_path, first, second, absent):
    runner(tmp_path, Line(), optimizer=first).train()
    path = tmp_path / 'epoch_1.pth'
    for optimizer in (first, second):
        resumed = runner(tmp_path, Line(), epochs=2, load_from=path, resume=True, optimizer=optimizer)
        resumed.give(read_checkpoint(path))
        if optimizer == first:
            resumed.train()
            continue
        with pytest.raises(InputError, match=rf'holds .* another optimizer, without the {absent} of {second};'):
            resumed.train()


def test_weights_of_which_none_fits_are_refused(tmp_path):
    begun = runner(tmp_path, Line(), load_from=tmp_path / 'other.pth')
    begun.give(dict(state_dict={'w': torch.zeros(7), 'v': torch.zeros(1)}), strict=False)
    with pytest.raises(InputError, match=r'none of .*other.pth \(w, v\) fits the model of the config \(w\)'):
        begun.train()


def test_a_work_dir_is_held_by_one_process_and_freed_by_its_death(tmp_path):
    half = tmp_path / f'.{"0" * 32}.pth'
    child = os.fork()
    if not child:
        claim(tmp_path)
        half.touch()
        (tmp_path / 'claimed').touch()
        time.sleep(60)
        os._exit(0)
    while not (tmp_path / 'claimed').exists():
        time.sleep(0.01)
    with pytest.raises(InputError, match='another training writes to'):
        claim(tmp_path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    claim(tmp_path)
    assert not half.exists()  # what it left half-written
    with pytest.raises(InputError, match=r'claimed cannot be used \(.*\); give another by --work-dir'):
        claim(tmp_path / 'claimed')


def test_a_second_signal_ends_the_process_at_once(monkeypatch):
    ended, now = [], [100.0]
    monkeypatch.setattr(checkpoint.os, '_exit', ended.append)
    monkeypatch.setattr(checkpoint.time, 'monotonic', lambda: now[0])
    before = signal.getsignal(signal.SIGTERM)
    with EndHook().listening():
        for after in (0, 1, 5):  # a launcher passes the first on within a second
            now[0] += after
            signal.raise_signal(signal.SIGTERM)
            assert ended == ([143] if after == 5 else [])
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_pool_of_a_metric_ends_its_processes():
    # mmdet's VOCMetric starts one. It ends them by SIGTERM, of which they inherit how the run takes it.
    code = """
from multiprocessing import Pool
from mmcyclemlp.engine.checkpoint import EndHook
with EndHook().listening():
    for _ in range(10):
        with Pool(4) as pool:
            pool.map(abs, [1, 2])
"""
    subprocess.run([sys.executable, '-c', code], cwd=REPO, check=True, timeout=60)


@pytest.mark.parametrize(
    'variables, sentence',
    [
        (dict(NNODES='two'), "NNODES expects a whole number, got 'two'"),
        (dict(NNODES='2', NODE_RANK='2'), 'NODE_RANK expects 0 to NNODES - 1 = 1, got 2'),
        (dict(PORT='http'), "PORT expects a whole number, got 'http'"),
        (dict(MAX_RESTARTS='-1'), "MAX_RESTARTS expects a whole number, got '-1'"),
    ],
)
def test_wrong_variables_of_the_scripts_are_told(variables, sentence):
    done = subprocess.run(
        [REPO / 'tools/dist_train.sh', 'a.py', '2'], env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.startswith(f'error: {sentence}; correct ') and done.stderr.count('\n') == 1


@pytest.mark.parametrize('nodes, reason', [('1', 'address already in use'), ('2', '1/2 clients joined')])
def test_a_port_in_use_and_a_missing_machine_end_in_a_sentence(tmp_path, nodes, reason):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        port = str(taken.getsockname()[1])
        if nodes == '1':
            taken.listen()
        else:
            taken.close()
        done = subprocess.run(
            [REPO / 'tools/dist_train.sh', 'none.py', '1'],
            cwd=tmp_path,
            env={**os.environ, 'NNODES': nodes, 'NODE_RANK': '0', 'PORT': port, 'NODE_TIMEOUT': '2'},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 2
    assert done.stderr.startswith('error: the processes could not be brought together') and reason in done.stderr
    assert done.stderr.count('\n') == 1 and 'check that PORT is free' in done.stderr


def test_an_input_error_of_two_processes_is_told_once(tmp_path):
    done = subprocess.run(
        [REPO / 'tools/dist_train.sh', 'none.py', '2'], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2
    assert done.stderr == 'error: expected a config, but none.py does not exist; check the path\n'
