"""What a state dict holds: where it lies in a checkpoint, whose network it is, and how it differs from another."""

import io
import re
from collections import defaultdict
from typing import Any, Dict, Iterable, Mapping, Optional, Tuple

import torch
from torch import Tensor

from mmcyclemlp.errors import InputError
from mmcyclemlp.models import ARCHS

# Under which others save a state dict; averaged weights first, as timm and DINO use them.
KEYS = ('state_dict_ema', 'model_ema', 'teacher', 'state_dict', 'model')
PREFIXES = ('module.', '_orig_mod.', 'model.', 'teacher.')  # of wrappers, in front of every name


def with_plain_names(checkpoint: Dict[str, Any]) -> Dict[str, Any]:
    """A checkpoint of timm, DINO, Lightning or torch itself with its weights under ``state_dict``, or bare, as it was,
    and without the prefixes of wrappers. Of mmengine's, only that of distributed training goes."""
    keys, prefixes = (('state_dict',), PREFIXES[:1]) if 'meta' in checkpoint else (KEYS, PREFIXES)
    weights: Any = checkpoint
    for _ in range(3):  # one in another; a forged one may hold itself
        key = next((key for key in keys if isinstance(weights.get(key), Mapping)), None)
        if key is None:
            break
        checkpoint, weights = {**checkpoint, 'state_dict': weights[key]}, weights[key]
    names = weights
    while prefix := next((p for p in prefixes if names and all(str(name).startswith(p) for name in names)), None):
        names = {str(name)[len(prefix) :]: value for name, value in names.items()}
    if weights is not checkpoint.get('state_dict'):
        return names
    return {name: value for name, value in checkpoint.items() if name not in KEYS} | {'state_dict': names}


def state_dict_of(checkpoint: Mapping[str, Any]) -> Any:
    """What a checkpoint that was read has under ``state_dict``, else the checkpoint itself, as a bare state dict."""
    return checkpoint.get('state_dict', checkpoint)


def starting_weights(checkpoint: Mapping[str, Any], name: str) -> Dict[str, Any]:
    """The state dict in a checkpoint that was read; a CycleMLP without a task around it gets ``backbone.`` in front.

    Raises:
        InputError: there is none.
    """
    weights = state_dict_of(checkpoint)
    check_state_dict(weights, name)
    if arch_of(weights) and any(key.startswith('stages.') for key in weights):
        weights = {f'backbone.{key}': value for key, value in weights.items()}
    return weights


def as_file(checkpoint: Dict[str, Any]) -> bytes:
    """What ``torch.save`` writes, always the same; into a file it would put the file's name, and tell of a full disk by
    a RuntimeError."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


def arch_of(state_dict: Mapping[str, Any]) -> Optional[str]:
    """The name in ``ARCHS`` by the numbers of a state dict of ours, with or without ``backbone.``; else None."""
    numbers = numbers_of(state_dict)
    return next((arch for arch, settings in ARCHS.items() if settings == numbers), None)


def numbers_of(state_dict: Mapping[str, Any]) -> Dict[str, Tuple[float, ...]]:
    """``depths``, ``embed_dims`` and ``mlp_ratios`` as far as the first MLP layers of the stages tell."""
    stages = defaultdict(list)
    for key, value in state_dict.items():
        match = re.fullmatch(r'(?:backbone\.)?stages\.(\d)\.\d+\.mlp\.fc1\.weight', key)
        if match and value.dim() == 2 and value.shape[1]:
            stages[int(match[1])].append(tuple(value.shape))  # [ratio * C, C]
    shapes = [stages[i] for i in sorted(stages)]
    return dict(
        depths=tuple(len(blocks) for blocks in shapes),
        embed_dims=tuple(blocks[0][1] for blocks in shapes),
        mlp_ratios=tuple(blocks[0][0] / blocks[0][1] for blocks in shapes),
    )


def differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What separates two state dicts, the first few of each kind; empty if keys and shapes are the same."""
    reshaped = [
        f'{key} {list(found[key].shape)} instead of {list(value.shape)}'
        for key, value in expected.items()
        if key in found and found[key].shape != value.shape
    ]
    kinds = (
        ('missing', [key for key in expected if key not in found]),
        ('unexpected', [key for key in found if key not in expected]),
        ('of another shape', reshaped),
    )
    return ', '.join(f'{kind} {first(items)}' for kind, items in kinds if items)


def first(items: Iterable[str], most: int = 3) -> str:
    items = list(items)
    # Keys come from the file: repr keeps line breaks and terminal codes out of the message.
    shown = ', '.join(repr(item)[1:-1][:120] for item in items[:most])
    return shown + (f' and {len(items) - most} more' if len(items) > most else '')


def check_state_dict(state_dict: Any, name: str) -> None:
    """Raise InputError unless this is a dict of key to real tensor."""
    if not isinstance(state_dict, Mapping) or not state_dict:
        raise InputError(f'expected a state dict, but {name} holds none; check that it is the right file')
    others = [
        str(key) for key, value in state_dict.items() if not isinstance(key, str) or not isinstance(value, Tensor)
    ]
    if others:
        raise InputError(
            f'expected a state dict of tensors, but {name} holds something else under {first(others)}; check that it '
            'is the right file'
        )
