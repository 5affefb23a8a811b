"""Random numbers that depend on the seed, the process and the iteration alone, so that a resumed run draws the same."""

import hashlib
import random
from itertools import count
from typing import Any, Callable, Iterator, List, Optional

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import BatchSampler, get_worker_info


class _Drawn(int):
    """An index of a dataset with the seed of its item, which it carries to the process that loads it."""

    seed = 0


class _Worker:
    """``worker_init_fn`` that has the dataset of this process seed each item. Nothing of a worker's own is left in the
    stream, so that persistent, fresh and resumed workers give the same, and each epoch another."""

    def __init__(self, before: Optional[Callable[[int], None]]):
        self.before = before

    def __call__(self, worker_id: int) -> None:
        if self.before is not None:
            self.before(worker_id)
        dataset = get_worker_info().dataset
        kind = type(dataset)

        def getitem(self: Any, index: int) -> Any:
            _seed(index.seed)
            return kind.__getitem__(self, index)

        dataset.__class__ = type(kind.__name__, (kind,), {'__getitem__': getitem})


@HOOKS.register_module()
class RandomStatesHook(Hook):
    """Sets Python's, numpy's and torch's generators before each batch is loaded and before each iteration.

    No state is kept, hence none is lost: a run that is resumed in the middle of an epoch goes on with the next batch,
    and drop path, crops, mixup and workers draw what they would have drawn.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.skipped = 0  # batches of the epoch that were done before the run was resumed

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner._resume:
            self.skipped = checkpoint.get('meta', {}).get('batches', 0)

    def before_train(self, runner) -> None:
        loader = runner.train_loop.dataloader
        sampler, workers = loader.batch_sampler, loader.num_workers
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            # mmengine moves a sampler that can skip to where the run is resumed, and draws all others from their start.
            numbers = count(runner.iter if hasattr(getattr(sampler, 'sampler', None), 'skip') else 0)
        else:
            numbers = None
        kind, hook = type(sampler), self

        def batches(self: BatchSampler) -> Iterator[List[int]]:
            epoch = 0 if numbers else runner.epoch
            for number, batch in zip(numbers or count(), kind.__iter__(self)):
                if hook.skipped:
                    hook.skipped -= 1
                elif workers:
                    yield [_drawn(index, runner.seed, get_rank(), epoch, number, i) for i, index in enumerate(batch)]
                else:
                    _seed(_seed_of(runner.seed, get_rank(), epoch, number))
                    yield batch

        if hasattr(sampler, '__dict__'):
            sampler.__class__ = type(kind.__name__, (kind,), {'__iter__': batches})
            loader.worker_init_fn = _Worker(loader.worker_init_fn) if workers else None

    def before_train_iter(self, runner, batch_idx: int, data_batch: Any = None) -> None:
        _seed(_seed_of(runner.seed, get_rank(), 'iteration', runner.iter))


def _drawn(index: int, *key: Any) -> _Drawn:
    drawn = _Drawn(index)
    drawn.seed = _seed_of(*key)
    return drawn


def _seed_of(*key: Any) -> int:
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=4).digest(), 'little')


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
