"""CycleMLP as a classifier in plain PyTorch, with the methods that timm expects of a model."""

from collections import OrderedDict
from typing import List, Optional, Sequence, Set, Tuple, Union, cast

from torch import Tensor, nn
from torch.nn import functional as F

from mmcyclemlp.errors import InputError

from .cyclemlp import CycleMLP
from .layers import trunc_normal_linear_


class CycleMLPClassifier(nn.Module):
    """``[B, in_channels, H, W] -> [B, num_classes]``: the backbone, the mean over positions, a linear layer.

    Its state dict has the keys of mmpretrain's ``ImageClassifier``, so checkpoints fit both.

    Args:
        backbone (CycleMLP): with the last stage among its ``out_indices``.
        num_classes (int): 0 gives the mean over positions, ``[B, C]``.
        global_pool (str): ``avg``, or an empty text to keep the map ``[B, C, H/32, W/32]``, without a linear layer.
        drop_rate (float): dropout before the linear layer.
    """

    def __init__(self, backbone: CycleMLP, num_classes: int, global_pool: str = 'avg', drop_rate: float = 0.0):
        super().__init__()
        self.backbone = backbone
        self.drop_rate = drop_rate
        self.global_pool = global_pool
        self.num_features = self.head_hidden_size = backbone.embed_dims[-1]
        self.reset_classifier(num_classes, global_pool)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """The normed map of the last stage, ``[B, C, H/32, W/32]``."""
        return self.backbone(x)[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits of a map of :meth:`forward_features`; with ``pre_logits`` what goes into the linear layer."""
        if self.global_pool:
            x = x.mean(dim=(2, 3))
        x = F.dropout(x, self.drop_rate, self.training)
        return x if pre_logits else self.head(x)

    def get_classifier(self) -> nn.Module:
        """The linear layer, or an ``nn.Identity``."""
        return cast(nn.Module, self.head.fc)

    def reset_classifier(self, num_classes: int, global_pool: Optional[str] = None) -> None:
        """Replace the linear layer by an untrained one; arguments as of the class.

        Raises:
            InputError: for another ``global_pool`` than the above, or classes without pooling.
        """
        global_pool = self.global_pool if global_pool is None else global_pool
        if global_pool not in ('avg', '') or type(num_classes) is not int or num_classes < 0:
            raise InputError(
                f"expected num_classes from 0 up and global_pool 'avg' or '', got {num_classes!r} and {global_pool!r}"
            )
        if num_classes and not global_pool:
            raise InputError(
                f"expected global_pool='avg' for {num_classes} classes, got ''; give num_classes=0 with it"
            )
        self.num_classes, self.global_pool = num_classes, global_pool
        like = next(self.backbone.parameters())
        fc: nn.Module = nn.Identity()
        if num_classes:
            fc = nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)
            trunc_normal_linear_(fc)
        self.head = nn.Sequential(OrderedDict(fc=fc))

    @property
    def feature_info(self) -> List[dict]:
        """The backbone's."""
        return [{**info, 'module': f'backbone.{info["module"]}'} for info in self.backbone.feature_info]

    def forward_intermediates(
        self,
        x: Tensor,
        indices: Union[int, Sequence[int], None] = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> Union[List[Tensor], Tuple[Tensor, List[Tensor]]]:
        """Maps of stages, as timm's models give them.

        Args:
            x (Tensor): images ``[B, in_channels, H, W]``.
            indices (int | Sequence[int], optional): that many last stages, or these; default: all.
            norm (bool): apply the last norm to the map of the last stage.
            stop_early (bool): leave out the stages that are not needed; with ``intermediates_only``.
            output_fmt (str): ``NCHW``.
            intermediates_only (bool): leave out the map of :meth:`forward_features`.

        Returns:
            list[Tensor]: maps ``[B, C_i, H_i, W_i]``; after the map of :meth:`forward_features` in a tuple, unless left
            out.

        Raises:
            InputError: a stage that does not exist; another format.
        """
        if output_fmt != 'NCHW' or (stop_early and not intermediates_only):
            raise InputError(
                'expected output_fmt NCHW, and intermediates_only with stop_early, got '
                f'{output_fmt!r}, stop_early={stop_early} and intermediates_only={intermediates_only}'
            )
        taken = self._stage_indices(indices)
        self.backbone.check_image(x)
        stages, last = self.backbone.stages, self.backbone.out_indices[-1]
        last_norm = getattr(self.backbone, f'norm{last}')
        x, maps = self.backbone.patch_embed(x), []
        for i, stage in enumerate(stages[: max(taken) + 1] if stop_early else stages):
            x = stage(self.backbone.downsamples[i - 1](x) if i else x)
            if i in taken:
                maps.append((last_norm(x) if norm and i == last else x).permute(0, 3, 1, 2).contiguous())
        return maps if intermediates_only else (last_norm(x).permute(0, 3, 1, 2).contiguous(), maps)

    def prune_intermediate_layers(
        self, indices: Union[int, Sequence[int]] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> List[int]:
        """Remove what the maps of these stages do not need; returns the numbers of the stages.

        Where the last stage goes, its norm and the head go with it, and the features are the map of the stage that is
        the last one now.
        """
        taken = self._stage_indices(indices)
        before, last = self.backbone.out_indices[-1], max(taken)
        self.backbone.stages = self.backbone.stages[: last + 1]
        self.backbone.downsamples = self.backbone.downsamples[:last]
        if prune_norm or last != before:
            delattr(self.backbone, f'norm{before}')
            setattr(self.backbone, f'norm{last}', nn.Identity())
        self.backbone.out_indices = (last,)
        self.num_features = self.head_hidden_size = self.backbone.embed_dims[last]
        if prune_head or last != before:
            self.reset_classifier(0, '')
        return taken

    def _stage_indices(self, indices: Union[int, Sequence[int], None]) -> List[int]:
        count = len(self.backbone.stages)
        if isinstance(indices, int):
            taken = list(range(count - indices, count))
        else:
            taken = [i + count if i < 0 else i for i in (range(count) if indices is None else indices)]
        if not taken or not set(taken) <= set(range(count)):
            raise InputError(
                f'expected numbers of stages from 0 to {count - 1} (or -1 to {-count}), or how many of the last, 1 to '
                f'{count}, got {indices!r}'
            )
        return taken

    def group_matcher(self, coarse: bool = False) -> dict:
        """timm's patterns of layers: with ``coarse`` a stage with the downsampling before it, else a block each."""
        blocks = r'^backbone\.stages\.(\d+)\.(\d+)', None
        downsamples = r'^backbone\.downsamples\.(\d+)', (99998,)  # after all blocks of its stage
        fine = [blocks, downsamples, (r'^backbone\.norm', (99999,))]
        stages = [
            (rf'^backbone\.(?:downsamples\.{i - 1}|stages\.{i})\.', (i,)) for i in range(len(self.backbone.stages))
        ]
        return dict(stem=r'^backbone\.patch_embed', blocks=stages if coarse else fine)

    def no_weight_decay(self) -> Set[str]:
        """The backbone's."""
        return self.backbone.no_weight_decay()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """The backbone's."""
        self.backbone.set_grad_checkpointing(enable)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> Tuple[int, int]:
        """The backbone's; the head is in the last layer."""
        return self.backbone.get_layer_depth(param_name, f'{prefix}backbone.')
