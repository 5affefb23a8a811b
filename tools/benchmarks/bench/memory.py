"""What a call takes of memory: its peak, and what a forward pass keeps for the backward pass."""
from typing import Callable, Dict, Iterable

import torch
from torch import Tensor


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Bytes a call holds at its peak beyond what was allocated before it (weights, input, optimiser's state).

    On CUDA from the allocator's statistics; on a CPU from the allocations and releases of PyTorch's allocator
    as its profiler records them, in which memory that libraries take for themselves (oneDNN) does not count.
    """
    if device.type == 'cuda':
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.autograd.profiler.profile(profile_memory=True) as profiler:
        call()
    events = [event for event in profiler.kineto_results.events() if event.name() == '[memory]']
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def saved_bytes(forward: Callable[[], object], parameters: Iterable[Tensor]) -> int:
    """Bytes that a forward pass keeps for the backward pass, each storage once, parameters left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    storages: Dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        # It stays alive with the graph, so no address is used twice. Detached, it does not hold the graph.
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward()
    del output
    return sum(storages.values())
