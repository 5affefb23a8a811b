"""CycleMLP: the backbone, for classification and for dense prediction."""

from typing import List, Optional, Sequence, Set, Tuple, Union, cast

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmcyclemlp.errors import InputError
from mmcyclemlp.ops.checks import check_backend, check_kernel_size

from .layers import STEM_PADDING, CycleBlock, Downsample, OverlapPatchEmbed

# Ours for small images, of a million parameters, and the authors' five networks (cycle_mlp.py, CycleMLP_B1 to
# CycleMLP_B5).
ARCHS = {
    'nano': dict(depths=(1, 1, 2, 1), embed_dims=(32, 64, 128, 160), mlp_ratios=(4, 4, 4, 4)),
    'b1': dict(depths=(2, 2, 4, 2), embed_dims=(64, 128, 320, 512), mlp_ratios=(4, 4, 4, 4)),
    'b2': dict(depths=(2, 3, 10, 3), embed_dims=(64, 128, 320, 512), mlp_ratios=(4, 4, 4, 4)),
    'b3': dict(depths=(3, 4, 18, 3), embed_dims=(64, 128, 320, 512), mlp_ratios=(8, 8, 4, 4)),
    'b4': dict(depths=(3, 8, 27, 3), embed_dims=(64, 128, 320, 512), mlp_ratios=(8, 8, 4, 4)),
    'b5': dict(depths=(3, 4, 24, 3), embed_dims=(96, 192, 384, 768), mlp_ratios=(4, 4, 4, 4)),
}
MIN_SIZE = 3  # the smallest image side that the 7x7 stem with padding 2 takes


