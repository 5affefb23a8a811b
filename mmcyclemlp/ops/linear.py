"""A matrix product over the channels of a map, by the fastest library of the machine.

PyTorch gives linear layers in float32 on a CPU to MKL, and convolutions to oneDNN. MKL's AVX-512 kernels are for
Intel's processors; on some others with AVX-512 it takes twice oneDNN's time on one thread. Outside graphs and without
gradients, oneDNN's inner product is used. Elsewhere, with AVX-512, a convolution: a map [B, H, W, C] is a channels_last
image [1, C, 1, BHW], so a linear layer is a 1x1 convolution of it, without a copy. A single row, since oneDNN takes
three times as long for 256 images of one pixel as for one image of 256. Without AVX-512, the linear layer stays: it is
faster than that convolution inside a graph, and no slower with gradients.
"""

from contextlib import nullcontext
from typing import Callable, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import autocast_dtype
from .shift import Movement, in_transform

ONEDNN = torch.backends.mkldnn.is_available()
# oneDNN's inner product, which torch.compile puts into its graphs: private, and without a gradient.
INNER_PRODUCT = ONEDNN and hasattr(torch.ops.mkldnn, '_linear_pointwise')
AVX512 = torch.backends.cpu.get_cpu_capability() == 'AVX512'
# A 1x1 kernel is the same at any dilation. But on one thread PyTorch gives an undilated one to MKL if there are fewer
# than 16 images (ConvParams::use_mkldnn).
DILATION = 2


