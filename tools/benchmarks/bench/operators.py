"""Ways to compute one CycleFC layer, and the definition they are checked against."""
from functools import partial
from typing import Callable, Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcyclemlp.models import ARCHS
from mmcyclemlp.ops import BACKENDS, cycle_fc, linear, staircase_offsets

from .agreement import Expected, check, expect
from .groups import Rival
from .memory import saved_bytes
from .timing import Captured

Kernel = Tuple[int, int]
Operator = Callable[[Tensor, Tensor, Optional[Tensor]], Tensor]
KERNELS: Tuple[Kernel, ...] = ((1, 3), (3, 1))
LIMITS = ('linear', 'linear-ours')
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def stage_shapes(arch: str, height: int, width: int, batch: int) -> List[Tuple[int, int, int, int]]:
    """``[B, H, W, C]`` of the four stages for an image: the stem makes (H + 1) // 4 rows, then halves, rounded up."""
    height, width = (height + 1) // 4, (width + 1) // 4
    shapes = []
    for channels in ARCHS[arch]['embed_dims']:
        shapes.append((batch, height, width, channels))
        height, width = (height + 1) // 2, (width + 1) // 2
    return shapes


def definition(x: Tensor, weight: Tensor, bias: Optional[Tensor], kernel_size: Kernel) -> Tensor:
    """CycleFC as its formula reads, each element fetched by its own index; the reference form.

    x ``[B, H, W, C_in]``, weight ``[C_out, C_in]`` -> ``[B, H, W, C_out]``.
    """
    _, height, width, channels = x.shape
    below, right = kernel_size[0] // 2, kernel_size[1] // 2
    offsets = torch.tensor(staircase_offsets(channels, kernel_size), device=x.device)  # [C, 2]
    padded = F.pad(x, [0, 0, right, right, below, below])
    rows = torch.arange(height, device=x.device)[:, None, None] + offsets[:, 0] + below  # [H, 1, C]
    columns = torch.arange(width, device=x.device)[:, None] + offsets[:, 1] + right  # [W, C]
    return F.linear(padded[:, rows, columns, torch.arange(channels, device=x.device)], weight, bias)


class TorchvisionOperator:
    """CycleFC as the original code calls it: torchvision's deformable convolution, its offsets made once.

    Args:
        channels (int): C_in.
        kernel_size (tuple[int, int]): (1, k) or (k, 1).
        dtype (torch.dtype): what the convolution computes in. It has no bfloat16 kernel; under autocast
            torchvision itself takes float32.
        device (torch.device): where.
    """

    def __init__(self, channels: int, kernel_size: Kernel, dtype: torch.dtype, device: torch.device):
        self.dtype = dtype
        pairs = torch.tensor(staircase_offsets(channels, kernel_size), dtype=dtype, device=device)
        self.offset = pairs.reshape(1, 2 * channels, 1, 1)

    def __call__(self, x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        from torchvision.ops import deform_conv2d
        batch, height, width, _ = x.shape
        with torch.autocast(x.device.type, enabled=False):
            out = deform_conv2d(
                x.permute(0, 3, 1, 2).to(self.dtype),  # [B, C_in, H, W]
                self.offset.expand(batch, -1, height, width),
                weight[:, :, None, None].to(self.dtype),
                None if bias is None else bias.to(self.dtype))
        return out.permute(0, 2, 3, 1).to(x.dtype)  # [B, H, W, C_out]


def torchvision_dtypes(dtype: torch.dtype, device: torch.device) -> Dict[str, torch.dtype]:
    """Suffix of a rival -> what torchvision's operator computes in for tensors of a dtype."""
    if dtype != torch.bfloat16:
        return {'': dtype}
    # Half precision is the fastest it can be made to run, though not what it does by itself.
    return {'': torch.float32, '_fp16': torch.float16} if device.type == 'cuda' else {'': torch.float32}


def operators(shape: Tuple[int, ...], kernel_size: Kernel, dtype: torch.dtype,
              device: torch.device) -> Dict[str, Operator]:
    """All ways by name.

    ``linear`` is the same product without a shift, the limit for what reads its input first; ``linear-ours`` is the
    same by the library that our backends take.
    """
    ways: Dict[str, Operator] = {name: partial(cycle_fc, kernel_size=kernel_size, backend=name)
                                 for name in ('auto', *BACKENDS)}
    for suffix, inside in torchvision_dtypes(dtype, device).items():
        ways[f'torchvision{suffix}'] = TorchvisionOperator(shape[3], kernel_size, inside, device)
    ways['linear'] = F.linear
    ways['linear-ours'] = linear
    return ways


def operator_rivals(shape: Tuple[int, int, int, int], kernel_size: Kernel, dtype: torch.dtype, device: torch.device,
                    backward: bool, mode: str, extra: Optional[Dict[str, Operator]] = None) -> List[Rival]:
    """Rivals at one CycleFC layer of C channels to C.

    Args:
        shape (tuple[int, int, int, int]): x ``[B, H, W, C]``.
        kernel_size (tuple[int, int]): (1, k) or (k, 1).
        dtype (torch.dtype): of x, weight and bias.
        device (torch.device): where.
        backward (bool): forward and the gradients of x, weight and bias, or the forward pass alone.
        mode (str): ``eager``, ``compiled``, or ``graph`` for replays of a CUDA graph.
        extra (dict[str, Callable], optional): further ways.
    """
    channels = shape[3]
    random = torch.Generator(device).manual_seed(0)
    x, grad = (torch.randn(shape, generator=random, device=device).to(dtype) for _ in range(2))
    weight = (torch.randn(channels, channels, generator=random, device=device) / channels**0.5).to(dtype)
    bias = (torch.randn(channels, generator=random, device=device) / 10).to(dtype)
    leaves = [tensor.requires_grad_(backward) for tensor in (x, weight, bias)]

    def run(operator: Operator, inputs: List[Tensor], output_grad: Tensor) -> List[Tensor]:
        if not backward:
            with torch.inference_mode():
                return [operator(*inputs)]
        out = operator(*inputs)
        return [out, *torch.autograd.grad(out, inputs, output_grad)]

    def expected(form: Operator) -> Expected:
        exact = [tensor.detach().double().requires_grad_(backward) for tensor in leaves]
        return expect(run(form, exact, grad.double()), run(form, leaves, grad), dtype)

    references = {'linear': expected(F.linear), 'cycle_fc': expected(partial(definition, kernel_size=kernel_size))}
    rivals = []
    for name, way in {**operators(shape, kernel_size, dtype, device), **(extra or {})}.items():
        if name in BACKENDS:
            reason = BACKENDS[name].unsupported_reason(x, weight, bias, kernel_size)
            if reason is not None:
                rivals.append(Rival(name, reason=reason))
                continue
        if mode == 'compiled':
            way = torch.compile(way, dynamic=False)
        call = partial(run, way, leaves, grad)
        rivals.append(Rival(
            name,
            call=Captured(call) if mode == 'graph' else call,
            check=lambda call=call, name=name: check(call(), references['linear' if name in LIMITS else 'cycle_fc']),
            saved=(lambda way=way: saved_bytes(lambda: way(*leaves), leaves[1:])) if backward else None,
            may_fail=mode == 'graph'))
    return rivals
