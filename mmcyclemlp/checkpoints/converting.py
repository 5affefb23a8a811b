"""The authors' weights under our names."""

import os
import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple, cast

import torch
from torch import Tensor

from mmcyclemlp.errors import InputError
from mmcyclemlp.files import written_whole
from mmcyclemlp.models import ARCHS, CycleMLP
from mmcyclemlp.ops import staircase_offsets
from mmcyclemlp.version import __version__

from .reading import PathLike, local_path, read_checkpoint
from .state_dicts import arch_of, as_file, check_state_dict, differences, first, numbers_of, state_dict_of

StateDict = Dict[str, Tensor]


class Converted(NamedTuple):
    """The authors' weights under the names of mmcyclemlp.

    ``form`` is ``classifier``, or ``dense`` for weights with a norm per output stage and without a head. The latter
    have ``num_classes`` None.
    """

    arch: str
    form: str
    out_indices: Tuple[int, ...]
    num_classes: Optional[int]
    state_dict: StateDict


def _key_table() -> List[Tuple['re.Pattern', str]]:
    """Original key -> ours; each pattern matches a whole key."""
    block = {
        r'(norm[12]\.(?:weight|bias))': r'\2',
        r'attn\.mlp_c\.weight': 'mixer.channel.weight',
        # The authors call the layer of kernel (1, k) sfc_h, but it shifts along W; and the other way round.
        r'attn\.sfc_h\.(weight|bias)': r'mixer.shift_w.\2',
        r'attn\.sfc_w\.(weight|bias)': r'mixer.shift_h.\2',
        r'attn\.(reweight\.fc[12]\.(?:weight|bias))': r'mixer.\2',
        r'attn\.(proj\.(?:weight|bias))': r'mixer.\2',
        r'(mlp\.fc[12]\.(?:weight|bias))': r'\2',
    }
    table = {
        r'(patch_embed\.proj\.(?:weight|bias))': r'backbone.\1',
        r'norm\.(weight|bias)': r'backbone.norm3.\1',
        r'head\.(weight|bias)': r'head.fc.\1',
    }
    for i in range(4):
        # `network` alternates stages and downsamplings; a norm has the index of its stage there.
        table.update(
            {rf'network\.{2 * i}\.(\d+)\.{old}': rf'backbone.stages.{i}.\1.{new}' for old, new in block.items()}
        )
        table[rf'norm{2 * i}\.(weight|bias)'] = rf'backbone.norm{i}.\1'
        if i < 3:
            table[rf'network\.{2 * i + 1}\.proj\.(weight|bias)'] = rf'backbone.downsamples.{i}.proj.\1'
    return [(re.compile(old), new) for old, new in table.items()]


_KEY_TABLE = _key_table()
_OFFSET = re.compile(r'(network\.[0246]\.\d+\.attn\.sfc_[hw])\.offset')


def convert(state_dict: Mapping[str, Tensor], name: str = 'the state dict') -> Converted:
    """Give the authors' weights the names of mmcyclemlp. Every key must be used, every shape and offset must agree.

    Args:
        state_dict (Mapping[str, Tensor]): of the authors' ``CycleNet``, a classifier or a dense-prediction backbone,
            with the authors' keys; CycleFC weights are [C, C, 1, 1].
        name (str): the source, for messages.

    Raises:
        InputError: the state dict is of another network, incomplete, or of another kernel size than 3.
    """
    check_state_dict(state_dict, name)
    unusable = [
        key
        for key, value in state_dict.items()
        if not value.is_floating_point() or value.layout is not torch.strided or value.is_meta
    ]
    if unusable:
        raise InputError(
            f'expected dense floating-point tensors, but {name} holds others: {first(unusable)}; save '
            'the state dict in float32'
        )
    offsets = {key: value for key, value in state_dict.items() if _OFFSET.fullmatch(key)}
    converted = _rename({key: value for key, value in state_dict.items() if key not in offsets}, name)

    arch = arch_of(converted)
    if arch is None:
        numbers = numbers_of(converted)
        raise InputError(
            f'expected a CycleMLP from b1 to b5, but {name} has stages of {numbers["depths"]} blocks and '
            f'{numbers["embed_dims"]} channels; give a file of one of them'
        )
    form = 'classifier' if 'norm.weight' in state_dict else 'dense'
    # The dense form has four norms, or three where its code was told to leave the first out.
    out_indices = (3,) if form == 'classifier' else (0, 1, 2, 3) if 'norm0.weight' in state_dict else (1, 2, 3)
    with torch.device('meta'):  # for its names and shapes
        backbone = CycleMLP(arch, out_indices=out_indices)
    expected = {f'backbone.{key}': value for key, value in backbone.state_dict().items()}
    num_classes = None
    if form == 'classifier':
        channels = ARCHS[arch]['embed_dims'][-1]
        num_classes = converted['head.fc.weight'].numel() // channels if 'head.fc.weight' in converted else 1000
        expected['head.fc.weight'] = torch.empty(num_classes, channels, device='meta')
        expected['head.fc.bias'] = torch.empty(num_classes, device='meta')
    separating = differences(expected, converted)
    if separating:
        raise InputError(
            f'expected a whole {form} CycleMLP {arch}, but {name} differs (our names): {separating}; '
            'take the complete original file'
        )
    _check_offsets(offsets, state_dict, name)
    return Converted(arch, form, out_indices, num_classes, converted)


