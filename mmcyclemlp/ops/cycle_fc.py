"""CycleFC: a fully connected layer over channels, each read at its own neighbouring position."""
from contextlib import contextmanager
from typing import Iterator, Optional, Tuple

import torch
from torch import Tensor

from ..errors import InputError
from .backends import AUTO_ORDER, BACKENDS, shift_gemm
from .checks import check_backend, check_kernel_size, check_tensors

_forced: Optional[str] = None


def cycle_fc(x: Tensor,
             weight: Tensor,
             bias: Optional[Tensor],
             kernel_size: Tuple[int, int],
             backend: str = 'auto') -> Tensor:
    """Cycle fully-connected layer, channels last (CycleMLP, arXiv 2107.10224, section 3.2).

    ``y[b, i, j, o] = bias[o] + sum_c weight[o, c] * x[b, i + dy(c), j + dx(c), c]``, where ``(dy, dx)`` are
    the :func:`staircase_offsets` of ``kernel_size`` and reads outside the map are 0.

    Args:
        x (Tensor): ``[B, H, W, C_in]``, floating point; any memory layout; B, H, W may be 0.
        weight (Tensor): ``[C_out, C_in]``, the dtype and device of ``x`` (autocast may mix dtypes).
        bias (Tensor, optional): ``[C_out]``.
        kernel_size (tuple[int, int]): ``(1, k)`` shifts along W, ``(k, 1)`` along H; k odd.
        backend (str): ``auto``, or a name of ``mmcyclemlp.ops.BACKENDS``. ``auto`` takes the fastest that
            can compute the call, and ``shift_gemm`` while tracing, scripting, compiling or exporting.

    Returns:
        Tensor: ``[B, H, W, C_out]``.

    Raises:
        ValueError: for shapes, dtypes, kernels or backends outside the above, and for a backend asked for by
            name that cannot compute the call, with its reason.
    """
    if torch.jit.is_scripting():
        return shift_gemm.cycle_fc(x, weight, bias, kernel_size)
    else:  # the script compiler leaves this branch out only if it is an `else`
        check_kernel_size(kernel_size)
        if not torch.jit.is_tracing():  # a trace would warn of each comparison
            check_tensors(x, weight, bias)
        name = _choose(x, weight, bias, kernel_size, backend)
        return BACKENDS[name].cycle_fc(x, weight, bias, kernel_size)


@contextmanager
def use_backend(backend: str) -> Iterator[None]:
    """Within the context, every ``backend='auto'`` means this backend. For tests and benchmarks."""
    global _forced
    check_backend(backend)
    before, _forced = _forced, backend
    try:
        yield
    finally:
        _forced = before


def requested(backend: str) -> str:
    """The backend that a call with this argument asks for: its own, or that of :func:`use_backend`."""
    return _forced if backend == 'auto' and _forced is not None else backend


def _choose(x: Tensor, weight: Tensor, bias: Optional[Tensor], kernel_size: Tuple[int, int],
            backend: str) -> str:
    backend = requested(backend)
    if backend == 'auto':
        if torch.jit.is_tracing() or torch.compiler.is_compiling():
            return 'shift_gemm'
        return next(name for name in AUTO_ORDER
                    if BACKENDS[name].unsupported_reason(x, weight, bias, kernel_size) is None)
    check_backend(backend)
    reason = BACKENDS[backend].unsupported_reason(x, weight, bias, kernel_size)
    if reason is not None:
        raise InputError(f"backend '{backend}' cannot compute this call: {reason}")
    return backend
