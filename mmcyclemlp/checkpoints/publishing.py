"""Weights for others: without the state of their run, under a name with their hash, and in the authors' form."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Dict, Mapping

import safetensors.torch
import torch
from torch import Tensor

from mmcyclemlp.files import written_whole
from mmcyclemlp.ops import staircase_offsets

from .state_dicts import check_tensors, save


def publish(state_dict: Mapping[str, Tensor], meta: Dict[str, Any], target: Path, half: bool = False) -> Path:
    """Write weights to ``TARGET-HASH.SUFFIX``, where HASH are the first 8 digits of the file's SHA-256.

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
    check_tensors(state_dict, target.stem)
    # Clones, since a view would bring its whole storage along.
    weights = {
        key: value.detach().cpu().to(torch.float16 if half and value.is_floating_point() else value.dtype).clone()
        for key, value in state_dict.items()
    }
    if target.suffix == '.safetensors':
        metadata = dict(format='pt', mmcyclemlp=json.dumps(meta))
        with written_whole(target) as temporary:
            temporary.write_bytes(safetensors.torch.save(weights, metadata))
    else:
        save(dict(meta=meta, state_dict=weights), target)
    digest = hashlib.sha256(target.read_bytes()).hexdigest()[:8]
    return target.rename(target.with_name(f'{target.stem}-{digest}{target.suffix}'))


def in_authors_form(state_dict: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """Weights of a classifier, or of a backbone with its norms, as the authors' code loads them strictly.

    The keys are those of their ``cycle_mlp.py``; CycleFC weights are ``[C, C, 1, 1]`` and have their ``offset`` beside
    them. What else a model has, such as a detector's head, is left out.
    """
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
    return original


def _authors_name(key: str, classifier: bool) -> 'str | None':
    """The authors' name of a key of ours; the other way round than ``converting``."""
    head = re.fullmatch(r'head\.fc\.(weight|bias)', key)
    if head:
        return f'head.{head[1]}'
    if not key.startswith('backbone.'):
        return None
    key = key.removeprefix('backbone.')
    norm = re.fullmatch(r'norm(\d)\.(weight|bias)', key)
    if norm:
        return f'norm.{norm[2]}' if classifier else f'norm{2 * int(norm[1])}.{norm[2]}'
    key = re.sub(r'^downsamples\.(\d)', lambda match: f'network.{2 * int(match[1]) + 1}', key)
    key = re.sub(r'^stages\.(\d)', lambda match: f'network.{2 * int(match[1])}', key)
    for ours, authors in (('channel', 'mlp_c'), ('shift_w', 'sfc_h'), ('shift_h', 'sfc_w')):
        key = key.replace(f'.mixer.{ours}.', f'.attn.{authors}.')
    return key.replace('.mixer.', '.attn.')
