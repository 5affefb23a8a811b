"""Times of rivals that take turns, so that whatever else the machine does falls on all of them alike."""
import gc
import random
import time
from typing import Callable, Dict, List, NamedTuple, Optional

import numpy as np
import torch

Call = Callable[[], object]

WARM_UP_SECONDS = 0.2
MIN_ROUNDS = 5
MAX_TURNS = 3  # of a fast rival in one round
FLUSH_BYTES = 256 * 2**20  # several times the second-level cache of any GPU so far


class Times(NamedTuple):
    """Median and the 20 % and 80 % quantiles of a rival's samples, in ms."""
    median: float
    q20: float
    q80: float
    samples: int


def clock(device: torch.device) -> Callable[[Call], float]:
    """A function that runs a call once and returns its time in ms, the device's work included."""
    return _CudaClock(device) if device.type == 'cuda' else _wall_clock


def _wall_clock(call: Call) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


class _CudaClock:
    """Device events around a call.

    A large buffer is overwritten first: that empties the cache of what the last sample left there, and keeps
    the device busy while the host queues the call, so that launches cost time only where they cannot keep up.
    """

    def __init__(self, device: torch.device):
        self.buffer = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=device)

    def __call__(self, call: Call) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        self.buffer.zero_()
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end)


def warm_up(call: Call, measure: Callable[[Call], float]) -> float:
    """Run a call twice at least, for a moment at least, and return the time of its last run in ms."""
    start = time.perf_counter()
    for run in range(10):
        last = measure(call)
        if run and time.perf_counter() - start > WARM_UP_SECONDS:
            break
    return last


def interleave(calls: Dict[str, Call], measure: Callable[[Call], float], seconds: float,
               rounds: Optional[int] = None) -> Dict[str, Times]:
    """Time rivals in rounds of shuffled order; a rival much faster than the slowest gets several turns a round.

    Args:
        calls (dict[str, Callable]): rival -> what it runs.
        measure (Callable): see :func:`clock`.
        seconds (float): how long to go on, warm-up apart. There are ``MIN_ROUNDS`` whatever it takes.
        rounds (int, optional): number of rounds, instead of ``seconds``.

    Returns:
        dict[str, Times]: rival -> its times.
    """
    first = {name: warm_up(call, measure) for name, call in calls.items()}
    turns = [name for name, ms in first.items() for _ in range(_turns(ms, max(first.values())))]
    samples: Dict[str, List[float]] = {name: [] for name in calls}
    order = random.Random(0)
    gc.collect()
    gc.disable()
    try:
        start, done = time.perf_counter(), 0
        while done < rounds if rounds else done < MIN_ROUNDS or time.perf_counter() - start < seconds:
            order.shuffle(turns)
            for name in turns:
                samples[name].append(measure(calls[name]))
            done += 1
    finally:
        gc.enable()
    return {name: summary(values) for name, values in samples.items()}


def _turns(ms: float, slowest: float) -> int:
    return max(1, min(MAX_TURNS, int(slowest / max(ms, 1e-6))))


def summary(milliseconds: List[float]) -> Times:
    """Median and quantiles of samples in ms."""
    q20, median, q80 = np.percentile(milliseconds, [20, 50, 80])
    return Times(float(median), float(q20), float(q80), len(milliseconds))


class Captured:
    """A call as a CUDA graph, captured when first called and replayed from then on: no launch costs in its time."""

    def __init__(self, call: Call):
        self.call = call
        self.graph: Optional[torch.cuda.CUDAGraph] = None

    def __call__(self) -> None:
        if self.graph is None:
            self.graph = self._capture()
        self.graph.replay()

    def _capture(self) -> torch.cuda.CUDAGraph:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.call()
        return graph
