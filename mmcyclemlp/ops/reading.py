"""A linear layer of what is read from a map, which keeps the map for its backward pass, not what was read.

A shifted copy costs as much memory as the map itself, and little time to make again; the map is kept anyway, by
whatever else reads it.
"""
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from .linear import autocast_to, linear, linear_backward, linear_each, linear_each_backward


class Reading(NamedTuple):
    """A linear function of a map and its adjoint; both may be differentiated again."""
    read: torch.autograd.Function  # read.apply(x, *arguments)
    spread: torch.autograd.Function  # spread.apply(grad, *spread_arguments)
    arguments: tuple
    spread_arguments: tuple

    def __call__(self, x: Tensor) -> Tensor:
        return self.read.apply(x, *self.arguments)

    def adjoint(self, grad: Tensor) -> Tensor:
        return self.spread.apply(grad, *self.spread_arguments)


def linear_of(reading: Reading, x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
    """``linear(reading(x), weight, bias)``, or ``linear_each`` for a matrix a sample.

    Args:
        reading (Reading): ``[B, H, W, C] -> [B, H, W, K]``.
        x (Tensor): ``[B, H, W, C]``.
        weight (Tensor): ``[C_out, K]``, or ``[B, C_out, K]``.
        bias (Tensor, optional): ``[C_out]``, or ``[B, C_out]``, which is not optional.

    Returns:
        Tensor: ``[B, H, W, C_out]``, under autocast in its dtype.
    """
    if not torch.is_grad_enabled():
        return (linear if weight.dim() == 2 else linear_each)(reading(x), weight, bias)
    # As the product itself would cast them, but before the map is kept.
    x, weight, bias = (t if t is None else autocast_to(t) for t in (x, weight, bias))
    with torch.autocast(x.device.type, enabled=False):
        return _LinearOf.apply(reading, x, weight, bias)


class _LinearOf(torch.autograd.Function):

    @staticmethod
    def forward(ctx, reading: Reading, x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        ctx.reading, ctx.has_bias = reading, bias is not None
        ctx.save_for_backward(x, weight)
        return (linear if weight.dim() == 2 else linear_each)(reading(x), weight, bias)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight = ctx.saved_tensors
        _, *wanted, wants_bias = ctx.needs_input_grad
        backward = linear_backward if weight.dim() == 2 else linear_each_backward
        grads = backward(grad, ctx.reading(x), weight, (*wanted, ctx.has_bias and wants_bias))
        return None, ctx.reading.adjoint(grads[0]) if wanted[0] else None, *grads[1:]
