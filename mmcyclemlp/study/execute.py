"""Runs the trainings of a study one after the other, each with tools/train.py in its own process."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Callable, Dict, Iterator, List, TextIO

from mmcyclemlp.errors import InputError
from mmcyclemlp.files import make_folder

from .plan import Run, Study
from .record import FAILED, FINISHED, STARTED, RunFolder

POLL_SECONDS = 0.2


def run_study(
    study: Study, work_dir: Path, train: Path, environment: Dict[str, str], say: Callable[[str], None] = print
) -> List[Run]:
    """Run what is not finished yet.

    Finished runs are kept. An interrupted run resumes from its newest whole checkpoint. If a run fails, it is reported,
    and the others continue.

    Args:
        study (Study): the plan.
        work_dir (Path): gets a folder for each run.
        train (Path): tools/train.py.
        environment (dict[str, str]): of the training processes.
        say (Callable): takes lines of progress.

    Returns:
        list[Run]: those that failed.

    Raises:
        InputError: the work dir is in use, or holds runs with other settings.
    """
    failed = []
    with _locked(work_dir) as lock:
        folders = [RunFolder(run, work_dir) for run in study.runs]
        for folder in folders:
            folder.check()
        for number, folder in enumerate(folders, 1):
            label = f'[{number}/{len(folders)}] {folder.run.title}:'
            if folder.state == FINISHED:
                say(f'{label} finished before')
                continue
            ahead = folders[number - 1 :]
            code = _train(folder, ahead, train, environment, lock, lambda line: say(f'{label} {line}'))  # noqa: B023
            ended_early = folder.epochs < folder.run.epochs  # as an EarlyStoppingHook has it
            if code == 0 and (folder.has_checkpoint or not ended_early):
                folder.write(FINISHED, folder.seconds)
                if ended_early:
                    say(f'{label} ended well after epoch {folder.epochs} of {folder.run.epochs}')
                continue
            folder.write(FAILED, folder.seconds)
            failed.append(folder.run)
            log = folder.path / 'console.log'
            lines = log.read_text(errors='replace').split('\n') if log.is_file() else []
            last = next((line.strip() for line in reversed(lines) if line.strip()), 'no output')
            reason = f'killed by signal {-code}' if code < 0 else f'exit code {code}'
            say(f'{label} FAILED ({reason}): {last}; all of its output is in {log}')
    return failed


def _train(
    folder: RunFolder,
    ahead: List[RunFolder],
    train: Path,
    environment: Dict[str, str],
    lock: TextIO,
    say: Callable[[str], None],
) -> int:
    """Train to the end and tell of each epoch; returns the exit code, negative for a signal."""
    run, resumes = folder.run, folder.start()
    if folder.epochs == run.epochs:  # stopped after the last epoch, before its state was noted
        return 0
    before, told = folder.seconds, folder.epochs
    say(f'{f"epochs {told + 1} to" if told else "training"} {run.epochs}{"" if told else " epochs"}')
    command = [sys.executable, str(train), str(run.path), '--work-dir', str(folder.path), '--seed', str(run.seed)]
    command += ['--amp'] if run.amp else []
    command += ['--resume'] if resumes else []
    command += ['--cfg-options', *(f'{key}={value}' for key, value in run.options.items())] if run.options else []
    start = time.monotonic()
    with (folder.path / 'console.log').open('a') as log:
        # The process inherits the lock: should it outlive the study, nothing else trains in its folder.
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(lock.fileno(),),
            env=environment,
            start_new_session=True,
        )
        try:
            code = None
            while code is None:
                time.sleep(POLL_SECONDS)
                code = process.poll()
                if folder.epochs > told:
                    told = folder.epochs
                    folder.write(STARTED, before + time.monotonic() - start)
                    say(_progress(folder, ahead))
            return code
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
            # PyTorch's loading processes do not end with a training that is killed while their pipe is full.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _progress(folder: RunFolder, ahead: List[RunFolder]) -> str:
    """A line on the last epoch of a run, and the time left for it and those after it.

    A run that has not started yet is assumed to be as fast as this one.
    """
    ahead = [each for each in ahead if each.state != FINISHED]
    rates = [each.seconds / each.epochs if each.epochs else folder.seconds / folder.epochs for each in ahead]
    left = sum(rate * (each.run.epochs - each.epochs) for rate, each in zip(rates, ahead))
    row = folder.curves()[-1]
    accuracy = f'test accuracy {100 * row["test accuracy"]:.2f} %, ' if 'test accuracy' in row else ''
    return (
        f'epoch {folder.epochs} of {folder.run.epochs}, {accuracy}{folder.seconds / folder.epochs:.1f} s an epoch; '
        f'the study ends in about {timedelta(seconds=round(left))}'
    )


@contextlib.contextmanager
def _locked(work_dir: Path) -> Iterator[TextIO]:
    """Hold the work dir's lock; InputError if another process does."""
    make_folder(work_dir, '--work-dir')
    with (work_dir / '.lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f'a study, or a run that it left behind, is still training in {work_dir}; wait for it or end it, or '
                'give another --work-dir'
            ) from error
        yield lock
