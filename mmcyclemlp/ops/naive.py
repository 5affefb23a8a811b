"""CycleFC and the mixer by their definitions, slow and obvious; tests and benchmarks compare everything with them."""

from typing import TYPE_CHECKING, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .offsets import staircase_offsets

if TYPE_CHECKING:
    from .cycle_mix import MixerWeights


def cycle_fc(x: Tensor, weight: Tensor, bias: Optional[Tensor], kernel_size: Tuple[int, int]) -> Tensor:
    """CycleFC as its formula reads, each element fetched by its own index.

    ``y[b, i, j, o] = bias[o] + sum_c weight[o, c] * x[b, i + dy(c), j + dx(c), c]``; reads outside the map are 0.

    Args:
        x (Tensor): ``[B, H, W, C_in]``.
        weight (Tensor): ``[C_out, C_in]``.
        bias (Tensor, optional): ``[C_out]``.
        kernel_size (tuple[int, int]): ``(1, k)`` or ``(k, 1)``.

    Returns:
        Tensor: ``[B, H, W, C_out]``.
    """
    _, height, width, channels = x.shape
    below, right = kernel_size[0] // 2, kernel_size[1] // 2
    offsets = torch.tensor(staircase_offsets(channels, kernel_size), device=x.device)  # [C_in, 2]
    padded = F.pad(x, [0, 0, right, right, below, below])
    rows = torch.arange(height, device=x.device)[:, None, None] + offsets[:, 0] + below  # [H, 1, C_in]
    columns = torch.arange(width, device=x.device)[:, None] + offsets[:, 1] + right  # [W, C_in]
    return F.linear(padded[:, rows, columns, torch.arange(channels, device=x.device)], weight, bias)


def cycle_mix(x: Tensor, weights: 'MixerWeights', kernel_size: int) -> Tensor:
    """The mixer: two shifted branches and a plain one, weighted by channel, then a projection.

    ``w, h, c`` are the branches; ``a = softmax(mlp(mean(w + h + c)))`` over the branches, for each sample and channel;
    ``y = proj(a_w * w + a_h * h + a_c * c)``.

    Args:
        x (Tensor): ``[B, H, W, C]``.
        weights (MixerWeights): the parameters.
        kernel_size (int): k, odd.

    Returns:
        Tensor: ``[B, H, W, C]``.
    """
    w = cycle_fc(x, weights.shift_w, weights.shift_w_bias, (1, kernel_size))
    h = cycle_fc(x, weights.shift_h, weights.shift_h_bias, (kernel_size, 1))
    c = F.linear(x, weights.channel)
    hidden = F.gelu(F.linear((w + h + c).mean(dim=(1, 2)), weights.fc1, weights.fc1_bias))
    a = F.linear(hidden, weights.fc2, weights.fc2_bias).unflatten(1, (-1, 3)).softmax(dim=2)  # [B, C, 3]
    a_w, a_h, a_c = (a[:, None, None, :, branch] for branch in range(3))  # [B, 1, 1, C]
    return F.linear(a_w * w + a_h * h + a_c * c, weights.proj, weights.proj_bias)
