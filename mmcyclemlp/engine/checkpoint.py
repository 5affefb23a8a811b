"""Checkpoints that a kill leaves whole, and runs that end with one."""

import os
import re
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional

import torch
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop

from mmcyclemlp.errors import InputError, RunStopped
from mmcyclemlp.files import written_whole

STOPPED = 'stopped.pth'
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # the last is what Slurm is told to warn with
AGAIN = 2  # seconds after which a signal is a second one; launchers pass on what the terminal sends, too


def progress(runner) -> int:
    """Epochs or iterations done, whichever the run counts."""
    return runner.iter if isinstance(runner.train_loop, IterBasedTrainLoop) else runner.epoch


def _forked() -> None:
    """Take SIGTERM in a child as before the run: a pool, such as that of mmdet's VOCMetric, ends its processes by it.
    They may be waiting for a lock then, where no handler in Python is called for sure."""
    if signal.SIGTERM in _before:
        signal.signal(signal.SIGTERM, _before[signal.SIGTERM])


_before: Dict[int, Any] = {}  # how signals were taken before a run listened to them
if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_forked)


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook that removes a file only after the one in its place is whole.

    Each checkpoint notes up to where the run is validated, its processes and its batch. One with a weight that is not
    finite is not written.
    """

    def before_train(self, runner) -> None:
        super().before_train(runner)
        for key, path in list(self._bests().items()):
            path = os.path.join(self.out_dir, os.path.basename(path or ''))
            self._set_best(key, path if os.path.isfile(path) else None)  # of another work dir, it is left alone
        if progress(runner) > 0:
            done = progress(runner)
            last = os.path.join(self.out_dir, self.filename_tmpl.format(done))
            self.last_ckpt = last if os.path.isfile(last) else None
            # What a kill kept from being removed.
            for old in runner.message_hub.runtime_info.get('old_ckpt_ids', ()):
                self._remove(os.path.join(self.out_dir, self.filename_tmpl.format(old)))
            kinds = '|'.join(re.escape(key.replace('/', '_')) for key in getattr(self, 'key_indicators', ()))
            for path in Path(self.out_dir).glob('best_*.pth'):
                found = re.fullmatch(rf'best_(?:{kinds})_(?:epoch|iter)_(\d+)\.pth', path.name)
                if found and int(found[1]) < done and str(path) not in self._bests().values():
                    self._remove(str(path))

    def after_val_epoch(self, runner, metrics: Optional[Dict[str, float]] = None) -> None:
        runner.message_hub.update_info('scored', progress(runner))
        absent = [key for key in getattr(self, 'key_indicators', ()) if key != 'auto' and key not in (metrics or {})]
        if absent and metrics:  # mmdet's metrics give nothing where nothing was found, as after a first epoch
            raise InputError(
                f'default_hooks.checkpoint.save_best is {absent[0]}, but the validation gave {", ".join(metrics)}; set '
                'it to one of these, or to None, and go on by --resume'
            )
        super().after_val_epoch(runner, metrics or {})

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        weights = checkpoint['state_dict'].items()
        bad = [name for name, value in weights if isinstance(value, torch.Tensor) and not value.isfinite().all()]
        if bad:
            raise InputError(
                f'the weights are not finite after iteration {runner.iter + 1} ({bad[0]} and {len(bad) - 1} more), and '
                f'were not saved; {_advice(runner)}'
            )
        checkpoint['meta'].update(run_of(runner))

    def _bests(self) -> Dict[str, Optional[str]]:
        return getattr(self, 'best_ckpt_path_dict', None) or {'': getattr(self, 'best_ckpt_path', None)}

    def _save_best_checkpoint(self, runner, metrics: Dict[str, float]) -> None:
        before = dict(self._bests())
        for key in before:  # hidden, so that mmengine does not remove them first
            self._set_best(key, None)
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            for key, old in before.items():
                new = self._bests()[key]
                if new is None:
                    self._set_best(key, old)
                elif old and old != new:
                    self._remove(old)

    def _set_best(self, key: str, path: Optional[str]) -> None:
        if key:
            self.best_ckpt_path_dict[key] = path
        else:
            self.best_ckpt_path = path

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        """As mmengine's, in another order: write, note, remove."""
        removed = []
        if self.max_keep_ckpts > 0:
            if step not in self.keep_ckpt_ids:
                removed = [self.keep_ckpt_ids[0]] if len(self.keep_ckpt_ids) == self.max_keep_ckpts else []
                self.keep_ckpt_ids.append(step)  # which drops the first of a full deque
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
            runner.message_hub.update_info('old_ckpt_ids', removed)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        if is_main_process():
            with written_whole(Path(runner.work_dir) / 'last_checkpoint') as temporary:
                temporary.write_text(self.last_ckpt)
        for old in removed:
            self._remove(self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old)))
        self._remove(os.path.join(runner.work_dir, STOPPED))

    def _remove(self, path: str) -> None:
        if is_main_process() and self.file_backend.isfile(path):
            self.file_backend.remove(path)


