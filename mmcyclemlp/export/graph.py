"""The part of a model that is exported, as a module of plain tensors."""

import copy
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Tuple, Union
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mmcyclemlp.config.walk import name_of
from mmcyclemlp.inference.exported import head_of
from mmcyclemlp.inference.predictor import Predictor

KINDS = ('scores', 'boxes', 'quality')  # of a detector's maps, such as FCOS's centerness


class Graph(nn.Module):
    """Images float32 [B, C, H, W], normalised -> a tuple of tensors.

    A classifier gives logits [B, classes], a segmentor logits [B, classes, H, W], a detector of one stage its raw maps,
    and any other module what it returns. ``meta`` says how images are prepared; ``outputs`` are the tensors' names.
    Height and width are any, or multiples of ``divisor``.
    """

    def __init__(self, source: Union[Predictor, nn.Module]):
        super().__init__()
        self.scope = source.scope if isinstance(source, Predictor) else None
        # A copy: the model of the caller keeps its mode and goes on learning.
        self.model = copy.deepcopy(source.model if isinstance(source, Predictor) else source)
        self.mode = dict(mode='tensor') if self.scope else {}
        self.meta: Dict[str, Any] = dict(precision='fp32')
        if isinstance(source, Predictor):
            self.meta.update(prepared(source), num_classes=head_of(self.model, self.scope).num_classes)
        self.channels = next((m.in_channels for m in self.model.modules() if hasattr(m, 'in_channels')), 3)
        self.eval().requires_grad_(False)
        outs = self.model(torch.zeros(1, self.channels, 64, 64), **self.mode)
        self.divisor = 1
        try:
            self.model(torch.zeros(1, self.channels, 73, 73), **self.mode)  # maps of 18, 9, 5 and 3 pixels
        except RuntimeError:  # as of necks that upsample maps by two; in use, images are padded
            self.divisor = 32
        if self.scope == 'mmdet':
            self.meta['kinds'] = len(outs)
            self.outputs = [f'{kind}_{level}' for kind, maps in zip(KINDS, outs) for level in range(len(maps))]
        else:
            self.outputs = ['logits'] if self.scope else [f'map_{i}' for i in range(len(tree_leaves(outs)))]

    def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
        out = self.model(images, **self.mode)
        if self.scope == 'mmseg':
            out = F.interpolate(out, images.shape[2:], mode='bilinear', align_corners=self.model.align_corners)
        return tuple(tree_leaves(out))


def prepared(predictor: Predictor) -> Dict[str, Any]:
    """What an application has to do to an image, and what the classes are."""
    preprocessor = predictor.model.data_preprocessor
    flips = any(getattr(preprocessor, name, False) for name in ('to_rgb', '_channel_conversion', 'channel_conversion'))
    normalises = preprocessor._enable_normalize
    return dict(
        task=predictor.scope,
        prepare=[step for step in predictor.steps if not name_of(step).startswith(('Load', 'Pack'))],
        channels='grey' if predictor.reads == 'grey' else 'RGB' if flips == (predictor.reads == 'bgr') else 'BGR',
        mean=preprocessor.mean.flatten().tolist() if normalises else [0.0],
        std=preprocessor.std.flatten().tolist() if normalises else [1.0],
        pad_size_divisor=getattr(preprocessor, 'pad_size_divisor', 1),
        dataset_meta=dict(classes=predictor.style.classes, palette=predictor.style.palette),
    )


@contextmanager
def any_size() -> Iterator[None]:
    """Let mmseg's Upsample compute sizes as PyTorch does; its own, in Python's integers, become constants in a graph,
    and what the graph gives at another size is wrong without a word."""
    try:
        from mmseg.models.utils import Upsample
    except ImportError:  # then no model has one
        yield
        return

    def forward(self: Upsample, x: Tensor) -> Tensor:
        return F.interpolate(x, self.size, None if self.size else self.scale_factor, self.mode, self.align_corners)

    with patch.object(Upsample, 'forward', forward):
        yield
