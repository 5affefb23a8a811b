"""Moving channels of channels-last maps: CycleFC's shift, what the fused mixer gathers, and the adjoint of both.

A movement is a list of reads: some columns of the result come from some channels of the map, at one offset along one
axis. Three ways compute it: strided copies, a Triton kernel on CUDA, and, inside graphs, an expression that a
compiler fuses and an exporter keeps at every size.
"""

from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Iterator, List, NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from ..errors import InputError
from .offsets import staircase_offsets

WAYS = ('copy', 'triton')
_forced: Optional[str] = None


class Read(NamedTuple):
    """``out[..., columns]`` is ``x[..., channels]`` moved by ``offset`` along ``axis``; reads outside the map are 0."""

    columns: slice
    channels: slice
    axis: int  # 1 is H, 2 is W
    offset: int
    again: bool  # whether an earlier read has these channels too, so that their gradients add up


class Movement(NamedTuple):
    """A linear function ``[B, H, W, channels] -> [B, H, W, columns]`` that moves channels.

    ``kernel_size`` (1, k) or (k, 1) is the shift of CycleFC. Without a kernel it is what the fused mixer reads: all
    channels as they are, then those that a shift by (1, k) moves, then those that (k, 1) moves, sorted by residue
    ``c % k``: ``[x, s_w(x)[..., 1::k], ..., s_w(x)[..., k - 1::k], s_h(x)[..., 1::k], ...]``.
    """

    channels: int
    k: int
    kernel_size: Optional[Tuple[int, int]]

    @property
    def columns(self) -> int:
        unmoved = len(range(0, self.channels, self.k))
        return self.channels if self.kernel_size else self.channels + 2 * (self.channels - unmoved)

    def reads(self) -> Tuple[Read, ...]:
        """The reads; each column is in one of them."""
        return _reads(*self)

    def __call__(self, x: Tensor) -> Tensor:
        """Compute it for x ``[B, H, W, channels]``, in the fastest way that the device has."""
        return _move(x, self, adjoint=False)

    def adjoint(self, grad: Tensor) -> Tensor:
        """The adjoint, ``[B, H, W, columns] -> [B, H, W, channels]``."""
        return _move(grad, self, adjoint=True)


def shifting(channels: int, kernel_size: Tuple[int, int]) -> Movement:
    """The movement of :func:`shift`."""
    return Movement(channels, kernel_size[0] * kernel_size[1], (kernel_size[0], kernel_size[1]))


def gathering(channels: int, k: int) -> Movement:
    """What the fused mixer reads; channels of offset 0, which both shifts share with the map, are there once."""
    return Movement(channels, k, None)


def shift(x: Tensor, kernel_size: Tuple[int, int]) -> Tensor:
    """Move each channel by its staircase offset; what lies outside the map reads as 0.

    Args:
        x (Tensor): ``[B, H, W, C]``.
        kernel_size (tuple[int, int]): ``(1, k)`` or ``(k, 1)`` with k odd.

    Returns:
        Tensor: ``[B, H, W, C]`` with ``out[b, i, j, c] = x[b, i + dy(c), j + dx(c), c]``.
    """
    if kernel_size[0] * kernel_size[1] == 1:
        return x
    return _expression(x, kernel_size) if in_transform() else shifting(x.shape[3], kernel_size)(x)


def shifted_means(x: Tensor, k: int) -> Tuple[Tensor, Tensor, Tensor]:
    """Means over H and W of ``x``, ``shift(x, (1, k))`` and ``shift(x, (k, 1))``, ``[B, C]`` each, without a shift.

    A shift by d moves d columns (rows) out at one end and zeros in at the other, so the sum loses just those. The sums
    are taken in float32 at least; the means have the dtype of x.
    """
    dtype = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
    total = x.sum(dim=(1, 2), dtype=dtype)
    sums = [total.clone(), total.clone()]
    for moved, kernel_size in zip(sums, ((1, k), (k, 1))):
        for read in shifting(x.shape[3], kernel_size).reads():
            _, _, lost = overlap(x.shape[read.axis], -read.offset)  # read by nobody: what the way back leaves 0
            if lost[1]:
                moved[:, read.columns] -= x[..., read.channels].narrow(read.axis, *lost).sum(dim=(1, 2), dtype=dtype)
    mean, mean_w, mean_h = ((s / (x.shape[1] * x.shape[2])).to(x.dtype) for s in (total, *sums))
    return mean, mean_w, mean_h


def overlap(size: int, offset: int) -> Tuple[Tuple[int, int], Tuple[int, int], Tuple[int, int]]:
    """(start, length) on an axis of: what is written, what is read for it, and what reads outside and is 0."""
    lost = min(abs(offset), size)
    kept = size - lost
    return ((0, kept), (lost, kept), (kept, lost)) if offset > 0 else ((lost, kept), (0, kept), (0, lost))


@contextmanager
def use_shift(way: str) -> Iterator[None]:
    """Within the context, channels are moved this way, ``copy`` or ``triton``. For tests and benchmarks."""
    global _forced
    if way not in WAYS:
        raise InputError(f'a way to move channels is one of {list(WAYS)}, got {way!r}')
    before, _forced = _forced, way
    try:
        yield
    finally:
        _forced = before


def triton_reason(device: torch.device) -> Optional[str]:
    """Why the Triton kernel cannot run on a device, or None."""
    if find_spec('triton') is None:
        return 'Triton is not installed; run `pip install triton`'
    if device.type != 'cuda':
        return f'the kernel runs on CUDA devices, and the tensor is on {device}'
    if torch.cuda.get_device_capability(device) < (7, 0):
        return f'Triton needs compute capability 7.0 or later, and {device} has less'
    return None


