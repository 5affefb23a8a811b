"""The layers of CycleMLP: parameters and their initial values; the mathematics lies in ``mmcyclemlp.ops``."""

from types import NoneType
from typing import Any, Dict, Optional, Tuple, Type, TypeGuard, TypeVar, Union, cast

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook
from torch.utils.checkpoint import checkpoint

from mmcyclemlp.ops import MixerWeights, cycle_fc, cycle_mix, linear, linear_gelu
from mmcyclemlp.ops.checks import check_backend, check_kernel_size
from mmcyclemlp.ops.cycle_fc import requested
from mmcyclemlp.ops.cycle_mix import branch_weights, pays
from mmcyclemlp.ops.linear import autocast_to
from mmcyclemlp.ops.shift import in_transform

# The authors pad the 7x7 stem of stride 4 by 2 (cycle_mlp.py, PatchEmbedOverlapping); smaller strides, ours
# for small images, by 3, so that a map of H x W becomes ceil(H / stride) x ceil(W / stride) there too.
STEM_PADDING = {4: 2, 2: 3, 1: 3}
Module = TypeVar('Module', bound=nn.Module)


def trunc_normal_linear_(layer: Union[nn.Linear, 'CycleFC']) -> None:
    """The authors' initialisation of a matrix product: truncated normal of std 0.02, bias 0."""
    nn.init.trunc_normal_(layer.weight, std=0.02)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def as_built(module: nn.Module, kind: Type[Module]) -> TypeGuard[Module]:
    """Whether calling a module is no more than the ``forward`` of the class it was built as.

    False for another class (LoRA, adapters, quantised layers, parametrisations, FSDP), for hooks, and for parameters
    that are not plain tensors. Whoever computes with a child's parameters instead of calling it has to ask first.
    """
    return (
        type(module) is kind
        and 'forward' not in vars(module)
        and not _has_any_global_hook()
        and not (
            module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
        )
        and all(type(p) in (nn.Parameter, Tensor, NoneType) for p in module._parameters.values())
    )


def call_linear(layer: nn.Module, x: Tensor, residual: Optional[Tensor] = None) -> Tensor:
    """``layer(x)``, plus the residual; by the fastest library if the layer is a plain ``nn.Linear``."""
    if as_built(layer, nn.Linear):
        return linear(x, layer.weight, layer.bias, residual)
    x = layer(x)
    return x if residual is None else x + residual


