"""CycleFC: a fully connected layer over channels, each read at its own neighbouring position."""

from contextlib import contextmanager
from math import gcd
from typing import Iterator, Optional, Tuple

import torch
from torch import Tensor

from ..errors import InputError
from .checks import autocast_dtype, check_backend, check_kernel_size, check_tensors
from .linear import linear, linear_of
from .offsets import staircase_offsets
from .shift import by_residue, in_transform, shift, shifting

_forced: Optional[str] = None


def cycle_fc(
    x: Tensor, weight: Tensor, bias: Optional[Tensor], kernel_size: Tuple[int, int], backend: str = 'auto'
) -> Tensor:
    """Cycle fully-connected layer, channels last (CycleMLP, arXiv 2107.10224, section 3.2).

    ``y[b, i, j, o] = bias[o] + sum_c weight[o, c] * x[b, i + dy(c), j + dx(c), c]``, where ``(dy, dx)`` are
    the :func:`staircase_offsets` of ``kernel_size`` and reads outside the map are 0.

    Args:
        x (Tensor): ``[B, H, W, C_in]``, floating point; any memory layout; B, H, W may be 0.
        weight (Tensor): ``[C_out, C_in]``, the dtype and device of ``x`` (autocast may mix dtypes).
        bias (Tensor, optional): ``[C_out]``.
        kernel_size (tuple[int, int]): ``(1, k)`` shifts along W, ``(k, 1)`` along H; k odd.
        backend (str): ``shift_gemm``, a shift and a matrix product; ``deform_conv``, mmcv's deformable convolution,
            which the authors used; ``auto``, which is ``shift_gemm`` unless :func:`use_backend` says otherwise.

    Returns:
        Tensor: ``[B, H, W, C_out]``.

    Raises:
        ValueError: for shapes, dtypes, kernels or backends outside the above, and for ``deform_conv`` where it cannot
            run, with its reason.
    """
    check_kernel_size(kernel_size)
    check_backend(backend)
    if not torch.jit.is_tracing():  # a trace would warn of each comparison
        check_tensors(x, weight, bias)
    if requested(backend) == 'deform_conv':
        return _deform_conv(x, weight, bias, kernel_size)
    if torch.compiler.is_exporting() and kernel_size[0] * kernel_size[1] > 1:
        return linear(*by_residue(x, weight, kernel_size), bias)
    if in_transform() or kernel_size[0] * kernel_size[1] == 1:
        return linear(shift(x, kernel_size), weight, bias)
    return linear_of(shifting(x.shape[3], kernel_size), x, weight, bias)


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


def deform_conv_reason(dtype: torch.dtype, device: torch.device) -> Optional[str]:
    """Why mmcv's deformable convolution cannot compute in a dtype on a device, or None."""
    if dtype == torch.bfloat16:
        return "mmcv's deform_conv2d has no bfloat16 kernel; use float32 or float16"
    if dtype == torch.float16 and device.type == 'cpu':
        return "mmcv's deform_conv2d has no float16 kernel on the CPU; use float32"
    try:
        import mmcv.ops  # noqa: F401
    except ImportError as error:
        return (
            f'mmcv was installed without its compiled operators ({error}); compile them with `make ops`, or take a '
            "ready wheel as docs/install.md says; backend='auto' needs none"
        )
    return None


def _deform_conv(x: Tensor, weight: Tensor, bias: Optional[Tensor], kernel_size: Tuple[int, int]) -> Tensor:
    """CycleFC as the deformable convolution that the authors used; the reference."""
    dtype = autocast_dtype(x.device) or x.dtype
    reason = deform_conv_reason(dtype, x.device)
    if reason is not None:
        raise InputError(f"backend 'deform_conv' cannot compute this call: {reason}")
    from mmcv.ops import deform_conv2d

    x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    if x.numel() == 0:
        # The operator divides by the batch size. An empty product keeps the graph whole.
        out = x @ weight.t()
        return out if bias is None else out + bias
    batch, height, width, c_in = x.shape
    # The operator reads offset channels 2c (dy) and 2c + 1 (dx). It casts its input to the offset's dtype
    # and takes contiguous memory only, so an expanded view will not do.
    pairs = x.new_tensor(staircase_offsets(c_in, kernel_size))  # [C_in, 2]
    offset = pairs.view(1, 2 * c_in, 1, 1).expand(batch, -1, height, width).contiguous()
    out = deform_conv2d(
        x.permute(0, 3, 1, 2).contiguous(),  # [B, C_in, H, W]
        offset,
        weight[:, :, None, None].contiguous(),  # [C_out, C_in, 1, 1]
        1,
        0,
        1,
        1,  # stride, padding, dilation, groups
        c_in,  # one deformable group a channel: each has an offset of its own
        False,  # no bias is taken
        gcd(batch, 32),
    )  # im2col_step must divide the batch
    out = out.permute(0, 2, 3, 1)  # [B, H, W, C_out]
    return out if bias is None else out + bias