def convert_file(source: PathLike, target: PathLike) -> Converted:
    """Convert an original ``.pth`` (file or URL) to an mmengine checkpoint; ``target`` is replaced when it is complete.

    ``target`` gets ``dict(meta, state_dict)`` with ``backbone.*`` and, from a classifier, ``head.fc.*``.

    Raises:
        InputError: as :func:`read_checkpoint` and :func:`convert`, or ``target`` cannot be written.
    """
    name, target = os.fspath(source), local_path(target)
    _check_target(target, name)
    result = convert(state_dict_of(read_checkpoint(name)), name)
    meta = dict(
        arch=result.arch, form=result.form, num_classes=result.num_classes, source=name, mmcyclemlp_version=__version__
    )
    # A clone, since torch.save writes the whole storage of a view.
    state_dict = {key: value.detach().clone() for key, value in result.state_dict.items()}
    with written_whole(target) as temporary:
        temporary.write_bytes(as_file(dict(meta=meta, state_dict=state_dict)))
    return result


def is_original(key: Any) -> bool:
    return isinstance(key, str) and key.startswith('network.') and _renamed(key) is not None


def _renamed(key: str) -> Optional[str]:
    """Our name for an original key, or None."""
    for old, new in _KEY_TABLE:
        match = old.fullmatch(key)
        if match:
            return match.expand(new)
    return None


def _rename(state_dict: Mapping[str, Tensor], name: str) -> StateDict:
    """Every key by the table, CycleFC weights [C, C, 1, 1] as matrices [C, C]."""
    if arch_of(state_dict):
        raise InputError(
            f'expected original weights, but {name} holds CycleMLP {arch_of(state_dict)} under the names '
            'of mmcyclemlp; use it as it is'
        )
    unknown = [key for key in state_dict if _renamed(key) is None]
    if unknown:
        raise InputError(
            f'expected the keys of an original CycleMLP (such as network.0.0.attn.mlp_c.weight), but '
            f'{name} holds {first(unknown)}; give a file CycleMLP_B1.pth to CycleMLP_B5.pth or one of '
            'the same network'
        )
    converted = {}
    for key, value in state_dict.items():
        new = cast(str, _renamed(key))
        if new in converted:  # `norm` and `norm6` share a place
            raise InputError(
                f'expected a classifier or the dense form of CycleMLP, but {name} mixes both ({key}); '
                'give a file of one of them'
            )
        if '.shift_' in new and value.shape[2:] == (1, 1):
            value = value.flatten(1)
        converted[new] = value
    return converted


def _check_offsets(offsets: Mapping[str, Tensor], state_dict: Mapping[str, Tensor], name: str) -> None:
    """Compare the offset buffers ``[1, 2C, 1, 1]``, a pair (dy, dx) per channel, with those that our layers compute.

    A file without them is assumed to have kernel size 3, like the released ones.
    """
    for key, offset in offsets.items():
        layer = key.removesuffix('.offset')
        weight = state_dict.get(f'{layer}.weight')
        if weight is None:
            raise InputError(
                f'expected a weight beside each offset, but {name} holds {key} alone; take the complete original file'
            )
        if not _has_kernel_size(offset, layer, weight.shape[1], 3):
            other = next((k for k in range(1, 32, 2) if _has_kernel_size(offset, layer, weight.shape[1], k)), None)
            came = f'kernel size {other}' if other else 'none that CycleFC makes'
            raise InputError(
                f'expected the offsets of kernel size 3, but those of {name} ({key}) are of {came}; give '
                'a file trained with kernel size 3'
            )


def _has_kernel_size(offset: Tensor, layer: str, channels: int, k: int) -> bool:
    kernel_size = (1, k) if layer.endswith('sfc_h') else (k, 1)
    expected = torch.tensor(staircase_offsets(channels, kernel_size), dtype=offset.dtype)  # [C, 2]
    return offset.shape == (1, 2 * channels, 1, 1) and torch.equal(offset.flatten(), expected.flatten())


def _check_target(target: Path, source: str) -> None:
    """Raise InputError before the work starts, not after."""
    # os.path answers False where pathlib raises, as for a name that is too long.
    if os.path.isdir(target):
        raise InputError(f'expected a file to write, but {target} is a folder; give a name in it')
    if not os.path.isdir(target.parent):
        raise InputError(
            f'expected an existing folder to write into, but {target.parent} is not a folder; create it first'
        )
    if os.path.exists(target) and os.path.exists(local_path(source)) and os.path.samefile(target, local_path(source)):
        raise InputError(
            f'expected another file to write than the one to read, but both are {target}; give the '
            'converted one a name of its own'
        )
