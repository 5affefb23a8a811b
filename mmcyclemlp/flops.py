"""The one counter of a network's arithmetic."""

from typing import Any, Callable, Dict

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .ops import use_backend


def count_macs(call: Callable[[], Any]) -> Dict[str, int]:
    """Multiply-adds of the matrix products and convolutions in a call: ``Global`` for all, and by module, such as
    ``ResNet.layer1``.

    CycleMLP is counted by its definition: the form in which its mixer is computed may take fewer.
    """
    # PyTorch's counter knows neither oneDNN's product with a fused activation nor its fused attention on a CPU.
    fused = getattr(torch.ops.mkldnn, '_linear_pointwise', None)
    counter = FlopCounterMode(display=False, custom_mapping={fused: _linear_flops} if fused else {})
    with torch.no_grad(), use_backend('shift_gemm'), sdpa_kernel(SDPBackend.MATH), counter:
        call()
    return {'Global': 0, **{name: sum(parts.values()) // 2 for name, parts in counter.get_flop_counts().items()}}


def count_parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _linear_flops(x_shape: Any, *shapes: Any, **kwargs: Any) -> int:
    weight_shape = shapes[0] if len(shapes[0]) == 2 else shapes[1]  # after a residual, if there is one
    return 2 * x_shape.numel() * weight_shape[0]
