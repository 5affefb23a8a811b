"""Where each channel of a CycleFC layer reads: the one definition of channel -> (dy, dx)."""

from typing import List, Tuple


def staircase_offsets(channels: int, kernel_size: Tuple[int, int]) -> List[Tuple[int, int]]:
    """Offsets, in positions, at which the channels of a CycleFC layer read their input.

    Channel ``c`` of kernel ``(1, k)`` reads ``dx = (c + k // 2) % k - k // 2`` at ``dy = 0``, and the same
    along ``dy`` for kernel ``(k, 1)``: for k = 3 the channels 0, 1, 2, 3, ... read 0, +1, -1, 0, ...

    This is the order of the authors' code (``CycleFC.gen_offset`` in ``cycle_mlp.py``), which the released
    weights belong to; the formula in the paper (arXiv 2107.10224, equation 3) starts at -1 instead.

    Args:
        channels (int): number of input channels.
        kernel_size (tuple[int, int]): ``(1, k)`` or ``(k, 1)`` with k odd.

    Returns:
        list[tuple[int, int]]: ``(dy, dx)`` of each channel.
    """
    kh, kw = kernel_size
    return [((c + kh // 2) % kh - kh // 2, (c + kw // 2) % kw - kw // 2) for c in range(channels)]
