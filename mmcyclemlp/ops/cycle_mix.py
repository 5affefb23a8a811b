"""The three-branch token mixer of CycleMLP as one function of its input and its weights.

Two forms compute it. :func:`branches` is the definition: three maps, their mean, a weighted sum, a projection.
:func:`one_product` first finds the weights of the branches, which depend on means only, and then needs a single
product of the input, with its shifted channels at its side, and a matrix a sample.
"""
from typing import NamedTuple, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_tensors
from .cycle_fc import cycle_fc, requested
from .gather import columns_of, gathering, shifted_means
from .linear import autocast_to, linear
from .reading import linear_of


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


def cycle_mix(x: Tensor, weights: MixerWeights, kernel_size: int, backend: str = 'auto') -> Tensor:
    """CycleMLP's mixer (``CycleMLP`` in the authors' ``cycle_mlp.py``), channels last.

    ``w, h, c`` are the branches ``cycle_fc(1, k)``, ``cycle_fc(k, 1)`` and a linear layer without bias;
    ``a = softmax(mlp(mean(w + h + c)))`` over the branches, for each sample and channel;
    ``y = proj(a_w * w + a_h * h + a_c * c)``.

    Args:
        x (Tensor): ``[B, H, W, C]``.
        weights (MixerWeights): the parameters.
        kernel_size (int): k, odd.
        backend (str): see :func:`cycle_fc`. Any other than ``auto`` asks for the branches, computed by it.

    Returns:
        Tensor: ``[B, H, W, C]``. Both forms are the same function; which one runs is a matter of speed.

    Raises:
        ValueError: for an x that does not fit the weights, and as :func:`cycle_fc`.
    """
    if not torch.jit.is_tracing():  # a trace would warn of each comparison
        check_tensors(x, weights.shift_w, weights.shift_w_bias)
    if requested(backend) == 'auto' and _one_product_pays(x, kernel_size):
        return one_product(x, weights, kernel_size)
    return branches(x, weights, kernel_size, backend)


def _one_product_pays(x: Tensor, k: int) -> bool:
    """Whether the map is much larger than the matrix made for it.

    Near this size both forms cost about the same on a CPU; docs/results/speed.md has B1 with the choice (``b1``) and
    by its branches alone (``b1-shift_gemm``).
    """
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False  # one graph for every size, and a compiler joins the passes over the maps by itself
    return x.shape[1] * x.shape[2] > 4 * columns_of(x.shape[3], k)


def _branch_weights(mean: Tensor, weights: MixerWeights) -> Tuple[Tensor, Tensor, Tensor]:
    """Softmax over the branches from the mean of their sum: [B, C] -> three of [B, C]."""
    a = F.linear(F.gelu(F.linear(mean, weights.fc1, weights.fc1_bias)), weights.fc2, weights.fc2_bias)
    # (B, C, 3), not (B, 3, C): the released fc2 holds the three branches of a channel side by side.
    return a.unflatten(1, (-1, 3)).softmax(dim=2).unbind(dim=2)


def branches(x: Tensor, weights: MixerWeights, kernel_size: int, backend: str = 'auto') -> Tensor:
    """The mixer by its definition; see :func:`cycle_mix`."""
    if not (torch.jit.is_tracing() or torch.compiler.is_compiling()):
        x = autocast_to(x)  # once: each branch keeps it for the backward pass
    w = cycle_fc(x, weights.shift_w, weights.shift_w_bias, (1, kernel_size), backend)
    h = cycle_fc(x, weights.shift_h, weights.shift_h_bias, (kernel_size, 1), backend)
    c = linear(x, weights.channel)
    a_w, a_h, a_c = (a[:, None, None] for a in _branch_weights((w + h + c).mean(dim=(1, 2)), weights))  # [B, 1, 1, C]
    mixed = torch.addcmul(torch.addcmul(w * a_w, h, a_h), c, a_c)
    return linear(mixed, weights.proj, weights.proj_bias)


def one_product(x: Tensor, weights: MixerWeights, kernel_size: int) -> Tensor:
    """The mixer as one product a sample; see :func:`cycle_mix`.

    The mean of a shifted map is the sum of the map less the border that was shifted out, so ``a`` follows from
    means of x. Then ``proj(a_w * (W_w s_w(x)) + a_h * (W_h s_h(x)) + a_c * (W_c x))`` is linear in the channels
    of ``x, s_w(x), s_h(x)``. Those of offset 0 are the same in all three, so K = C + 2 C (k - 1) / k columns are
    enough, where the branches and the projection have 4 C: for k = 3 it is 7/12 of the arithmetic, in one pass.
    """
    k = kernel_size
    mean, mean_w, mean_h = shifted_means(x, k)  # [B, C] each
    mean = (F.linear(mean_w, weights.shift_w, weights.shift_w_bias)
            + F.linear(mean_h, weights.shift_h, weights.shift_h_bias) + F.linear(mean, weights.channel))
    a_w, a_h, a_c = (a.unsqueeze(2) for a in _branch_weights(mean, weights))  # [B, C, 1] each

    # Columns as gathering lays them out: x, then the residues 1 to k - 1 of each shifted branch.
    centre = a_c * weights.channel  # [B, C, C]
    centre[:, :, ::k] += a_w * weights.shift_w[:, ::k] + a_h * weights.shift_h[:, ::k]
    moved = [a * weight[:, r::k] for a, weight in ((a_w, weights.shift_w), (a_h, weights.shift_h)) for r in range(1, k)]
    matrix = torch.matmul(weights.proj, torch.cat([centre, *moved], dim=2))  # [B, C, K]
    bias = a_w.squeeze(2) * weights.shift_w_bias + a_h.squeeze(2) * weights.shift_h_bias
    bias = F.linear(bias, weights.proj, weights.proj_bias)  # [B, C]
    return linear_of(gathering(k, x.shape[3]), x, matrix, bias)