def run_of(runner) -> Dict[str, int]:
    """Number of processes, and images of one iteration in all of them."""
    batch = getattr(runner.train_loop.dataloader.batch_sampler, 'batch_size', None) or 1
    return dict(processes=get_world_size(), batch=batch * get_world_size())


def _advice(runner) -> str:
    last = runner.message_hub.runtime_info.get('last_ckpt')
    rate = runner.optim_wrapper.get_lr()['lr'][0]
    return (
        f'the learning rate was {rate:.3g}: lower it, or clip gradients by optim_wrapper.clip_grad.max_norm; '
        f'{f"the last good checkpoint is {last}" if last else "no checkpoint was saved yet"}'
    )


@HOOKS.register_module()
class EndHook(Hook):
    """Ends a run that is told to stop, after its iteration and with a checkpoint; and one whose loss is not finite.

    Raises:
        RunStopped: after SIGTERM, Ctrl-C or SIGUSR1, in all processes once any of them got it. During a validation of
            several processes, at the end of it. A second signal ends the process at once.
        InputError: the loss of any process is not finite, or an epoch has no batch.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self._signal, self._since, self._batches = 0, 0.0, 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals until the block ends."""
        process, before = os.getpid(), _before

        def take(number: int, frame: Any) -> None:
            if os.getpid() != process:  # a child; what comes from the terminal is its parent's matter
                if number == signal.SIGTERM:
                    _forked()
                    os.kill(os.getpid(), number)
                return
            if not self._signal:
                self._signal, self._since = number, time.monotonic()
            elif time.monotonic() - self._since > AGAIN:
                os._exit(128 + number)

        try:
            for number in SIGNALS:
                before[number] = signal.signal(number, take)
        except ValueError:  # not the main thread
            pass
        try:
            yield
        finally:
            while before:
                signal.signal(*before.popitem())

    def before_train(self, runner) -> None:
        loader = runner.train_loop.dataloader
        if not isinstance(runner.train_loop, IterBasedTrainLoop) and len(loader) == 0:
            raise InputError(
                f'expected batches to train on, but of {len(loader.dataset):,} images there is none, with '
                f'batch_size={loader.batch_sampler.batch_size} and drop_last={loader.batch_sampler.drop_last}; '
                'set a smaller batch_size, or drop_last=False'
            )

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner._resume:
            self._batches = checkpoint.get('meta', {}).get('batches', 0)

    def after_train_epoch(self, runner) -> None:
        self._batches = 0

    def after_train_iter(self, runner, batch_idx: int, data_batch: Any = None, outputs: Optional[dict] = None) -> None:
        self._batches += 1
        loss = torch.as_tensor((outputs or {}).get('loss', 0.0)).item()
        number, lost = self._agreed(int(not abs(loss) < float('inf')))
        if lost:
            raise InputError(f'the loss is {loss} in iteration {runner.iter + 1}; {_advice(runner)}')
        by_epoch = not isinstance(runner.train_loop, IterBasedTrainLoop)
        if number and not (by_epoch and self._batches == len(runner.train_loop.dataloader)):  # else at its end
            self._stop(runner, number, runner.iter + 1, self._batches if by_epoch else 0)

    def before_val(self, runner) -> None:
        number, _ = self._agreed(0)
        if number:
            self._stop(runner, number, runner.iter, 0)

    def after_val_iter(self, runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        # Several processes may have different numbers of batches, and would wait for one another forever.
        if self._signal and get_world_size() == 1:
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook.after_val_epoch(runner)  # which puts the weights that are trained back
            self._stop(runner, self._signal, runner.iter, 0)

    def _agreed(self, lost: int):
        flags = torch.tensor([self._signal, lost])
        all_reduce(flags, 'max')
        return flags.tolist()

    def _stop(self, runner, number: int, done: int, batches: int) -> None:
        meta = dict(epoch=runner.epoch, iter=done, batches=batches)
        runner.save_checkpoint(runner.work_dir, STOPPED, meta=meta, by_epoch=False)
        raise RunStopped(number, f'{runner.work_dir}/{STOPPED}')


class Obedient:
    """``worker_init_fn`` by which SIGTERM ends a worker only if its parent sent it.

    Slurm, systemd and ``pkill`` signal all processes of a run at once. PyTorch's workers would end, and their parent
    with an error before it has saved.
    """

    def __init__(self, before: Optional[Callable[[int], None]]):
        self.before = before

    def __call__(self, worker_id: int) -> None:
        if self.before is not None:
            self.before(worker_id)
        if hasattr(signal, 'sigwaitinfo'):  # which tells the sender; a Mac has none
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Thread(target=_wait_for, args=(os.getppid(),), daemon=True).start()


def _wait_for(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
