"""A matrix product over the channels of a map, by the faster of PyTorch's libraries."""
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

ONEDNN = torch.backends.mkldnn.is_available()
# What torch.compile puts into its graphs for such a pair; it has no gradient.
FUSES_GELU = ONEDNN and hasattr(torch.ops.mkldnn, '_linear_pointwise')


def linear(x: Tensor, weight: Tensor, bias: Optional[Tensor] = None) -> Tensor:
    """``F.linear`` of a map: x ``[B, H, W, C_in]``, weight ``[C_out, C_in]`` -> ``[B, H, W, C_out]``.

    On a CPU in float32 a map is computed as a 1x1 convolution. That is the same product, but PyTorch gives
    convolutions to oneDNN and linear layers to MKL, whose AVX-512 kernels are for Intel's processors only: on
    others it takes twice the time (docs/results/speed.md). An exported graph keeps the linear layer.
    """
    if torch.jit.is_scripting() or torch.jit.is_tracing():
        return F.linear(x, weight, bias)
    else:
        return _convolution(x, weight, bias) if _as_convolution(x) else F.linear(x, weight, bias)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``F.gelu(linear(x, weight, bias))``, exact GELU, in one pass over the result where oneDNN can."""
    if torch.jit.is_scripting() or torch.jit.is_tracing():
        return F.gelu(F.linear(x, weight, bias))
    else:
        if _as_convolution(x) and FUSES_GELU and not (torch.is_grad_enabled() or torch.compiler.is_compiling()):
            return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'gelu', [], 'none')
        return F.gelu(linear(x, weight, bias))


def linear_each(x: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """:func:`linear` with a matrix for each sample.

    Args:
        x (Tensor): ``[B, H, W, C_in]``.
        weights (Tensor): ``[B, C_out, C_in]``.
        biases (Tensor): ``[B, C_out]``.

    Returns:
        Tensor: ``[B, H, W, C_out]``.
    """
    if _as_convolution(x) and not torch.is_grad_enabled():
        # One after the other; with gradients, the pieces of the backward pass would cost more than is gained.
        return torch.cat([_convolution(*sample) for sample in zip(x.split(1), weights, biases)])
    y = torch.baddbmm(biases.unsqueeze(1), x.flatten(1, 2), weights.transpose(1, 2))  # [B, HW, C_out]
    return y.unflatten(1, x.shape[1:3])


def linear_backward(grad: Tensor, x: Tensor, weight: Tensor, wanted: Tuple[bool, bool, bool]) -> Tuple[
        Optional[Tensor], Optional[Tensor], Optional[Tensor]]:
    """Gradients of :func:`linear`, by the library that computes it: of x, weight and bias, as far as wanted.

    Args:
        grad (Tensor): ``[B, H, W, C_out]``.
        x (Tensor): ``[B, H, W, C_in]``.
        weight (Tensor): ``[C_out, C_in]``.
        wanted (tuple[bool, bool, bool]): which gradients; None stands for the others.
    """
    if _as_convolution(x):
        grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
            grad.permute(0, 3, 1, 2), x.permute(0, 3, 1, 2), weight[:, :, None, None], [len(weight)], [1, 1], [0, 0],
            [1, 1], False, [0, 0], 1, wanted)
        return (grad_x.permute(0, 2, 3, 1) if wanted[0] else None, grad_weight[:, :, 0, 0] if wanted[1] else None,
                grad_bias if wanted[2] else None)
    return (grad @ weight if wanted[0] else None,
            grad.flatten(0, 2).T @ x.flatten(0, 2) if wanted[1] else None,
            grad.sum(dim=(0, 1, 2)) if wanted[2] else None)


def linear_each_backward(grad: Tensor, x: Tensor, weights: Tensor, wanted: Tuple[bool, bool, bool]) -> Tuple[
        Optional[Tensor], Optional[Tensor], Optional[Tensor]]:
    """:func:`linear_backward` with a matrix for each sample, weights ``[B, C_out, C_in]``."""
    flat = grad.flatten(1, 2)  # [B, HW, C_out]
    return (torch.bmm(flat, weights).unflatten(1, grad.shape[1:3]) if wanted[0] else None,
            torch.bmm(flat.transpose(1, 2), x.flatten(1, 2)) if wanted[1] else None,
            flat.sum(dim=1) if wanted[2] else None)


def autocast_to(x: Tensor) -> Tensor:
    """x in the dtype that autocast, where it is on, would give it for a product."""
    device = x.device.type
    if torch.is_autocast_enabled(device) and x.dtype in (torch.float32, torch.float16, torch.bfloat16):
        return x.to(torch.get_autocast_dtype(device))
    return x


def _as_convolution(x: Tensor) -> bool:
    return (x.device.type == 'cpu' and x.dtype == torch.float32 and not torch.is_autocast_enabled('cpu')
            and ONEDNN and not torch.compiler.is_exporting() and x.dim() == 4 and x.numel() > 0)


def _convolution(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
    # A permuted channels-last map is a channels_last tensor to the convolution, so nothing is copied.
    return F.conv2d(x.permute(0, 3, 1, 2), weight[:, :, None, None], bias).permute(0, 2, 3, 1)
