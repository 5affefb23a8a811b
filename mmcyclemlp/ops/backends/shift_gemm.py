"""CycleFC as a shift by channel residue and one matrix product, on any device and in any dtype.

The offsets are fixed integers that repeat every k channels, so the read is k strided copies. What follows is
a plain ``F.linear``, so gradients, autocast and export are PyTorch's own.
"""
from typing import List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..linear import linear
from ..offsets import staircase_offsets
from ..reading import Reading, linear_of


def unsupported_reason(x: Tensor, weight: Tensor, bias: Optional[Tensor],
                       kernel_size: Tuple[int, int]) -> Optional[str]:
    """None: this backend computes whatever ``cycle_fc`` accepts."""
    return None


def cycle_fc(x: Tensor, weight: Tensor, bias: Optional[Tensor], kernel_size: Tuple[int, int]) -> Tensor:
    """See ``mmcyclemlp.ops.cycle_fc``; x ``[B, H, W, C_in]`` -> ``[B, H, W, C_out]``."""
    if torch.jit.is_scripting() or torch.jit.is_tracing():
        return linear(shift(x, kernel_size), weight, bias)
    else:
        if kernel_size == (1, 1) or torch.compiler.is_compiling():
            return linear(shift(x, kernel_size), weight, bias)
        return linear_of(Reading(_ShiftCopy, _ShiftCopy, (kernel_size, 1), (kernel_size, -1)), x, weight, bias)


def shift(x: Tensor, kernel_size: Tuple[int, int]) -> Tensor:
    """Move each channel by its staircase offset; what lies outside the map reads as 0.

    Args:
        x (Tensor): ``[B, H, W, C]``.
        kernel_size (tuple[int, int]): ``(1, k)`` or ``(k, 1)`` with k odd.

    Returns:
        Tensor: ``[B, H, W, C]`` with ``out[b, i, j, c] = x[b, i + dy(c), j + dx(c), c]``.
    """
    if kernel_size[0] == 1 and kernel_size[1] == 1:
        return x
    # A graph wants one functional expression that holds at every size; eager mode wants few bytes moved.
    if torch.jit.is_scripting() or torch.jit.is_tracing():
        return _shift_select(x, kernel_size)
    else:
        return _shift_select(x, kernel_size) if torch.compiler.is_compiling() else _ShiftCopy.apply(x, kernel_size, 1)


def _shift_select(x: Tensor, kernel_size: Tuple[int, int]) -> Tensor:
    """The shift as pad, slice and select: one fused read for a compiler, any size for an exporter."""
    kh, kw = kernel_size
    k = kh * kw
    height, width = x.shape[1], x.shape[2]
    # F.pad counts from the last dimension: (C, C, W, W, H, H).
    padded = F.pad(x, [0, 0, kw // 2, kw // 2, kh // 2, kh // 2])
    residue = torch.arange(x.shape[3], device=x.device) % k
    offsets = staircase_offsets(k, kernel_size)
    out = x  # residue 0 has offset (0, 0)
    for r in range(1, k):
        top, left = kh // 2 + offsets[r][0], kw // 2 + offsets[r][1]
        out = torch.where(residue == r, padded[:, top:top + height, left:left + width], out)
    return out


class _ShiftCopy(torch.autograd.Function):
    """The shift as one strided copy a residue; its gradient is the shift the other way."""

    @staticmethod
    def forward(ctx, x: Tensor, kernel_size: Tuple[int, int], sign: int) -> Tensor:
        ctx.kernel_size, ctx.sign = kernel_size, sign
        k = kernel_size[0] * kernel_size[1]
        out = x.new_zeros(x.shape)
        for r, (dy, dx) in enumerate(staircase_offsets(k, kernel_size)):
            to_rows, from_rows = _overlap(x.shape[1], sign * dy)
            to_cols, from_cols = _overlap(x.shape[2], sign * dx)
            out[:, to_rows, to_cols, r::k] = x[:, from_rows, from_cols, r::k]
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        return _ShiftCopy.apply(grad, ctx.kernel_size, -ctx.sign), None, None


def _overlap(size: int, offset: int) -> List[slice]:
    """Slices (destination, source) of an axis where ``source = destination + offset`` lies inside."""
    low, high = max(0, -offset), min(size, size - offset)
    if low >= high:
        return [slice(0, 0), slice(0, 0)]
    return [slice(low, high), slice(low + offset, high + offset)]