def linear(x: Tensor, weight: Tensor, bias: Optional[Tensor] = None, residual: Optional[Tensor] = None) -> Tensor:
    """``F.linear`` of a map, plus a residual.

    Args:
        x (Tensor): ``[B, H, W, C_in]``.
        weight (Tensor): ``[C_out, C_in]``.
        bias (Tensor, optional): ``[C_out]``.
        residual (Tensor, optional): ``[B, H, W, C_out]``, added to the result.

    Returns:
        Tensor: ``[B, H, W, C_out]``. An exported graph keeps the linear layer.
    """
    if _by_onednn(x) and _inner_product():
        if residual is None:
            return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], 'none')
        return torch.ops.mkldnn._linear_pointwise.binary(x, residual, weight, bias, 'add')
    product = _convolution if AVX512 and _by_onednn(x) else F.linear
    return _add(product(x, weight, bias), residual)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``F.gelu(linear(x, weight, bias))``, exact GELU. oneDNN fuses the two, which is slower without AVX-512."""
    if AVX512 and _by_onednn(x) and _inner_product():
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'gelu', [], 'none')
    y = linear(x, weight, bias)
    # In place, since a new map costs time by itself; it is the widest of the network.
    return F.gelu(y) if torch.is_grad_enabled() or in_transform() else torch.ops.aten.gelu_(y)


def linear_each(x: Tensor, weights: Tensor, biases: Tensor, residual: Optional[Tensor] = None) -> Tensor:
    """:func:`linear` with a matrix for each sample: weights ``[B, C_out, C_in]``, biases ``[B, C_out]``."""
    if AVX512 and _by_onednn(x) and _inner_product():
        rests = [None] * len(x) if residual is None else residual.split(1)
        products = [linear(*sample) for sample in zip(x.split(1), weights, biases, rests)]
        return products[0] if len(products) == 1 else torch.cat(products)
    y = torch.baddbmm(biases.unsqueeze(1), x.flatten(1, 2), weights.transpose(1, 2))  # [B, HW, C_out]
    return _add(y.unflatten(1, x.shape[1:3]), residual)


def linear_of(
    movement: Movement, x: Tensor, weight: Tensor, bias: Optional[Tensor], residual: Optional[Tensor] = None
) -> Tensor:
    """``linear(movement(x), weight, bias)``, or :func:`linear_each` for a matrix a sample.

    The backward pass keeps x and moves it anew: a moved copy takes as much memory as the map, which is kept anyway by
    whatever else reads it, and little time.

    Args:
        movement (Movement): ``[B, H, W, C] -> [B, H, W, K]``.
        x (Tensor): ``[B, H, W, C]``.
        weight (Tensor): ``[C_out, K]``, or ``[B, C_out, K]``.
        bias (Tensor, optional): ``[C_out]``, or ``[B, C_out]``, which is not optional.
        residual (Tensor, optional): ``[B, H, W, C_out]``, added to the result.

    Returns:
        Tensor: ``[B, H, W, C_out]``, under autocast in its dtype.
    """
    if not torch.is_grad_enabled():
        return _product(weight)(movement(x), weight, bias, residual)
    # As the product itself would cast them, but before the map is kept.
    x, weight, bias = autocast_to(x), autocast_to(weight), None if bias is None else autocast_to(bias)
    with torch.autocast(x.device.type, enabled=False) if autocast_dtype(x.device) else nullcontext():
        y = _LinearOf.apply(movement, x, weight, bias)
    return _add(y, residual)


def _product(weight: Tensor) -> Callable[..., Tensor]:
    return linear if weight.dim() == 2 else linear_each


def autocast_to(x: Tensor) -> Tensor:
    """x in the dtype that autocast, where it is on, would give it for a product."""
    dtype = autocast_dtype(x.device)
    return x.to(dtype) if dtype and x.dtype in (torch.float32, torch.float16, torch.bfloat16) else x


def _by_onednn(x: Tensor) -> bool:
    return (
        ONEDNN
        and not (torch.jit.is_tracing() or torch.compiler.is_exporting())
        and x.device.type == 'cpu'
        and x.dtype == torch.float32
        and x.dim() == 4
        and x.numel() > 0
        and not torch.is_autocast_enabled('cpu')
    )


def _inner_product() -> bool:
    return INNER_PRODUCT and not (torch.is_grad_enabled() or in_transform())


def _convolution(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
    y = F.conv2d(_row(x), weight[:, :, None, None], bias, dilation=DILATION)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:3], len(weight))


def _row(x: Tensor) -> Tensor:
    """``[B, H, W, C] -> [1, C, 1, BHW]``, a view of a contiguous map."""
    return x.reshape(1, 1, -1, x.shape[3]).permute(0, 3, 1, 2)


def _add(y: Tensor, residual: Optional[Tensor]) -> Tensor:
    """The sum, into y where no gradient needs it: a new map costs time by itself."""
    if residual is None:
        return y
    return y + residual if torch.is_grad_enabled() or y.dtype != residual.dtype else y.add_(residual)


class _LinearOf(torch.autograd.Function):
    @staticmethod
    def forward(ctx, movement: Movement, x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        ctx.movement = movement
        ctx.save_for_backward(x, weight)
        return _product(weight)(movement(x), weight, bias)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad[1:]  # False for a bias that is None
        backward = _linear_backward if weight.dim() == 2 else _linear_each_backward
        grads = backward(grad, ctx.movement(x), weight, wanted)
        return None, ctx.movement.adjoint(grads[0]) if wanted[0] else None, *grads[1:]


Gradients = Tuple[Optional[Tensor], Optional[Tensor], Optional[Tensor]]  # of x, weight and bias, as far as wanted


def _linear_backward(grad: Tensor, x: Tensor, weight: Tensor, wanted: Tuple[bool, bool, bool]) -> Gradients:
    """grad ``[B, H, W, C_out]``, x ``[B, H, W, C_in]``, weight ``[C_out, C_in]``."""
    if AVX512 and _by_onednn(x):
        grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
            _row(grad),
            _row(x),
            weight[:, :, None, None],
            [len(weight)],
            [1, 1],
            [0, 0],
            [DILATION, DILATION],
            False,
            [0, 0],
            1,
            wanted,
        )
        return (
            grad_x.permute(0, 2, 3, 1).reshape(x.shape) if wanted[0] else None,
            grad_weight[:, :, 0, 0] if wanted[1] else None,
            grad_bias if wanted[2] else None,
        )
    return (
        grad @ weight if wanted[0] else None,
        grad.flatten(0, 2).T @ x.flatten(0, 2) if wanted[1] else None,
        grad.sum(dim=(0, 1, 2)) if wanted[2] else None,
    )


def _linear_each_backward(grad: Tensor, x: Tensor, weights: Tensor, wanted: Tuple[bool, bool, bool]) -> Gradients:
    """grad ``[B, H, W, C_out]``, x ``[B, H, W, C_in]``, weights ``[B, C_out, C_in]``."""
    flat = grad.flatten(1, 2)  # [B, HW, C_out]
    return (
        torch.bmm(flat, weights).unflatten(1, grad.shape[1:3]) if wanted[0] else None,
        torch.bmm(flat.transpose(1, 2), x.flatten(1, 2)) if wanted[1] else None,
        flat.sum(dim=1) if wanted[2] else None,
    )
