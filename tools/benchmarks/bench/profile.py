"""Where the time of a call goes, operator by operator, and how much arithmetic it does."""
from typing import Callable, List, Tuple

import torch
from torch.autograd import DeviceType
from torch.utils.flop_counter import FlopCounterMode

RUNS = 5
LARGEST = 9  # operators named; the others are summed up
OTHERS = 'all others'


def operators_ms(call: Callable[[], object]) -> List[Tuple[str, float, int]]:
    """Time inside each operator, those it calls left out, in ms a call, the largest first; and its number of calls.

    On CUDA it is the time of the kernels that an operator launches. The profiler itself takes some time for each
    operator, so the sum is above what the call takes alone.
    """
    on_cuda = torch.cuda.is_available()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA][:1 + on_cuda]
    for _ in range(2):
        call()
    with torch.profiler.profile(activities=activities, acc_events=True) as profiler:
        for _ in range(RUNS):
            call()
        if on_cuda:
            torch.cuda.synchronize()
    key = 'self_device_time_total' if on_cuda else 'self_cpu_time_total'
    # Kernels are listed beside the operators that launch them, with the same time.
    found = sorted(((event.key, getattr(event, key) / 1e3 / RUNS, event.count // RUNS)
                    for event in profiler.key_averages() if event.device_type == DeviceType.CPU),
                   key=lambda entry: -entry[1])
    found = [(name if len(name) < 60 else 'compiled graph', ms, calls) for name, ms, calls in found if ms > 0]
    rest = found[LARGEST:]
    return found[:LARGEST] + [(OTHERS, sum(ms for _, ms, _ in rest), sum(calls for *_, calls in rest))]


def gflop_of(call: Callable[[], object]) -> float:
    """Floating point operations of a call's products and convolutions, in 10^9; a multiply-add counts as two.

    What PyTorch's counter does not know, such as a deformable convolution, is not in it.
    """
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9
