"""CycleFC as matrix products that read shifted, in Triton, for CUDA devices.

Nothing shifted is ever written to memory: the offsets lie in the loads and stores of ``triton_kernels``. The
operators here are PyTorch's custom operators, so ``torch.compile`` and ``torch.export`` take them as they are.
"""
import os
from importlib.util import find_spec
from typing import List, Optional, Tuple

import torch
from torch import Tensor

INSTALLED = find_spec('triton') is not None
# Triton settles for its interpreter when kernels are defined, by this variable of the environment.
INTERPRETED = os.environ.get('TRITON_INTERPRET', '').lower() in ('1', 'true', 'yes', 'on', 'y')


def unsupported_reason(x: Tensor, weight: Tensor, bias: Optional[Tensor],
                       kernel_size: Tuple[int, int]) -> Optional[str]:
    """Why Triton cannot compute this call, or None."""
    if not INSTALLED:
        return "Triton is not installed; run `pip install triton`, or take backend='auto', which does without"
    if x.device.type != 'cuda' and not INTERPRETED:
        return (f"x is on {x.device} and Triton's kernels run on CUDA devices; move it there, or take "
                "backend='auto' (to test the kernels, set TRITON_INTERPRET=1 before Python starts)")
    dtype = _compute_dtype(x)
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"its kernels compute in float32, float16 and bfloat16, not {dtype}; take backend='auto'"
    if x.device.type == 'cuda':
        device = torch.cuda.get_device_properties(x.device)
        if device.major < 8:  # Triton would compile there, but to scalar products
            return (f'Triton uses the tensor cores of compute capability 8.0 or later, and {x.device} has '
                    f"{device.major}.{device.minor}; take backend='auto'")
    return None


def cycle_fc(x: Tensor, weight: Tensor, bias: Optional[Tensor], kernel_size: Tuple[int, int]) -> Tensor:
    """See ``mmcyclemlp.ops.cycle_fc``; x ``[B, H, W, C_in]`` -> ``[B, H, W, C_out]``."""
    if torch.is_autocast_enabled(x.device.type):
        # Here, so that gradients return in the dtypes of the arguments.
        dtype = _compute_dtype(x)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    return forward(x, weight, bias, list(kernel_size))


def _compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype ``F.linear`` would compute in: autocast leaves float64 alone."""
    if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def _launch(kernel: str, *tensors: Optional[Tensor], kernel_size: List[int]) -> Tensor:
    from . import triton_kernels
    dtype = tensors[0].dtype
    if INTERPRETED and dtype == torch.bfloat16:
        # The interpreter has no bfloat16 arithmetic. float32 holds the products of bfloat16 exactly.
        tensors = [None if t is None else t.float() for t in tensors]
    tensors = [None if t is None else t.contiguous() for t in tensors]
    return getattr(triton_kernels, kernel)(*tensors, kernel_size).to(dtype)


# With s the shift, <v, W s(x)> is linear in each of v, W and x. Its three partial derivatives are the operators
# below, and the derivatives of each are the other two: that closes gradients of every order.


@torch.library.custom_op('mmcyclemlp::cycle_fc_triton', mutates_args=())
def forward(x: Tensor, weight: Tensor, bias: Optional[Tensor], kernel_size: List[int]) -> Tensor:
    """``y[b, i, j, o] = bias[o] + sum_c weight[o, c] * x[b, i + dy(c), j + dx(c), c]``."""
    return _launch('forward', x, weight, bias, kernel_size=kernel_size)


@torch.library.custom_op('mmcyclemlp::cycle_fc_triton_grad_input', mutates_args=())
def grad_input(grad: Tensor, weight: Tensor, kernel_size: List[int]) -> Tensor:
    """``grad_x[b, i, j, c] = sum_o weight[o, c] * grad[b, i - dy(c), j - dx(c), o]``."""
    return _launch('grad_input', grad, weight, kernel_size=kernel_size)


@torch.library.custom_op('mmcyclemlp::cycle_fc_triton_grad_weight', mutates_args=())
def grad_weight(grad: Tensor, x: Tensor, kernel_size: List[int]) -> Tensor:
    """``grad_weight[o, c] = sum_bij grad[b, i, j, o] * x[b, i + dy(c), j + dx(c), c]``."""
    return _launch('grad_weight', grad, x, kernel_size=kernel_size)


@forward.register_fake
def _(x, weight, bias, kernel_size):
    return x.new_empty(*x.shape[:3], weight.shape[0])


@grad_input.register_fake
def _(grad, weight, kernel_size):
    return grad.new_empty(*grad.shape[:3], weight.shape[1])


@grad_weight.register_fake
def _(grad, x, kernel_size):
    return x.new_empty(grad.shape[3], x.shape[3])


def _save(ctx, inputs, output):
    left, right, *_, ctx.kernel_size = inputs
    # Each operand is needed for the gradient of the other only.
    ctx.save_for_backward(left if ctx.needs_input_grad[1] else None, right if ctx.needs_input_grad[0] else None)


def _forward_backward(ctx, grad):
    x, weight = ctx.saved_tensors
    return (None if weight is None else grad_input(grad, weight, ctx.kernel_size),
            None if x is None else grad_weight(grad, x, ctx.kernel_size),
            grad.sum((0, 1, 2), dtype=grad.dtype) if ctx.needs_input_grad[2] else None, None)


def _grad_input_backward(ctx, v):
    grad, weight = ctx.saved_tensors
    return (None if weight is None else forward(v, weight, None, ctx.kernel_size),
            None if grad is None else grad_weight(grad, v, ctx.kernel_size), None)


def _grad_weight_backward(ctx, v):
    grad, x = ctx.saved_tensors
    return (None if x is None else forward(x, v, None, ctx.kernel_size),
            None if grad is None else grad_input(grad, v, ctx.kernel_size), None)


forward.register_autograd(_forward_backward, setup_context=_save)
grad_input.register_autograd(_grad_input_backward, setup_context=_save)
grad_weight.register_autograd(_grad_weight_backward, setup_context=_save)