class CycleFC(nn.Module):
    """Cycle fully-connected layer (CycleMLP, arXiv 2107.10224, section 3.2), channels last.

    ``[B, H, W, C_in] -> [B, H, W, C_out]`` at any H and W; the function is :func:`mmcyclemlp.ops.cycle_fc`.

    Args:
        in_channels (int): C_in.
        out_channels (int): C_out.
        kernel_size (tuple[int, int]): ``(1, k)`` shifts along W, ``(k, 1)`` along H; k odd.
        bias (bool): whether to learn a bias.
        backend (str): see :func:`mmcyclemlp.ops.cycle_fc`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Tuple[int, int],
        bias: bool = True,
        backend: str = 'auto',
    ):
        super().__init__()
        check_kernel_size(kernel_size)
        check_backend(backend)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = (kernel_size[0], kernel_size[1])
        self.backend = backend
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        trunc_normal_linear_(self)

    def forward(self, x: Tensor) -> Tensor:
        return cycle_fc(x, self.weight, self.bias, self.kernel_size, self.backend)

    def extra_repr(self) -> str:
        return (
            f'{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, '
            f'bias={self.bias is not None}, backend={self.backend!r}'
        )


class Mlp(nn.Module):
    """Linear - GELU - Linear over the channels of a map, ``[B, H, W, C] -> [B, H, W, out]``.

    A ``residual`` ``[B, H, W, out]`` is added to the result.
    """

    def __init__(self, channels: int, hidden_channels: int, out_channels: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden_channels)
        self.fc2 = nn.Linear(hidden_channels, out_channels)
        for layer in (self.fc1, self.fc2):
            trunc_normal_linear_(layer)

    def forward(self, x: Tensor, residual: Optional[Tensor] = None) -> Tensor:
        if as_built(self.fc1, nn.Linear):
            x = linear_gelu(x, self.fc1.weight, self.fc1.bias)
        else:
            x = F.gelu(self.fc1(x))
        return call_linear(self.fc2, x, residual)


class CycleMixer(nn.Module):
    """Token mixer of CycleMLP: two shifted branches and a plain one, weighted by channel (the authors' ``CycleMLP``).

    ``[B, H, W, C] -> [B, H, W, C]``. The branches are summed and averaged over H and W. An MLP of these means and a
    softmax over the branches give the weights, one for each branch, sample and channel. A linear layer follows.
    ``forward`` adds a ``residual`` ``[B, H, W, C]`` to the result, if it gets one.

    On large maps, one product computes all of it without calling the children. It does so only while all of them are
    as they were built.

    Args:
        channels (int): C.
        kernel_size (int): k of the kernels (1, k) and (k, 1) of the shifted branches, odd.
        backend (str): see :func:`mmcyclemlp.ops.cycle_fc`.
    """

    def __init__(self, channels: int, kernel_size: int = 3, backend: str = 'auto'):
        super().__init__()
        self.kernel_size = kernel_size
        self.backend = backend
        self.shift_w = CycleFC(channels, channels, (1, kernel_size), backend=backend)
        self.shift_h = CycleFC(channels, channels, (kernel_size, 1), backend=backend)
        self.channel = nn.Linear(channels, channels, bias=False)
        self.reweight = Mlp(channels, channels // 4, channels * 3)
        self.proj = nn.Linear(channels, channels)
        for layer in (self.channel, self.proj):
            trunc_normal_linear_(layer)

    def forward(self, x: Tensor, residual: Optional[Tensor] = None) -> Tensor:
        if requested(self.backend) == 'auto' and pays(x, self.kernel_size) and self._children_as_built():
            return cycle_mix(x, self.weights(), self.kernel_size, residual)
        return self._branches(x, residual)

    def _branches(self, x: Tensor, residual: Optional[Tensor] = None) -> Tensor:
        if not in_transform():
            x = autocast_to(x)  # once: each branch keeps it for the backward pass
        w, h, c = self.shift_w(x), self.shift_h(x), call_linear(self.channel, x)
        logits = self.reweight(sum(branch.mean(dim=(1, 2)) for branch in (w, h, c)))  # [B, 3C]
        a_w, a_h, a_c = (a[:, None, None] for a in branch_weights(logits))  # [B, 1, 1, C]
        mixed = torch.addcmul(torch.addcmul(w * a_w, h, a_h), c, a_c)
        return call_linear(self.proj, mixed, residual)

    def weights(self) -> MixerWeights:
        """The parameters of the children."""
        bias_w, bias_h = cast(Tensor, self.shift_w.bias), cast(Tensor, self.shift_h.bias)  # built with one
        return MixerWeights(
            self.shift_w.weight,
            bias_w,
            self.shift_h.weight,
            bias_h,
            self.channel.weight,
            self.reweight.fc1.weight,
            self.reweight.fc1.bias,
            self.reweight.fc2.weight,
            self.reweight.fc2.bias,
            self.proj.weight,
            self.proj.bias,
        )

    def _children_as_built(self) -> bool:
        shifts, k = (self.shift_w, self.shift_h), self.kernel_size
        return (
            as_built(self.shift_w, CycleFC)
            and as_built(self.shift_h, CycleFC)
            and as_built(self.reweight, Mlp)
            and all(
                as_built(layer, nn.Linear) for layer in (self.channel, self.proj, self.reweight.fc1, self.reweight.fc2)
            )
            and [shift.kernel_size for shift in shifts] == [(1, k), (k, 1)]
            and all(shift.bias is not None and requested(shift.backend) == 'auto' for shift in shifts)
            and self.channel.bias is None
        )


class CycleBlock(nn.Module):
    """Pre-norm residual block of a mixer and an MLP over channels, ``[B, H, W, C] -> [B, H, W, C]``.

    Args:
        channels (int): C.
        mlp_ratio (float): hidden channels of the MLP, over C.
        kernel_size (int): that of :class:`CycleMixer`.
        drop_path_rate (float): probability with which a sample skips a branch in training.
        backend (str): see :func:`mmcyclemlp.ops.cycle_fc`.
        with_cp (bool): recompute the block in the backward pass, to save memory.
    """

    def __init__(
        self,
        channels: int,
        mlp_ratio: float = 4.0,
        kernel_size: int = 3,
        drop_path_rate: float = 0.0,
        backend: str = 'auto',
        with_cp: bool = False,
    ):
        super().__init__()
        self.with_cp = with_cp
        self.norm1 = nn.LayerNorm(channels)
        self.mixer = CycleMixer(channels, kernel_size, backend)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, int(channels * mlp_ratio), channels)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        if self.with_cp and x.requires_grad:
            return checkpoint(self._forward, x, use_reentrant=False)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        if self._adds_inside():
            x = self.mixer(self.norm1(x), x)
            return self.mlp(self.norm2(x), x)
        x = x + self.drop_path(self.mixer(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _adds_inside(self) -> bool:
        """Whether the last products may add the residuals: in evaluation, and if nobody listens between the two."""
        return (
            not (self.drop_path.training or torch.is_grad_enabled() or in_transform())
            and as_built(self.mixer, CycleMixer)
            and as_built(self.mlp, Mlp)
            and as_built(self.drop_path, DropPath)
        )


class OverlapPatchEmbed(nn.Module):
    """Stem of CycleMLP, a 7x7 convolution: ``[B, C_in, H, W] -> [B, ceil(H/s), ceil(W/s), C]``.

    With stride 4, it pads by 2 as the authors do, and gives ``(H + 1) // 4`` rows. Weights for RGB are adapted when
    they are loaded for another C_in.

    Args:
        in_channels (int): C_in.
        channels (int): C.
        stride (int): s: 4, 2 or 1.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 4):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, 7, stride, STEM_PADDING[stride])

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).permute(0, 2, 3, 1).contiguous()  # [B, H, W, C]

    def _load_from_state_dict(self, state_dict: Dict[str, Any], prefix: str, *args: Any) -> None:
        key, channels = f'{prefix}proj.weight', self.proj.in_channels
        weight = state_dict.get(key)
        if isinstance(weight, Tensor) and weight.dim() == 4 and weight.shape[1] == 3 != channels:
            print_log(f'{key}: weights for 3 channels adapted to {channels}', 'current')
            state_dict[key] = inflated(weight, channels)
        super()._load_from_state_dict(state_dict, prefix, *args)


def inflated(weight: Tensor, in_channels: int) -> Tensor:
    """The weight ``[C, 3, kH, kW]`` of a stem for other channels, so that equal channels give what they gave before.

    One or two get equal parts of the sum of the three; more get the three in turn, each divided among its copies.
    """
    channels = weight.shape[1]
    if in_channels < channels:
        return (weight.sum(dim=1, keepdim=True) / in_channels).repeat(1, in_channels, 1, 1)
    index = torch.arange(in_channels) % channels
    return weight[:, index] / index.bincount()[index].view(1, -1, 1, 1)


class Downsample(nn.Module):
    """Between two stages, a 3x3 convolution of stride 2: ``[B, H, W, C_in] -> [B, ceil(H/2), ceil(W/2), C_out]``."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, out_channels, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        # A permuted channels-last map is a channels_last tensor to the convolution, so nothing is copied.
        return self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()
