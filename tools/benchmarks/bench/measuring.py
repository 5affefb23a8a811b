"""A group: candidates at one task, first checked against float64, then timed in turns."""

import gc
import random
import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from statistics import median
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from .rows import WRONG, Row

Call = Callable[[], object]
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
MIN_ROUNDS = {'cpu': 5, 'cuda': 3}  # on CUDA a turn gives several samples
MAX_TURNS = 3  # of a fast candidate in one round
# What a library raises where it cannot run a call: out of memory, no kernel for the dtype, an image of another size.
FAILURES = (RuntimeError, AssertionError, ValueError)
FACTOR = 2.0  # of the definition's own error in the same dtype
FLOOR = 1e-5  # long float32 sums in another order differ by a few 1e-6; a wrong element in a thousand by 3e-2


class Expected:
    """What a candidate's tensors should be; each may be off by ``FACTOR`` times what the definition is in its dtype,
    by ``FLOOR`` or by one rounding to the dtype. The error of a few numbers is a matter of chance, so n numbers may be
    off by ``1 + 2 / sqrt(n)`` times as much."""

    def __init__(self, exact: Sequence[Tensor], same_dtype: Sequence[Tensor], dtype: torch.dtype):
        self.tensors = [tensor.detach() for tensor in exact]  # float64
        floor = max(torch.finfo(dtype).eps / 2, FLOOR)
        self.bounds = [
            max(FACTOR * (1 + 2 / max(right.numel(), 1) ** 0.5) * relative_error(value, right), floor)
            for value, right in zip(same_dtype, exact)
        ]

    def check(self, tensors: Sequence[Tensor]) -> Tuple[float, bool]:
        """The relative error of a candidate's tensors as one vector, and whether each by itself keeps to its bound."""
        assert len(tensors) == len(self.tensors)
        errors = [relative_error(value, right) for value, right in zip(tensors, self.tensors)]
        squares = [torch.linalg.vector_norm(right).item() ** 2 for right in self.tensors]
        together = (sum(error**2 * square for error, square in zip(errors, squares)) / sum(squares)) ** 0.5
        return together, all(error <= bound for error, bound in zip(errors, self.bounds))


@dataclass
class Candidate:
    """One way to do a group's task."""

    name: str  # how tables call it
    call: Optional[Call] = None  # what is timed
    check: Optional[Callable[[], Tuple[float, bool]]] = None  # against float64; None where nothing agrees with it
    saved: Optional[Callable[[], int]] = None  # bytes kept for the backward pass
    gflop: Optional[Callable[[], float]] = None  # arithmetic of the call
    reason: Optional[str] = None  # why it cannot run here; then the rest is left out
    may_fail: bool = False  # a failure of the call is a finding, not a fault of the run
    images: bool = True  # whether the call handles the group's batch


@dataclass
class Settings:
    """How a tool measures: ``seconds`` and a few rounds a group at least, or a number of rounds; 0 times nothing."""

    device: torch.device
    dtype: str
    threads: int
    seconds: float
    rounds: Optional[int] = None


def relative_error(value: Tensor, reference: Tensor) -> float:
    """``|value - reference| / |reference|`` in the 2-norm; not a number counts as infinite."""
    if value.shape != reference.shape:
        return float('inf')
    difference = torch.linalg.vector_norm(value.detach().double() - reference)
    error = (difference / torch.linalg.vector_norm(reference)).item()
    return error if error == error else float('inf')


def clock(settings: Settings, mode: str) -> Callable[[Call], List[float]]:
    """A function that warms a call up, runs it for one turn and returns samples in ms, the device's work included."""
    if settings.device.type == 'cpu':
        return lambda call: [1e3 * Timer('f()', globals={'f': call}, num_threads=settings.threads).timeit(1).mean]
    from triton.testing import do_bench, do_bench_cudagraph

    if mode == 'graph':
        return partial(do_bench_cudagraph, rep=5, return_mode='all')
    return partial(do_bench, warmup=10, rep=50, return_mode='all')


def interleave(
    calls: Dict[str, Call],
    first: Dict[str, float],
    measure: Callable[[Call], List[float]],
    seconds: float,
    rounds: Optional[int] = None,
    min_rounds: int = 5,
) -> Dict[str, List[float]]:
    """Samples in ms of calls in rounds of shuffled order, so that what else the machine does falls on all alike.

    ``first`` is about how many ms each takes; one much faster than the slowest gets several turns a round.
    """
    slowest = max(first.values())
    turns = [name for name, ms in first.items() for _ in range(max(1, min(MAX_TURNS, int(slowest / max(ms, 1e-6)))))]
    samples: Dict[str, List[float]] = {name: [] for name in calls}
    order = random.Random(0)
    gc.collect()
    start, done = time.perf_counter(), 0
    while done < rounds if rounds else done < min_rounds or time.perf_counter() - start < seconds:
        order.shuffle(turns)
        for name in turns:
            samples[name] += measure(calls[name])
        done += 1
    return samples


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Bytes a call holds at its peak beyond what was allocated before it (weights, input, optimiser's state).

    On a CPU as the profiler sees PyTorch's allocator; what libraries (oneDNN) take for themselves does not count.
    """
    if device.type == 'cuda':
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() - before
    with torch.autograd.profiler.profile(profile_memory=True) as profiler:
        call()
    events = (event for event in profiler.kineto_results.events() if event.name() == '[memory]')
    held = accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(0, *held, 0)


def measure(base: Row, candidates: List[Candidate], settings: Settings) -> List[Row]:
    """Check the candidates, then time those that passed; a row each, in their order."""
    time_call = clock(settings, base.mode)
    rows = {candidate.name: replace(base, candidate=candidate.name) for candidate in candidates}
    calls, first = {}, {}
    for candidate in candidates:
        row = rows[candidate.name]
        try:
            if candidate.reason is not None:
                row.status = f'skipped: {candidate.reason}'
                continue
            row.error, agrees = candidate.check() if candidate.check else (None, True)
            if not agrees:
                row.status = WRONG
                continue
            candidate.call()
            row.peak_mib = peak_bytes(candidate.call, settings.device) / 2**20
            row.saved_mib = candidate.saved and candidate.saved() / 2**20
            row.gflop = candidate.gflop and candidate.gflop()
            if settings.rounds != 0:
                first[row.candidate] = median(time_call(candidate.call))
                calls[row.candidate] = candidate.call
        except FAILURES as error:
            # A vertical bar would end the cell of a table.
            line = (str(error).strip().splitlines() or ['no message'])[0][:200].replace('|', '/')
            row.status = f'{"cannot run" if candidate.may_fail else "failed"}: {type(error).__name__}: {line}'
            row.peak_mib = row.saved_mib = row.gflop = None
    times = (
        interleave(calls, first, time_call, settings.seconds, settings.rounds, MIN_ROUNDS[settings.device.type])
        if calls
        else {}
    )
    for candidate in candidates:
        if candidate.name in times:
            row, samples = rows[candidate.name], times[candidate.name]
            row.q20_ms, row.median_ms, row.q80_ms = map(float, np.percentile(samples, [20, 50, 80]))
            row.samples = len(samples)
            row.images_per_s = base.batch / row.median_ms * 1e3 if candidate.images else None
    return list(rows.values())
