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

BLOCK = 2048  # elements a program: enough reads at a time to hide the memory's latency
LARGEST_C = 128  # columns a block: 256 bytes of 16-bit numbers in one piece


@triton.jit
def move_kernel(
    x, out, table, height, width, c_in, c_out, TERMS: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr
):
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
        value = tl.load(x + source, mask=mask, other=0.0)
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
def move(x: Tensor, columns: int, reads: List[int], adjoint: bool) -> Tensor:
    """A movement of ``shift``, or its adjoint: ``[B, H, W, C] -> [B, H, W, columns]``.

    Seven numbers a read: how many columns, the first one and their step, the first channel and its step, dy and dx.
    """
    table = _table(columns, tuple(reads), adjoint, x.device)
    terms, _, c_out = table.shape
    batch, height, width, c_in = x.shape
    out = x.new_empty(batch, height, width, c_out)
    if out.numel():
        block_c = min(triton.next_power_of_2(c_out), LARGEST_C)
        block_w = min(triton.next_power_of_2(width), BLOCK // block_c)
        grid = (batch * height, triton.cdiv(width, block_w), triton.cdiv(c_out, block_c))
        # Triton launches on the current device, whatever device its arguments are on.
        with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
            move_kernel[grid](
                x.contiguous(), out, table, height, width, c_in, c_out, TERMS=terms, BLOCK_W=block_w, BLOCK_C=block_c
            )
    return out


@move.register_fake
def _(x, columns, reads, adjoint):
    return x.new_empty(*x.shape[:3], columns)


def _setup_context(ctx, inputs, output):
    x, _, ctx.reads, ctx.adjoint = inputs
    ctx.channels = x.shape[3]


def _backward(ctx, grad):
    return move(grad, ctx.channels, ctx.reads, not ctx.adjoint), None, None, None


move.register_autograd(_backward, setup_context=_setup_context)


@lru_cache(maxsize=256)
def _table(columns: int, reads: Tuple[int, ...], adjoint: bool, device: torch.device) -> Tensor:
    """``[terms, 3, columns]``: the channel, dy and dx that each term of each column of the result reads."""
    found: List[List[Tuple[int, int, int]]] = [[] for _ in range(columns)]
    for count, to, to_step, source, source_step, dy, dx in zip(*[iter(reads)] * 7):
        for i in range(count):
            column, channel = to + i * to_step, source + i * source_step
            if adjoint:
                found[channel].append((column, -dy, -dx))
            else:
                found[column].append((channel, dy, dx))
    terms = max(map(len, found), default=1)
    padded = [[*entries, *[(-1, 0, 0)] * (terms - len(entries))] for entries in found]
    return torch.tensor(padded, dtype=torch.int32, device=device).reshape(-1, terms, 3).permute(1, 2, 0).contiguous()