# Registered in mmengine's root, where mmpretrain, mmdet and mmseg all find a scope-less type.
@MODELS.register_module()
class CycleMLP(BaseModule):
    """CycleMLP (arXiv 2107.10224), the authors' ``CycleNet`` without its classifier.

    ``[B, in_channels, H, W]`` -> a tuple of normed maps ``[B, embed_dims[i], H_i, W_i]``, one for each stage
    in ``out_indices``, at about 1/4, 1/8, 1/16 and 1/32 of any H, W from 3 up (``stem_stride`` 4).

    Args:
        arch (str | dict): ``nano``, ``b1`` to ``b5``, or a dict with ``depths``, ``embed_dims`` and ``mlp_ratios``, a
            sequence each of 1 to 4 numbers, one a stage.
        in_channels (int): channels of the image.
        kernel_size (int): k of the mixer's kernels (1, k) and (k, 1), odd. The released weights need 3.
        drop_path_rate (float): drop path of the last block; it rises linearly from 0 over all blocks.
        out_indices (Sequence[int]): stages to return, rising, from 0. Stages beyond the last are not built.
        frozen_stages (int): -1 trains all, 0 freezes the stem, n the stem and the first n stages.
        stem_stride (int): 4, or 2 or 1 for small images.
        backend (str): how CycleFC is computed; see :func:`mmcyclemlp.ops.cycle_fc`.
        with_cp (bool): recompute blocks in the backward pass, to save memory.
        init_cfg (dict, optional): mmengine's, for example
            ``dict(type='Pretrained', checkpoint=FILE, prefix='backbone.')``.

    Raises:
        ValueError: for an argument outside the above, or an image that is not
            ``[B, in_channels, H >= 3, W >= 3]``.
    """

    def __init__(
        self,
        arch: Union[str, dict] = 'b1',
        in_channels: int = 3,
        kernel_size: int = 3,
        drop_path_rate: float = 0.0,
        out_indices: Sequence[int] = (3,),
        frozen_stages: int = -1,
        stem_stride: int = 4,
        backend: str = 'auto',
        with_cp: bool = False,
        init_cfg: Optional[Union[dict, List[dict]]] = None,
    ):
        super().__init__(init_cfg=init_cfg)
        depths, embed_dims, mlp_ratios = _stage_numbers(arch)
        _check_arguments(
            len(depths), in_channels, kernel_size, drop_path_rate, out_indices, frozen_stages, stem_stride, backend
        )
        self.arch = arch
        self.in_channels = in_channels
        self.embed_dims = embed_dims
        self.kernel_size = kernel_size
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages

        # The rates run over all stages of the arch, so a network with fewer outputs keeps its own.
        last = max(1, sum(depths) - 1)
        rates = (drop_path_rate * block / last for block in range(sum(depths)))
        self.patch_embed = OverlapPatchEmbed(in_channels, embed_dims[0], stem_stride)
        self.stages = nn.ModuleList()
        self.downsamples = nn.ModuleList()
        for i in range(max(self.out_indices) + 1):
            if i > 0:
                self.downsamples.append(Downsample(embed_dims[i - 1], embed_dims[i]))
            self.stages.append(
                nn.Sequential(
                    *(
                        CycleBlock(embed_dims[i], mlp_ratios[i], kernel_size, next(rates), backend, with_cp)
                        for _ in range(depths[i])
                    )
                )
            )
            if i in self.out_indices:
                self.add_module(f'norm{i}', nn.LayerNorm(embed_dims[i]))
        for module in self._frozen_modules():
            module.requires_grad_(False)
            module.eval()

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        self.check_image(x)
        x = self.patch_embed(x)  # [B, H, W, C]
        outs = []
        for i, stage in enumerate(self.stages):
            if i > 0:
                x = self.downsamples[i - 1](x)
            x = stage(x)
            if i in self.out_indices:
                outs.append(getattr(self, f'norm{i}')(x).permute(0, 3, 1, 2).contiguous())  # [B, C, H, W]
        return tuple(outs)

    @property
    def feature_info(self) -> List[dict]:
        """Channels ``num_chs``, stride ``reduction`` and name ``module`` of each stage that is built, as timm's models
        have it."""
        stride = self.patch_embed.proj.stride[0]
        return [
            dict(num_chs=self.embed_dims[i], reduction=stride * 2**i, module=f'stages.{i}')
            for i in range(len(self.stages))
        ]

    def get_layer_depth(self, param_name: str, prefix: str = '') -> Tuple[int, int]:
        """The layer of a parameter, and the number of layers, for layer-wise learning-rate decay, as of mmpretrain's
        backbones.

        Layer 0 is the stem, then comes one for each block; a downsampling belongs to the block after it. The last
        layer holds the norms of the outputs, and what lies outside ``prefix``, such as a head.
        """
        depths = [len(cast(nn.Sequential, stage)) for stage in self.stages]
        last = sum(depths) + 1
        kind, *parts = param_name.removeprefix(prefix).split('.') if param_name.startswith(prefix) else ('',)
        if kind == 'patch_embed':
            layer = 0
        elif kind == 'downsamples':
            layer = 1 + sum(depths[: int(parts[0]) + 1])
        elif kind == 'stages':
            layer = 1 + sum(depths[: int(parts[0])]) + int(parts[1])
        else:
            layer = last
        return layer, last + 1

    def no_weight_decay(self) -> Set[str]:
        """Names of parameters that must have no weight decay: none, since there is neither a position embedding nor a
        class token. Biases and norms are left to the optimizer's settings."""
        return set()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute blocks in the backward pass, as ``with_cp`` does."""
        for stage in self.stages:
            for block in cast(nn.Sequential, stage):
                cast(CycleBlock, block).with_cp = enable

    def check_image(self, x: Tensor) -> None:
        """Raise InputError for what is no batch of images ``[B, in_channels, H, W]`` of at least 3 x 3."""
        if torch.jit.is_tracing():  # which would warn of each comparison
            return
        if not isinstance(x, Tensor):
            raise InputError(
                f'CycleMLP takes a batch of images, a tensor [B, {self.in_channels}, H, W], got a {type(x).__name__}; '
                'let a data_preprocessor make it'
            )
        if x.dim() != 4 or x.shape[1] != self.in_channels or min(x.shape[2:]) < MIN_SIZE:
            remedy = 'resize the image' if x.dim() == 4 and x.shape[1] == self.in_channels else 'set in_channels'
            raise InputError(
                f'CycleMLP takes images [B, {self.in_channels}, H, W] with H and W at least {MIN_SIZE}, '
                f'got {list(x.shape)}; {remedy if x.dim() == 4 else "give a batch"}'
            )

    def train(self, mode: bool = True) -> 'CycleMLP':
        """As ``nn.Module.train``, but frozen stages stay in evaluation mode (no drop path)."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def _frozen_modules(self) -> List[nn.Module]:
        if self.frozen_stages < 0:
            return []
        # Those of the stages that are built: out_indices may end before frozen_stages does.
        n = min(self.frozen_stages, len(self.stages))
        norms = [getattr(self, f'norm{i}') for i in self.out_indices if i < n]
        return [self.patch_embed, *self.stages[:n], *self.downsamples[: max(0, n - 1)], *norms]


