"""Weights for others: without the state of their run, under a name with their hash, and in the authors' form."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import safetensors.torch
import torch
from torch import Tensor, nn

from mmcyclemlp.errors import InputError
from mmcyclemlp.files import written_whole
from mmcyclemlp.models import CycleMLP
from mmcyclemlp.ops import staircase_offsets

from .converting import convert
from .state_dicts import as_file, check_state_dict


def publish(state_dict: Mapping[str, Tensor], meta: Dict[str, Any], target: Path, half: bool = False) -> Path:
    """Write weights to ``TARGET-HASH.SUFFIX``, where HASH is the first 8 digits of the file's SHA-256.

    Args:
        state_dict (Mapping[str, Tensor]): the weights.
        meta (dict): plain values; ``.safetensors`` holds them as json under ``mmcyclemlp``.
        target (Path): ends in ``.pth`` or ``.safetensors``.
        half (bool): floating-point weights as float16.

    Returns:
        Path: the file.

    Raises:
        InputError: it cannot be written, or the state dict holds something else than tensors.
    """
    check_state_dict(state_dict, target.stem)
    # Clones, since a view would bring its whole storage along.
    weights = {
        key: value.detach().cpu().to(torch.float16 if half and value.is_floating_point() else value.dtype).clone()
        for key, value in state_dict.items()
    }
    if target.suffix == '.safetensors':
        content = safetensors.torch.save(weights, dict(format='pt', mmcyclemlp=json.dumps(meta)))
    else:
        content = as_file(dict(meta=meta, state_dict=weights))
    path = target.with_name(f'{target.stem}-{hashlib.sha256(content).hexdigest()[:8]}{target.suffix}')
    with written_whole(path) as temporary:
        temporary.write_bytes(content)
    return path


def in_authors_form(state_dict: Mapping[str, Tensor], backbone: Optional[nn.Module]) -> Dict[str, Tensor]:
    """Weights of a classifier, or of a backbone with its norms, as the authors' code loads them strictly.

    The keys are those of their ``cycle_mlp.py``; CycleFC weights are ``[C, C, 1, 1]`` and have their ``offset`` beside
    them. What else a model has, such as a detector's head, is left out. ``backbone`` is the network of the weights.

    Raises:
        InputError: the authors' code has no such network.
    """
    if isinstance(backbone, CycleMLP):  # neither number is in the weights
        numbers = dict(kernel_size=backbone.kernel_size, stem_stride=backbone.patch_embed.proj.stride[0])
        if numbers != dict(kernel_size=3, stem_stride=4):
            raise _refusal(f'it has kernel_size={numbers["kernel_size"]} and stem_stride={numbers["stem_stride"]}')
    classifier = 'head.fc.weight' in state_dict
    original: Dict[str, Tensor] = {}
    for key, value in state_dict.items():
        name = _authors_name(key, classifier)
        if name is None:
            continue
        shift = re.fullmatch(r'(.*\.sfc_([hw]))\.weight', name)
        if shift:
            channels = value.shape[1]
            offsets = staircase_offsets(channels, (1, 3) if shift[2] == 'h' else (3, 1))
            original[f'{shift[1]}.offset'] = torch.tensor(offsets, dtype=torch.float32).reshape(1, 2 * channels, 1, 1)
            value = value[:, :, None, None]
        original[name] = value
    try:
        convert(original, 'it')
    except InputError as error:
        raise _refusal(str(error).partition(', but ')[2].partition(';')[0]) from error
    return original


def _refusal(reason: str) -> InputError:
    return InputError(f"expected a network that the authors' code has, but {reason}; publish it without --original")


def _authors_name(key: str, classifier: bool) -> Optional[str]:
    """The authors' name of a key of ours; the other way round than ``converting``."""
    head = re.fullmatch(r'head\.fc\.(weight|bias)', key)
    if head:
        return f'head.{head[1]}'
    if not key.startswith('backbone.'):
        return None
    key = key.removeprefix('backbone.')
    norm = re.fullmatch(r'norm(\d)\.(weight|bias)', key)
    if norm:
        return f'norm.{norm[2]}' if classifier and norm[1] == '3' else f'norm{2 * int(norm[1])}.{norm[2]}'
    key = re.sub(r'^downsamples\.(\d)', lambda match: f'network.{2 * int(match[1]) + 1}', key)
    key = re.sub(r'^stages\.(\d)', lambda match: f'network.{2 * int(match[1])}', key)
    for ours, authors in (('channel', 'mlp_c'), ('shift_w', 'sfc_h'), ('shift_h', 'sfc_w')):
        key = key.replace(f'.mixer.{ours}.', f'.attn.{authors}.')
    return key.replace('.mixer.', '.attn.')