def in_transform() -> bool:
    """Whether PyTorch traces, compiles, exports or differentiates forward what runs, or torch.func transforms it.

    None of these sees through an autograd function without rules of its own, and graphs want PyTorch's own operators.
    """
    return (
        torch.jit.is_tracing()
        or torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()  # as torch.autograd.Function asks
        or forward_ad._current_level >= 0
    )


@cache
def _reads(channels: int, k: int, kernel_size: Optional[Tuple[int, int]]) -> Tuple[Read, ...]:
    steps = [offset for _, offset in staircase_offsets(k, (1, k))]
    if kernel_size:
        axis = 1 if kernel_size[0] > 1 else 2
        return tuple(Read(slice(r, None, k), slice(r, None, k), axis, step, False) for r, step in enumerate(steps))
    reads, start = [Read(slice(0, channels), slice(0, channels), 2, 0, False)], channels
    for axis in (2, 1):
        for r in range(1, min(k, channels)):
            stop = start + len(range(r, channels, k))
            reads.append(Read(slice(start, stop), slice(r, None, k), axis, steps[r], True))
            start = stop
    return tuple(reads)


def _move(x: Tensor, movement: Movement, adjoint: bool) -> Tensor:
    """The one choice of how channels are moved."""
    way = _forced or ('copy' if _triton_reason(x.device) else 'triton')
    if way == 'triton':
        from .shift_triton import move

        return move(x, movement.channels if adjoint else movement.columns, _numbers(movement), adjoint)
    return _Copies.apply(x, movement, adjoint)


_triton_reason = cache(triton_reason)


@cache
def _numbers(movement: Movement) -> List[int]:
    """The reads as the Triton operator takes them, seven numbers each."""
    numbers = []
    for read in movement.reads():
        columns, channels = range(movement.columns)[read.columns], range(movement.channels)[read.channels]
        dy, dx = (read.offset, 0) if read.axis == 1 else (0, read.offset)
        numbers += [len(columns), columns.start, columns.step, channels.start, channels.step, dy, dx]
    return numbers


class _Copies(torch.autograd.Function):
    """A movement, or its adjoint, as one strided copy a read."""

    @staticmethod
    def forward(ctx, x: Tensor, movement: Movement, adjoint: bool) -> Tensor:
        ctx.movement, ctx.adjoint = movement, adjoint
        if movement.kernel_size:
            # Most of the bytes in one piece, then what is moved over it: a strided copy takes several times as long.
            out = torch.empty_like(x, memory_format=torch.contiguous_format).copy_(x)
        else:
            out = x.new_empty(*x.shape[:3], movement.channels if adjoint else movement.columns)
        for read in movement.reads():
            if movement.kernel_size and not read.offset:
                continue
            to, source, offset = read.columns, read.channels, read.offset
            if adjoint:
                to, source, offset = source, to, -offset
            inside, read_from, outside = overlap(x.shape[read.axis], offset)
            target, values = out[..., to], x[..., source].narrow(read.axis, *read_from)
            if adjoint and read.again:
                target.narrow(read.axis, *inside).add_(values)
            else:
                target.narrow(read.axis, *inside).copy_(values)
                target.narrow(read.axis, *outside).zero_()
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        return _move(grad, ctx.movement, adjoint=not ctx.adjoint), None, None


def by_residue(x: Tensor, weight: Tensor, kernel_size: Tuple[int, int]) -> Tuple[Tensor, Tensor]:
    """The shift of x ``[B, H, W, C]`` and a matrix ``[C_out, C]`` with the channels of both sorted by their residue.

    Other runtimes move each channel once this way, where a choice among shifted maps takes them nine passes.
    """
    k = kernel_size[0] * kernel_size[1]
    residues = range(min(k, x.shape[3]))
    offsets = staircase_offsets(k, kernel_size)
    # Each residue is padded alone: all at once, as in _expression, takes those runtimes 3 % longer.
    parts = [_moved(x[..., r::k], kernel_size, offsets[r]) if r else x[..., ::k] for r in residues]
    return torch.cat(parts, dim=3), torch.cat([weight[:, r::k] for r in residues], dim=1)


def _moved(x: Tensor, kernel_size: Tuple[int, int], offset: Tuple[int, int]) -> Tensor:
    """All channels moved by one offset, at any size of the map."""
    (kh, kw), (height, width) = kernel_size, x.shape[1:3]
    # F.pad counts from the last dimension: (C, C, W, W, H, H).
    padded = F.pad(x, [0, 0, kw // 2, kw // 2, kh // 2, kh // 2])
    top, left = kh // 2 + offset[0], kw // 2 + offset[1]
    return padded[:, top : top + height, left : left + width]


def _expression(x: Tensor, kernel_size: Tuple[int, int]) -> Tensor:
    """The shift as pad, slice and select: one fused read for a compiler, any size for an exporter."""
    kh, kw = kernel_size
    k = kh * kw
    height, width = x.shape[1], x.shape[2]
    # F.pad counts from the last dimension: (C, C, W, W, H, H).
    padded = F.pad(x, [0, 0, kw // 2, kw // 2, kh // 2, kh // 2])
    # A comparison of integers of 64 bits would keep the compiler's loops on a CPU from using vectors of floats.
    residue = (torch.arange(x.shape[3], device=x.device) % k).float()
    offsets = staircase_offsets(k, kernel_size)
    out = x  # residue 0 has offset (0, 0)
    for r in range(1, k):
        top, left = kh // 2 + offsets[r][0], kw // 2 + offsets[r][1]
        out = torch.where(residue == r, padded[:, top : top + height, left : left + width], out)
    return out
