"""What the fused mixer reads: the input and its shifted channels side by side, and their means."""
from typing import Iterator, Tuple

import torch
from torch import Tensor

from .offsets import staircase_offsets
from .reading import Reading


def columns_of(channels: int, k: int) -> int:
    """K, the number of columns of :func:`gathering`: the channels of offset 0 are there once."""
    return channels + 2 * (channels - len(range(0, channels, k)))


def gathering(k: int, channels: int) -> Reading:
    """Unshifted channels, then those with an offset along W, then along H: ``[B, H, W, C] -> [B, H, W, K]``.

    The moved channels are sorted by residue c % k, so that each residue is one slice; the order is that of
    ``[x, s_w(x)[..., 1::k], ..., s_w(x)[..., k - 1::k], s_h(x)[..., 1::k], ...]``.
    """
    return Reading(_Gather, _Spread, (k, ), (k, channels))


def shifted_means(x: Tensor, k: int) -> Tuple[Tensor, Tensor, Tensor]:
    """Means over H and W of ``x, s_w(x), s_h(x)``, ``[B, C]`` each, without shifting anything.

    A shift by d moves d columns (rows) out at one end and zeros in at the other, so the sum loses just those.
    The sums are taken in float32 at least; the means have the dtype of x.
    """
    dtype = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
    total = x.sum(dim=(1, 2), dtype=dtype)
    sums = [total.clone(), total.clone()]
    for moved, axis in zip(sums, (2, 1)):
        size = x.shape[axis]
        for r, (_, offset) in enumerate(staircase_offsets(k, (1, k))):
            lost = min(abs(offset), size)
            if lost:
                border = x.narrow(axis, 0 if offset > 0 else size - lost, lost)[..., r::k]
                moved[:, r::k] -= border.sum(dim=(1, 2), dtype=dtype)
    return tuple((s / (x.shape[1] * x.shape[2])).to(x.dtype) for s in (total, *sums))


def _moved(channels: int, k: int) -> Iterator[Tuple[slice, slice, int, int]]:
    """The moved residues: (their channels, their columns in the gathered tensor, axis, offset)."""
    start = channels
    for axis in (2, 1):
        for r, (_, offset) in enumerate(staircase_offsets(k, (1, k))):
            if r and r < channels:
                stop = start + len(range(r, channels, k))
                yield slice(r, None, k), slice(start, stop), axis, offset
                start = stop


def _kept(size: int, offset: int) -> Tuple[int, int, int]:
    """(first position to, first position from, length) of what a shift by offset keeps of an axis."""
    lost = min(abs(offset), size)
    return (0, lost, size - lost) if offset > 0 else (lost, 0, size - lost)


class _Gather(torch.autograd.Function):
    """See :func:`gathering`; saves nothing."""

    @staticmethod
    def forward(ctx, x: Tensor, k: int) -> Tensor:
        ctx.k = k
        ctx.channels = channels = x.shape[3]
        out = x.new_empty(*x.shape[:3], columns_of(channels, k))
        out[..., :channels] = x
        for residue, columns, axis, offset in _moved(channels, k):
            block, source = out[..., columns], x[..., residue]
            size = x.shape[axis]
            to, start, length = _kept(size, offset)
            block.narrow(axis, to, length).copy_(source.narrow(axis, start, length))
            block.narrow(axis, length if offset > 0 else 0, size - length).zero_()
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        return _Spread.apply(grad, ctx.k, ctx.channels), None


class _Spread(torch.autograd.Function):
    """The adjoint of the gathering: each column is added to the channel it was read from."""

    @staticmethod
    def forward(ctx, grad: Tensor, k: int, channels: int) -> Tensor:
        ctx.k = k
        out = grad[..., :channels].clone()
        for residue, columns, axis, offset in _moved(channels, k):
            to, start, length = _kept(grad.shape[axis], offset)
            out[..., residue].narrow(axis, start, length).add_(grad[..., columns].narrow(axis, to, length))
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        return _Gather.apply(grad, ctx.k), None, None
