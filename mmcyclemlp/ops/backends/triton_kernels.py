"""The kernels of ``triton_gemm``: three matrix products whose memory accesses carry the shift.

A channels-last map is a matrix ``[M, C]`` of its ``M = B * H * W`` positions. A position has a coordinate in
``[0, size)`` on the shifted axis, and its neighbours there lie ``step`` rows of the matrix apart: ``(W, 1)`` for
kernel (1, k) and ``(H, W)`` for (k, 1), so the same kernels serve both. Offsets into maps are 64-bit: a batch
may have more than 2^31 elements.

Importing this module needs Triton.
"""
from contextlib import nullcontext
from math import prod
from typing import Callable, ContextManager, Dict, List, Optional, Tuple

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _in_line(first, line, INDEX: tl.constexpr, BLOCK_M: tl.constexpr):
    """The positions from ``first``, counted from the start of its line: [BLOCK_M].

    A line is the ``step * size`` positions after which coordinates repeat; the coordinate is ``// step % size``.
    """
    # Reduced as a scalar, so that the divisions by element, slow in 64 bits, are of small numbers.
    return (first % line).to(INDEX) + tl.arange(0, BLOCK_M)


@triton.jit
def _offsets(c, K: tl.constexpr):
    """Offset of channel c, as ``staircase_offsets`` defines it."""
    return (c + K // 2) % K - K // 2


@triton.jit
def _read_shifted(x, first, coordinate, inside, c, c_in, step, size, K: tl.constexpr, INDEX: tl.constexpr,
                  GATHER: tl.constexpr, BLOCK_M: tl.constexpr):
    """The block ``x[m + offset(c) * step, c]``, 0 outside the map: [BLOCK_M, BLOCK_C].

    A block is a contiguous run of channels. Blocks of one residue would have one offset each, but their channels
    lie k apart: no access would be wider than an element, and C / k channels would have to fill the blocks. So a
    block holds all residues, and there are two ways to read it, between which the tuner decides:

    * select: read the block k times, whole rows moved by one offset, and keep the channels of that offset.
      The reads are 16 bytes wide and may be asynchronous; most of the k find their lines in the caches.
    * gather: read every element at its own offset. Nothing is read in vain, but an access is one element.
    """
    rows = tl.arange(0, BLOCK_M).to(INDEX)[:, None] * c_in  # [BLOCK_M, 1]
    if GATHER:
        offset = _offsets(c, K)
        source = coordinate[:, None] + offset[None, :]  # [BLOCK_M, BLOCK_C]
        mask = inside[:, None] & (c < c_in)[None, :] & (source >= 0) & (source < size)
        columns = offset.to(INDEX) * step * c_in + c
        block = tl.load(x + first * c_in + (rows + columns[None, :]), mask=mask, other=0.)
    else:
        for r in tl.static_range(K):
            offset = _offsets(r, K)
            source = coordinate + offset  # [BLOCK_M]
            mask = (inside & (source >= 0) & (source < size))[:, None] & (c < c_in)[None, :]
            # The moved base is a scalar, so the offsets within a block are computed once for all k reads.
            moved = tl.load(x + (first + offset * step) * c_in + (rows + c[None, :]), mask=mask, other=0.)
            if r == 0:
                block = moved
            else:
                block = tl.where((c % K == r)[None, :], moved, block)
    return block


@triton.jit(do_not_specialize=['positions', 'size', 'line', 'bucket'], do_not_specialize_on_alignment=['step'])
def forward_kernel(x, weight, bias, y, positions, c_in, c_out, step, size, line, bucket, K: tl.constexpr,
                   PRECISION: tl.constexpr, INDEX: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_O: tl.constexpr,
                   BLOCK_C: tl.constexpr, GATHER: tl.constexpr):
    """``y[m, o] = bias[o] + sum_c x[m + offset(c) * step, c] * weight[o, c]``; one block of y a program."""
    # Blocks of the same positions are neighbours in time: x comes from memory once, the small weight from L2.
    blocks_o = tl.cdiv(c_out, BLOCK_O)
    first = (tl.program_id(0) // blocks_o).to(tl.int64) * BLOCK_M
    o = tl.program_id(0) % blocks_o * BLOCK_O + tl.arange(0, BLOCK_O)
    rows = tl.arange(0, BLOCK_M).to(INDEX)
    inside = first + rows < positions
    coordinate = _in_line(first, line, INDEX, BLOCK_M) // step % size
    weight_columns = weight + o.to(tl.int64)[None, :] * c_in
    acc = tl.zeros((BLOCK_M, BLOCK_O), tl.float32)
    for start in range(0, c_in, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        a = _read_shifted(x, first, coordinate, inside, c, c_in, step, size, K, INDEX, GATHER, BLOCK_M)
        b = tl.load(weight_columns + c[:, None], mask=(c < c_in)[:, None] & (o < c_out)[None, :], other=0.)
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
    if bias is not None:
        acc += tl.load(bias + o, mask=o < c_out, other=0.).to(tl.float32)[None, :]
    mask = inside[:, None] & (o < c_out)[None, :]
    tl.store(y + first * c_out + (rows[:, None] * c_out + o[None, :]), acc.to(y.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=['positions', 'size', 'line', 'bucket'], do_not_specialize_on_alignment=['step'])
def grad_input_kernel(grad, weight, grad_x, positions, c_in, c_out, step, size, line, bucket, K: tl.constexpr,
                      PRECISION: tl.constexpr, INDEX: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_O: tl.constexpr,
                      BLOCK_C: tl.constexpr):
    """``grad_x[m + offset(c) * step, c] = sum_o grad[m, o] * weight[o, c]``; one block of the product a program.

    The shift is in the store. A shifted load would have one offset only for the channels of one residue, so that
    grad would be read once for each, and the store would be strided all the same. Here the product is a plain
    one and the shift costs once a block instead of once a step of its loop. Products that would fall off the map
    are dropped, and as many elements receive none: those at the other end of the same line. Storing 0 there in
    place of what was dropped, that is at the target modulo the size, writes every element exactly once.
    """
    blocks_c = tl.cdiv(c_in, BLOCK_C)
    first = (tl.program_id(0) // blocks_c).to(tl.int64) * BLOCK_M
    c = tl.program_id(0) % blocks_c * BLOCK_C + tl.arange(0, BLOCK_C)
    rows = tl.arange(0, BLOCK_M).to(INDEX)
    inside = first + rows < positions
    acc = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    for start in range(0, c_out, BLOCK_O):
        o = start + tl.arange(0, BLOCK_O)
        a = tl.load(grad + first * c_out + (rows[:, None] * c_out + o[None, :]),
                    mask=inside[:, None] & (o < c_out)[None, :], other=0.)
        b = tl.load(weight + o.to(tl.int64)[:, None] * c_in + c[None, :],
                    mask=(o < c_out)[:, None] & (c < c_in)[None, :], other=0.)
        acc = tl.dot(a, b, acc, input_precision=PRECISION)

    offset = _offsets(c, K)
    coordinate = _in_line(first, line, INDEX, BLOCK_M) // step % size
    target = coordinate[:, None] + offset[None, :]  # [BLOCK_M, BLOCK_C]
    kept = (target >= 0) & (target < size)
    # Modulo by column, where it is cheap; K * size makes the remainder's left side positive.
    forth = (offset + K * size) % size
    back = coordinate[:, None] + forth[None, :] >= size
    columns = forth.to(INDEX) * step * c_in + c
    to = rows[:, None] * c_in + columns[None, :] - tl.where(back, line.to(INDEX) * c_in, 0)
    tl.store(grad_x + first * c_in + to, tl.where(kept, acc, 0.).to(grad_x.dtype.element_ty),
             mask=inside[:, None] & (c < c_in)[None, :])


@triton.jit(do_not_specialize=['positions', 'size', 'line', 'bucket', 'chunk'],
            do_not_specialize_on_alignment=['step'])
def grad_weight_kernel(grad, x, partial, positions, c_in, c_out, step, size, line, bucket, chunk, K: tl.constexpr,
                       PRECISION: tl.constexpr, INDEX: tl.constexpr, BLOCK_M: tl.constexpr,
                       BLOCK_O: tl.constexpr, BLOCK_C: tl.constexpr, GATHER: tl.constexpr):
    """``partial[s, o, c] = sum_m grad[m, o] * x[m + offset(c) * step, c]`` over the s-th chunk of positions."""
    blocks_c = tl.cdiv(c_in, BLOCK_C)
    o = tl.program_id(0) // blocks_c * BLOCK_O + tl.arange(0, BLOCK_O)
    c = tl.program_id(0) % blocks_c * BLOCK_C + tl.arange(0, BLOCK_C)
    split = tl.program_id(1).to(tl.int64)
    first = split * chunk
    stop = tl.minimum(first + chunk, positions)
    # Coordinates advance by BLOCK_M positions, = steps * step + rest, without a division in the loop.
    rows = tl.arange(0, BLOCK_M).to(INDEX)
    begin = _in_line(first, line, INDEX, BLOCK_M)
    coordinate, within = begin // step % size, begin % step
    steps, rest = BLOCK_M // step % size, BLOCK_M % step
    acc = tl.zeros((BLOCK_O, BLOCK_C), tl.float32)
    for start in range(first, stop, BLOCK_M):
        inside = start + rows < stop
        a = tl.load(grad + start * c_out + (rows[:, None] * c_out + o[None, :]),
                    mask=inside[:, None] & (o < c_out)[None, :], other=0.)
        b = _read_shifted(x, start, coordinate, inside, c, c_in, step, size, K, INDEX, GATHER, BLOCK_M)
        acc = tl.dot(tl.trans(a), b, acc, input_precision=PRECISION)
        within += rest
        carry = within >= step
        within = tl.where(carry, within - step, within)
        coordinate += steps + carry.to(coordinate.dtype)
        coordinate = tl.where(coordinate >= size, coordinate - size, coordinate)
    mask = (o < c_out)[:, None] & (c < c_in)[None, :]
    # One slice a chunk, added up afterwards in a fixed order: with atomics, results would vary between runs.
    tl.store(partial + (split * c_out + o[:, None]) * c_in + c[None, :], acc, mask=mask)


def _config(m: int, o: int, c: int, warps: int, stages: int, **options: bool) -> triton.Config:
    return triton.Config(dict(BLOCK_M=m, BLOCK_O=o, BLOCK_C=c, **options), num_warps=warps, num_stages=stages)


# Few, since each is compiled once and timed once for every size of problem. The last ones fit the shared memory
# of any device at any k.
FORWARD = [
    _config(128, 256, 32, 8, 3, GATHER=False),
    _config(128, 128, 64, 8, 2, GATHER=False),
    _config(128, 128, 32, 8, 3, GATHER=False),
    _config(64, 128, 32, 4, 3, GATHER=False),
    _config(128, 64, 32, 4, 3, GATHER=False),
    _config(128, 64, 64, 4, 1, GATHER=False),
    _config(64, 64, 64, 4, 1, GATHER=False),
    _config(128, 128, 32, 8, 2, GATHER=True),
    _config(64, 64, 32, 4, 2, GATHER=True),
]
GRAD_INPUT = [
    _config(128, 64, 128, 8, 3),
    _config(128, 32, 128, 8, 4),
    _config(128, 32, 64, 4, 4),
    _config(64, 32, 128, 4, 4),
    _config(64, 32, 64, 4, 3),
]
GRAD_WEIGHT = [
    _config(64, 128, 128, 8, 2, GATHER=False),
    _config(32, 128, 128, 8, 3, GATHER=False),
    _config(64, 64, 64, 4, 2, GATHER=False),
    _config(32, 64, 64, 4, 2, GATHER=False),
    _config(32, 128, 128, 8, 2, GATHER=True),
    _config(32, 64, 64, 4, 2, GATHER=True),
]
SPLIT_FROM = 512  # positions a chunk of grad_weight has at least: fewer, and adding up slices is what takes time
CHUNK_OF = 128  # and a multiple of this, no BLOCK_M being larger
SELECT_TO = 9  # the k up to which reading a block k times is worth a try
INDEX_LIMIT = 2**31  # elements of one map from which offsets within a map take 64 bits


def _worth_timing(configs: List[triton.Config], args: dict, **meta) -> List[triton.Config]:
    """Leave out blocks wider than the matrices, and the way of reading that k rules out."""
    extents = dict(BLOCK_M=args['positions'], BLOCK_O=args['c_out'], BLOCK_C=args['c_in'])

    def worth(config: triton.Config) -> bool:
        fits = all(config.kwargs[name] <= max(64, triton.next_power_of_2(n)) for name, n in extents.items())
        gather = config.kwargs.get('GATHER')
        return fits and (gather is None or (meta['K'] > 1 if gather else meta['K'] <= SELECT_TO))

    return [config for config in configs[:-1] if worth(config)] + configs[-1:]


def _tuned(kernel, configs: List[triton.Config]):
    if triton.knobs.runtime.interpret:
        # The interpreter has nothing to time: one configuration, so small that tests see several blocks.
        options = dict(GATHER=False) if 'GATHER' in configs[0].kwargs else {}
        configs = [_config(32, 16, 16, 4, 1, **options)]
    # `bucket` is the number of positions to a power of two: not every new batch size is timed anew.
    return triton.autotune(configs, key=['bucket', 'c_in', 'c_out', 'K', 'PRECISION'],
                           prune_configs_by=dict(early_config_prune=_worth_timing))(kernel)


forward_tuned = _tuned(forward_kernel, FORWARD)
grad_input_tuned = _tuned(grad_input_kernel, GRAD_INPUT)
grad_weight_tuned = _tuned(grad_weight_kernel, GRAD_WEIGHT)


def forward(x: Tensor, weight: Tensor, bias: Optional[Tensor], kernel_size: List[int]) -> Tensor:
    """x ``[B, H, W, C_in]``, weight ``[C_out, C_in]``, bias ``[C_out]``, contiguous -> y ``[B, H, W, C_out]``."""
    y = x.new_empty(*x.shape[:3], weight.shape[0])
    if y.numel():
        sizes, meta = _problem(x, *weight.shape, kernel_size)
        with _on(x):
            forward_tuned[_grid(BLOCK_M=sizes[0], BLOCK_O=sizes[2])](x, weight, bias, y, *sizes, **meta)
    return y


def grad_input(grad: Tensor, weight: Tensor, kernel_size: List[int]) -> Tensor:
    """grad ``[B, H, W, C_out]``, weight ``[C_out, C_in]``, contiguous -> grad_x ``[B, H, W, C_in]``."""
    grad_x = grad.new_empty(*grad.shape[:3], weight.shape[1])
    if grad_x.numel():
        sizes, meta = _problem(grad, *weight.shape, kernel_size)
        with _on(grad):
            grad_input_tuned[_grid(BLOCK_M=sizes[0], BLOCK_C=sizes[1])](grad, weight, grad_x, *sizes, **meta)
    return grad_x


def grad_weight(grad: Tensor, x: Tensor, kernel_size: List[int]) -> Tensor:
    """grad ``[B, H, W, C_out]``, x ``[B, H, W, C_in]``, contiguous -> grad_weight ``[C_out, C_in]``."""
    shape = (grad.shape[3], x.shape[3])
    sizes, meta = _problem(x, *shape, kernel_size)
    positions = sizes[0]
    if not positions or 0 in shape:
        return x.new_zeros(shape)
    # Enough programs for two a multiprocessor if blocks are large, in chunks that repay a slice of sums each.
    processors = torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 1
    large_blocks = triton.cdiv(shape[0], 128) * triton.cdiv(shape[1], 128)
    splits = max(1, min(triton.cdiv(2 * processors, large_blocks), positions // SPLIT_FROM))
    chunk = triton.cdiv(triton.cdiv(positions, splits), CHUNK_OF) * CHUNK_OF
    splits = triton.cdiv(positions, chunk)
    partial = x.new_empty((splits, *shape), dtype=torch.float32)
    grid = _grid(BLOCK_O=shape[0], BLOCK_C=shape[1])
    with _on(x):
        grad_weight_tuned[lambda blocks: (*grid(blocks), splits)](grad, x, partial, *sizes, chunk, **meta)
    return partial.sum(0).to(x.dtype)


def _problem(x: Tensor, c_out: int, c_in: int, kernel_size: List[int]) -> Tuple[Tuple[int, ...], Dict[str, object]]:
    """What all kernels take: (positions, c_in, c_out, step, size, line, bucket) and dict(K, PRECISION, INDEX)."""
    batch, height, width, _ = x.shape
    positions = batch * height * width
    size, step = (height, width) if kernel_size[0] > 1 else (width, 1)
    # What PyTorch's own products of float32 do; says nothing to those of half precision.
    exact = x.dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision != 'tf32'
    wide = (height * width + CHUNK_OF) * max(c_in, c_out) >= INDEX_LIMIT
    sizes = (positions, c_in, c_out, step, size, step * size, positions.bit_length())
    return sizes, dict(K=kernel_size[0] * kernel_size[1], PRECISION='ieee' if exact else 'tf32',
                       INDEX=tl.int64 if wide else tl.int32)


def _grid(**extents: int) -> Callable[[dict], Tuple[int]]:
    """One program a block: the number of blocks in each extent, multiplied."""
    return lambda blocks: (prod(triton.cdiv(extent, blocks[name]) for name, extent in extents.items()), )


def _on(x: Tensor) -> ContextManager:
    """Triton launches on the current device, whatever device its arguments are on."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
