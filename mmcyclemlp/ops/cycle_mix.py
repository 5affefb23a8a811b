"""The three-branch token mixer of CycleMLP as one product of its input; ``models.layers.CycleMixer`` has the branches.

The weights of the branches depend on means only. With them known, a single product of the input, with its shifted
channels at its side, and a matrix a sample computes the mixer.
"""

from typing import NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_tensors
from .linear import linear_of
from .shift import gathering, in_transform, shifted_means


class MixerWeights(NamedTuple):
    """Parameters of one mixer over C channels."""

    shift_w: Tensor  # [C, C], kernel (1, k)
    shift_w_bias: Tensor  # [C]
    shift_h: Tensor  # [C, C], kernel (k, 1)
    shift_h_bias: Tensor  # [C]
    channel: Tensor  # [C, C]
    fc1: Tensor  # [C // 4, C]
    fc1_bias: Tensor  # [C // 4]
    fc2: Tensor  # [3C, C // 4]
    fc2_bias: Tensor  # [3C]
    proj: Tensor  # [C, C]
    proj_bias: Tensor  # [C]


def pays(x: Tensor, k: int) -> bool:
    """Whether one product is faster than the branches: the map has to be much larger than the matrix made for it.

    Near this size both cost about the same on a CPU; docs/results/speed.md has B1 with the choice (``b1``) and by its
    branches alone (``b1-shift_gemm``).
    """
    if in_transform():
        return False  # one graph for every size, and a compiler joins the passes over the maps by itself
    return x.dim() == 4 and x.shape[1] * x.shape[2] > 2 * gathering(x.shape[3], k).columns


def branch_weights(logits: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """Softmax over the branches, ``[B, 3C]`` -> three of ``[B, C]``."""
    # (B, C, 3), not (B, 3, C): the released fc2 holds the three branches of a channel side by side.
    # Rows of C channels, since PyTorch's softmax over three neighbours is not vectorised: 6 % of a training step.
    return logits.unflatten(1, (-1, 3)).transpose(1, 2).contiguous().softmax(dim=1).unbind(dim=1)


def cycle_mix(x: Tensor, weights: MixerWeights, kernel_size: int, residual: Optional[Tensor] = None) -> Tensor:
    """The mixer (``naive.cycle_mix``) as one product a sample.

    The mean of a shifted map is the sum of the map less the border that was shifted out, so ``a`` follows from
    means of x. Then ``proj(a_w * (W_w s_w(x)) + a_h * (W_h s_h(x)) + a_c * (W_c x))`` is linear in the channels
    of ``x, s_w(x), s_h(x)``. Those of offset 0 are the same in all three, so K = C + 2 C (k - 1) / k columns are
    enough, where the branches and the projection have 4 C: for k = 3 it is 7/12 of the arithmetic, in one pass.

    Args:
        x (Tensor): ``[B, H, W, C]``.
        weights (MixerWeights): the parameters.
        kernel_size (int): k, odd.
        residual (Tensor, optional): ``[B, H, W, C]``, added to the result.

    Returns:
        Tensor: ``[B, H, W, C]``.

    Raises:
        ValueError: for an x that does not fit the weights.
    """
    check_tensors(x, weights.shift_w, weights.shift_w_bias)
    k = kernel_size
    mean, mean_w, mean_h = shifted_means(x, k)  # [B, C] each
    mean = (
        F.linear(mean_w, weights.shift_w, weights.shift_w_bias)
        + F.linear(mean_h, weights.shift_h, weights.shift_h_bias)
        + F.linear(mean, weights.channel)
    )
    hidden = F.gelu(F.linear(mean, weights.fc1, weights.fc1_bias))
    a_w, a_h, a_c = (a.unsqueeze(2) for a in branch_weights(F.linear(hidden, weights.fc2, weights.fc2_bias)))

    # Columns as gathering lays them out: x, then the residues 1 to k - 1 of each shifted branch.
    centre = a_c * weights.channel  # [B, C, C]
    centre[:, :, ::k] += a_w * weights.shift_w[:, ::k] + a_h * weights.shift_h[:, ::k]
    moved = [a * weight[:, r::k] for a, weight in ((a_w, weights.shift_w), (a_h, weights.shift_h)) for r in range(1, k)]
    matrix = torch.matmul(weights.proj, torch.cat([centre, *moved], dim=2))  # [B, C, K]
    bias = a_w.squeeze(2) * weights.shift_w_bias + a_h.squeeze(2) * weights.shift_h_bias
    bias = F.linear(bias, weights.proj, weights.proj_bias)  # [B, C]
    return linear_of(gathering(x.shape[3], k), x, matrix, bias, residual)
