"""What a call takes of memory, and how much arithmetic it does."""
from typing import Callable, Dict, Iterable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count


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


class _Flops(TorchDispatchMode):
    """PyTorch's counter hooks into all modules, and layers that somebody listens to take their slower form."""

    total = 0
    known = {**flop_registry, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:
             lambda q, k, v, *_, out_val=None, **__: sdpa_flop_count(q.shape, k.shape, v.shape)}
    if hasattr(torch.ops.mkldnn, '_linear_pointwise'):
        known[torch.ops.mkldnn._linear_pointwise] = lambda x, *_, out_val, **__: 2 * x.numel() * out_val.shape[-1]

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if function._overloadpacket in self.known:
            self.total += self.known[function._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def gflop_of(call: Callable[[], object]) -> float:
    """Floating point operations of a call's products and convolutions, in 10^9; a multiply-add counts as two.

    What is not known, such as a deformable convolution, is not in it.
    """
    with torch.no_grad(), _Flops() as counter:
        call()
    return counter.total / 1e9
