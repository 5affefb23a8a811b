"""A group: candidates at one task, first checked against float64, then timed in turns."""
import gc
import random
import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from statistics import median
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from mmcyclemlp.errors import InputError

from . import environment
from .memory import peak_bytes
from .rows import WRONG, Row

Call = Callable[[], object]
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
MIB = 2**20
MAX_TURNS = 3  # of a fast candidate in one round
# What a library raises where it cannot run a call: out of memory, no kernel for the dtype, an image of another size.
FAILURES = (RuntimeError, AssertionError, ValueError)
FACTOR = 2.  # of the definition's own error in the same dtype
# Long float32 sums in another order, of gradients over all positions say, differ by a few 1e-6; a wrong element in
# a thousand by 3e-2.
FLOOR = 1e-5


class Expected(NamedTuple):
    """What a candidate's tensors should be, and how far off the definition is in the candidate's dtype."""
    tensors: List[Tensor]  # float64
    reference_errors: List[float]
    floor: float  # no tensor is asked to be closer: FLOOR, or one rounding to the dtype


class Check(NamedTuple):
    """The relative error of a candidate's tensors as one vector, and whether each by itself keeps to its bound."""
    error: float
    agrees: bool


@dataclass
class Candidate:
    """One way to do a group's task."""
    name: str  # how tables call it
    call: Optional[Call] = None  # what is timed
    check: Optional[Callable[[], Check]] = None  # against float64; None where nothing agrees with it
    saved: Optional[Callable[[], int]] = None  # bytes kept for the backward pass
    gflop: Optional[Callable[[], float]] = None  # arithmetic of the call
    reason: Optional[str] = None  # why it cannot run here; then the rest is left out
    may_fail: bool = False  # a failure of the call is a finding, not a fault of the run
    images: bool = True  # whether the call handles the group's batch


@dataclass
class Settings:
    """How a tool measures: at least ``seconds`` and a few rounds a group, or a number of rounds; 0 times nothing."""
    device: torch.device
    dtype: str
    threads: int
    seconds: float
    rounds: Optional[int] = None


def relative_error(value: Tensor, reference: Tensor) -> float:
    """``|value - reference| / |reference|`` in the 2-norm; not a number counts as infinite."""
    if value.shape != reference.shape:
        return float('inf')
    reference = reference.double()
    error = (torch.linalg.vector_norm(value.detach().double() - reference) / torch.linalg.vector_norm(reference)).item()
    return error if error == error else float('inf')


def expect(reference: Sequence[Tensor], same_dtype: Sequence[Tensor], dtype: torch.dtype) -> Expected:
    """From the definition in float64 and in the candidates' dtype."""
    errors = [relative_error(value, exact) for value, exact in zip(same_dtype, reference)]
    return Expected([tensor.detach() for tensor in reference], errors, max(torch.finfo(dtype).eps / 2, FLOOR))


def check(tensors: Sequence[Tensor], expected: Expected) -> Check:
    """Each tensor may be off by ``FACTOR`` times what the definition is, or by the floor."""
    assert len(tensors) == len(expected.tensors)
    errors = [relative_error(value, exact) for value, exact in zip(tensors, expected.tensors)]
    bounds = [max(FACTOR * own, expected.floor) for own in expected.reference_errors]
    squares = [torch.linalg.vector_norm(exact.double()).item()**2 for exact in expected.tensors]
    together = (sum(error**2 * square for error, square in zip(errors, squares)) / sum(squares))**0.5
    return Check(together, all(error <= bound for error, bound in zip(errors, bounds)))


def clock(settings: Settings, mode: str) -> Callable[[Call], List[float]]:
    """A function that warms a call up, runs it for one turn and returns samples in ms, the device's work included."""
    if settings.device.type == 'cpu':
        return lambda call: [1e3 * Timer('call()', globals={'call': call},
                                         num_threads=settings.threads).timeit(1).mean]
    from triton.testing import do_bench, do_bench_cudagraph
    if mode == 'graph':
        return partial(do_bench_cudagraph, rep=5, return_mode='all')
    return partial(do_bench, warmup=10, rep=50, return_mode='all')


def interleave(calls: Dict[str, Call], first: Dict[str, float], measure: Callable[[Call], List[float]], seconds: float,
               rounds: Optional[int] = None, min_rounds: int = 5) -> Dict[str, List[float]]:
    """Samples in ms of calls in rounds of shuffled order, so that what else the machine does falls on all alike.

    ``first`` is about how many ms each takes; one much faster than the slowest gets several turns a round. There are
    ``rounds``, or as many as fit into ``seconds``, but at least ``min_rounds``.
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


def check_names(names: Optional[Iterable[str]], available: Iterable[str]) -> None:
    """Accept a choice of candidates."""
    unknown = sorted(set(names or ()) - set(available))
    if unknown:
        raise InputError(f'--candidates: {unknown} take no part here; choose from {sorted(available)}')


def row_of(settings: Settings, suite: str, case: str, shape: Sequence[int], direction: str, mode: str = 'eager',
           dtype: Optional[str] = None, kernel: str = '') -> Row:
    """What the rows of a group share; the candidate is left open."""
    return Row(date=datetime.now(timezone.utc).strftime('%Y-%m-%d'), suite=suite, case=case, shape='x'.join(map(str, shape)), kernel=kernel,
               direction=direction, mode=mode, dtype=dtype or settings.dtype,
               device=environment.device_name(settings.device), device_type=settings.device.type,
               threads=settings.threads, candidate='', batch=shape[0], commit=environment.commit(),
               versions=environment.versions())


def measure(base: Row, candidates: List[Candidate], settings: Settings) -> List[Row]:
    """Check the candidates, then time those that passed; a row each, in their order."""
    time_call = clock(settings, base.mode)
    rows = {candidate.name: replace(base, candidate=candidate.name) for candidate in candidates}
    passed: Dict[str, Candidate] = {}
    first: Dict[str, float] = {}
    for candidate in candidates:
        row = rows[candidate.name]
        if candidate.reason is not None:
            row.status = f'skipped: {candidate.reason}'
            continue
        try:
            if candidate.check is not None:
                row.error, agrees = candidate.check()
                if not agrees:
                    row.status = WRONG
                    continue
            candidate.call()
            row.peak_mib = peak_bytes(candidate.call, settings.device) / MIB
            row.saved_mib = candidate.saved and candidate.saved() / MIB
            row.gflop = candidate.gflop and candidate.gflop()
            if settings.rounds != 0:
                first[candidate.name] = median(time_call(candidate.call))
            passed[candidate.name] = candidate
        except FAILURES as error:
            # A vertical bar would end the cell of a table.
            line = (str(error).strip().splitlines() or ['no message'])[0][:200].replace('|', '/')
            row.status = f'{"cannot run" if candidate.may_fail else "failed"}: {type(error).__name__}: {line}'
            row.peak_mib = row.saved_mib = row.gflop = None
    if first:
        calls = {name: candidate.call for name, candidate in passed.items()}
        samples = interleave(calls, first, time_call, settings.seconds, settings.rounds,
                             5 if settings.device.type == 'cpu' else 3)
        for name, times in samples.items():
            row = rows[name]
            row.q20_ms, row.median_ms, row.q80_ms = map(float, np.percentile(times, [20, 50, 80]))
            row.samples = len(times)
            row.images_per_s = base.batch / row.median_ms * 1e3 if passed[name].images else None
    return list(rows.values())
