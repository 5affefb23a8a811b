"""CycleFC as a shift by channel residue and one matrix product, on any device and in any dtype.

The offsets are fixed integers that repeat every k channels, so the read is k strided copies. What follows is
a plain ``F.linear``, so gradients, autocast and export are PyTorch's own.
"""
from typing import Optional, Tuple

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
        axis = 1 if kernel_size[0] > 1 else 2
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        for r, offsets in enumerate(staircase_offsets(k, kernel_size)):
            inside, source, outside = _overlap(x.shape[axis], sign * sum(offsets))
            target = out[..., r::k]
            target.narrow(axis, *inside).copy_(x[..., r::k].narrow(axis, *source))
            target.narrow(axis, *outside).zero_()
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        return _ShiftCopy.apply(grad, ctx.kernel_size, -ctx.sign), None, None


def _overlap(size: int, offset: int) -> Tuple[Tuple[int, int], Tuple[int, int], Tuple[int, int]]:
    """(start, length) on an axis of: what is written, what is read for it, and what reads outside and is 0."""
    lost = min(abs(offset), size)
    kept = size - lost
    return ((0, kept), (lost, kept), (kept, lost)) if offset > 0 else ((lost, kept), (0, kept), (0, lost))
