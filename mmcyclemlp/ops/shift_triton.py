"""The movements of ``shift`` as one Triton kernel: a read and a write of the map, whatever moves where.

Where a column reads lies in a table, so the shift, the gathering and their adjoints are the same kernel with other
offsets. Importing this module needs Triton.
"""
from contextlib import nullcontext
from functools import lru_cache
from typing import List, Tuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .shift import Movement

BLOCK = 2048  # elements a program: enough reads at a time to hide the memory's latency
LARGEST_C = 128  # columns a block: 256 bytes of 16-bit numbers in one piece


@triton.jit
def move_kernel(x, out, table, height, width, c_in, c_out, TERMS: tl.constexpr, BLOCK_W: tl.constexpr,
                BLOCK_C: tl.constexpr):
    """``out[b, i, j, c] = sum_t x[b, i + dy, j + dx, channel]`` with ``channel, dy, dx = table[t, :, c]``.

    One row of BLOCK_W positions and BLOCK_C columns a program. A channel of -1 stands for no term.
    """
    row = tl.program_id(0)  # b * height + i
    i = row % height
    j = tl.program_id(1) * BLOCK_W + tl.arange(0, BLOCK_W)
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    first = row.to(tl.int64) * width
    for t in tl.static_range(TERMS):
        entries = table + t * 3 * c_out + c
        channel = tl.load(entries, mask=c < c_out, other=-1)
        dy = tl.load(entries + c_out, mask=c < c_out, other=0)
        dx = tl.load(entries + 2 * c_out, mask=c < c_out, other=0)
        column = j[:, None] + dx[None, :]  # [BLOCK_W, BLOCK_C]
        inside = (channel >= 0) & (i + dy >= 0) & (i + dy < height)
        mask = inside[None, :] & (column >= 0) & (column < width) & (j < width)[:, None]
        source = (first + (dy * width)[None, :] + column) * c_in + channel[None, :]  # of 64 bits, as first is
        value = tl.load(x + source, mask=mask, other=0.)
        # Sums of 16-bit numbers are taken in 32; a single term is copied.
        if TERMS == 1:
            acc = value
        elif t == 0:
            acc = value if value.dtype == tl.float64 else value.to(tl.float32)
        else:
            acc += value.to(acc.dtype)
    to = (first + j[:, None]) * c_out + c[None, :]
    tl.store(out + to, acc.to(out.dtype.element_ty), mask=(j < width)[:, None] & (c < c_out)[None, :])


@torch.library.custom_op('mmcyclemlp::move', mutates_args=())
def move(x: Tensor, channels: int, k: int, kernel_size: List[int], adjoint: bool) -> Tensor:
    """A movement of ``shift``, or its adjoint: ``[B, H, W, channels] -> [B, H, W, columns]``, or the other way."""
    table = _table(channels, k, tuple(kernel_size), adjoint, x.device)
    terms, _, c_out = table.shape
    batch, height, width, c_in = x.shape
    out = x.new_empty(batch, height, width, c_out)
    if out.numel():
        block_c = min(triton.next_power_of_2(c_out), LARGEST_C)
        block_w = min(triton.next_power_of_2(width), BLOCK // block_c)
        grid = (batch * height, triton.cdiv(width, block_w), triton.cdiv(c_out, block_c))
        # Triton launches on the current device, whatever device its arguments are on.
        with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
            move_kernel[grid](x.contiguous(), out, table, height, width, c_in, c_out, TERMS=terms, BLOCK_W=block_w,
                              BLOCK_C=block_c)
    return out


@move.register_fake
def _(x, channels, k, kernel_size, adjoint):
    movement = Movement(channels, k, tuple(kernel_size) or None)
    return x.new_empty(*x.shape[:3], movement.channels if adjoint else movement.columns)


def _setup_context(ctx, inputs, output):
    _, *ctx.movement, ctx.adjoint = inputs


def _backward(ctx, grad):
    return move(grad, *ctx.movement, not ctx.adjoint), None, None, None, None


move.register_autograd(_backward, setup_context=_setup_context)


@lru_cache(maxsize=256)
def _table(channels: int, k: int, kernel_size: Tuple[int, ...], adjoint: bool, device: torch.device) -> Tensor:
    """``[terms, 3, C_out]``: the channel, dy and dx that each term of each column of the result reads."""
    movement = Movement(channels, k, (kernel_size[0], kernel_size[1]) if kernel_size else None)
    found: List[List[Tuple[int, int, int]]] = [[] for _ in range(channels if adjoint else movement.columns)]
    for read in movement.reads():
        columns, sources = range(movement.columns)[read.columns], range(channels)[read.channels]
        dy, dx = (read.offset, 0) if read.axis == 1 else (0, read.offset)
        for column, source in zip(columns, sources):
            if adjoint:
                found[source].append((column, -dy, -dx))
            else:
                found[column].append((source, dy, dx))
    terms = max(map(len, found), default=1)
    padded = [[*entries, *[(-1, 0, 0)] * (terms - len(entries))] for entries in found]
    return torch.tensor(padded, dtype=torch.int32, device=device).reshape(-1, terms, 3).permute(1, 2, 0).contiguous()