def _stage_numbers(arch: Union[str, dict]) -> Tuple[Tuple[int, ...], ...]:
    """``(depths, embed_dims, mlp_ratios)`` of an arch by name or as a dict."""
    keys = ('depths', 'embed_dims', 'mlp_ratios')
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise InputError(f'arch must be one of {sorted(ARCHS)} or a dict with {list(keys)}, got {arch!r}')
        arch = ARCHS[arch]
    elif not isinstance(arch, dict) or set(arch) != set(keys):
        raise InputError(
            f'arch must be one of {sorted(ARCHS)} or a dict with exactly {list(keys)}, got '
            f'{sorted(arch) if isinstance(arch, dict) else arch!r}'
        )
    for key in keys:
        kinds = (int, float) if key == 'mlp_ratios' else (int,)
        if not isinstance(arch[key], (tuple, list)) or not all(isinstance(number, kinds) for number in arch[key]):
            what = 'numbers' if float in kinds else 'whole numbers'
            raise InputError(f'{key} must be a sequence of {what}, got {arch[key]!r}')
    numbers = tuple(tuple(arch[key]) for key in keys)
    if len({len(n) for n in numbers}) != 1 or not 1 <= len(numbers[0]) <= 4:
        raise InputError(f'depths, embed_dims and mlp_ratios must be equally long, 1 to 4 stages, got {arch}')
    hidden = [int(channels * ratio) for channels, ratio in zip(*numbers[1:])]
    if min(numbers[0]) < 1 or min(numbers[1]) < 4 or min(hidden) < 1:
        raise InputError(f'every stage needs at least 1 block, 4 channels and 1 hidden unit in its MLPs, got {arch}')
    return numbers


def _check_arguments(
    num_stages: int,
    in_channels: int,
    kernel_size: int,
    drop_path_rate: float,
    out_indices: Sequence[int],
    frozen_stages: int,
    stem_stride: int,
    backend: str,
) -> None:
    if not isinstance(in_channels, int) or in_channels < 1:
        raise InputError(f'in_channels must be a whole number from 1 up, got {in_channels!r}')
    if not isinstance(kernel_size, int):
        raise InputError(f'kernel_size of the backbone is one odd number for both directions, got {kernel_size!r}')
    check_kernel_size((1, kernel_size))
    check_backend(backend)
    if not isinstance(drop_path_rate, (int, float)) or not 0 <= drop_path_rate < 1:
        raise InputError(f'drop_path_rate must lie in [0, 1), got {drop_path_rate!r}')
    indices = list(out_indices) if isinstance(out_indices, (tuple, list, range)) else []
    if not indices or indices != [stage for stage in range(num_stages) if stage in indices]:
        raise InputError(
            f'out_indices must be rising stage numbers from 0 to {num_stages - 1}, such as '
            f'{tuple(range(num_stages))}, got {out_indices!r}'
        )
    if frozen_stages not in range(-1, num_stages + 1):
        raise InputError(
            f'frozen_stages must be -1 (train all), 0 (freeze the stem) or the number of stages to '
            f'freeze, up to {num_stages}, got {frozen_stages!r}'
        )
    if stem_stride not in list(STEM_PADDING):  # a list may not be looked up in a dict
        raise InputError(f'stem_stride must be one of {sorted(STEM_PADDING)}, got {stem_stride!r}')
