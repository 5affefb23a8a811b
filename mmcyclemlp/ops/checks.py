"""The contract of the operators, as errors that say what was expected, what came and what to do."""

from typing import Optional, Tuple

import torch
from torch import Tensor

from ..errors import InputError

BACKENDS = ('deform_conv', 'shift_gemm')


def check_kernel_size(kernel_size: Tuple[int, int]) -> None:
    """Accept (1, k) and (k, 1) with k odd and positive."""
    pair = isinstance(kernel_size, (tuple, list)) and len(kernel_size) == 2
    if not pair or not all(isinstance(k, int) and k > 0 and k % 2 for k in kernel_size) or 1 not in kernel_size:
        raise InputError(
            'kernel_size must be (1, k) to shift along the width or (k, 1) to shift along the '
            f'height, with k an odd positive integer, got {kernel_size!r}'
        )


def check_backend(backend: str) -> None:
    """Accept 'auto' and the names in BACKENDS."""
    if backend != 'auto' and backend not in BACKENDS:
        raise InputError(f"backend must be 'auto' or one of {list(BACKENDS)}, got {backend!r}")


def check_tensors(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> None:
    """Accept x [B, H, W, C_in], weight [C_out, C_in], bias [C_out] of one device and dtype."""
    if x.dim() != 4:
        raise InputError(f'x must have the four dimensions [B, H, W, C_in], got shape {list(x.shape)}')
    if not x.is_floating_point():
        raise InputError(f'x must be a floating-point tensor, got {x.dtype}; convert it with x.float()')
    if weight.dim() != 2:
        raise InputError(f'weight must have the two dimensions [C_out, C_in], got shape {list(weight.shape)}')
    if x.shape[3] != weight.shape[1]:
        raise InputError(
            f'x has {x.shape[3]} channels in its last dimension but weight '
            f'{list(weight.shape)} takes {weight.shape[1]}; x is channels-last [B, H, W, C_in]'
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise InputError(f'bias must have shape [{weight.shape[0]}] to match weight, got {list(bias.shape)}')
    for name, tensor in (('weight', weight), ('bias', bias)):
        if tensor is None:
            continue
        if tensor.device != x.device:
            raise InputError(f'x is on {x.device} but {name} on {tensor.device}; move one of them')
        if tensor.dtype != x.dtype and autocast_dtype(x.device) is None:
            raise InputError(f'x is {x.dtype} but {name} is {tensor.dtype}; convert one, or use autocast')


def autocast_dtype(device: torch.device) -> Optional[torch.dtype]:
    """The dtype in which autocast computes products on a device, or None where it is off."""
    if not torch.amp.is_autocast_available(device.type) or not torch.is_autocast_enabled(device.type):
        return None
    return torch.get_autocast_dtype(device.type)
