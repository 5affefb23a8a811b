"""Checkpoints: reading files nobody vouches for, converting the authors' weights, checking that weights fit."""
import argparse
import contextlib
import http.client
import os
import re
import socket
import sys
import tempfile
import uuid
import warnings
import zipfile
from collections import defaultdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from .errors import InputError
from .models import ARCHS, CycleMLP
from .ops import staircase_offsets
from .version import __version__

PathLike = Union[str, os.PathLike]
StateDict = Dict[str, Tensor]

DOWNLOAD_TIMEOUT = 30  # seconds without an answer


def read_checkpoint(source: PathLike) -> Dict[str, Any]:
    """Read a checkpoint onto the CPU, without ever running what it holds.

    Takes what the authors published (an ``argparse.Namespace`` among tensors) and what mmengine's ``Runner``
    writes (numpy values and ``HistoryBuffer``), and nothing else that is not a tensor or a plain value.
    ``mmengine.runner.load_checkpoint`` is no such reader: it retries a refused file with unrestricted pickle,
    and the ``getattr`` among its safe globals is enough to reach ``os.system`` without the retry.

    Args:
        source (str | os.PathLike): a file, or an ``http://``, ``https://`` or ``file://`` URL.

    Returns:
        dict: the checkpoint.

    Raises:
        InputError: the file is missing, unreachable, truncated, no checkpoint, or holds code.
    """
    name = os.fspath(source)
    with _local_copy(name) as path:
        _check_readable(path, name)
        checkpoint = _load(path, name)
    if not isinstance(checkpoint, dict):
        raise InputError(f'expected a checkpoint (a dict with a state dict), but {name} holds a '
                         f'{type(checkpoint).__name__}; check that it is the right file')
    return checkpoint


def register_safe_loader() -> None:
    """Let mmengine read with :func:`read_checkpoint`, in ``load_from``, ``resume`` and ``init_cfg`` alike.

    A URL is then downloaded anew by each process, where mmengine keeps a copy in its cache.
    """

    def load_from_safe(filename: str, map_location: Any = None) -> Dict[str, Any]:
        return read_checkpoint(filename)  # what loads the state dict moves it to its own device

    CheckpointLoader.register_scheme(['', 'http://', 'https://'], load_from_safe, force=True)


def _path(name: PathLike) -> Path:
    return Path(os.path.expanduser(name))


@contextlib.contextmanager
def _local_copy(name: str) -> Iterator[Path]:
    """The file itself, or a temporary download of the URL."""
    if not re.match(r'(https?|file)://', name):
        yield _path(name)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'download'
        timeout = socket.getdefaulttimeout()
        socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)  # download_url_to_file has no argument for it
        try:
            torch.hub.download_url_to_file(name, str(path), progress=sys.stderr.isatty())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise InputError(f'could not download {name} ({getattr(error, "reason", error)}); check the address and '
                             'the network, or download the file yourself and give its path') from error
        finally:
            socket.setdefaulttimeout(timeout)
        yield path


def _check_readable(path: Path, name: str) -> None:
    """Raise InputError for what is not a whole file; torch's own messages do not say which it is."""
    if os.path.isdir(path):
        raise InputError(f'expected a checkpoint file, but {name} is a folder; give the file in it')
    try:
        with path.open('rb') as file:
            head = file.read(4)
    except FileNotFoundError as error:
        raise InputError(f'expected a checkpoint file, but {name} does not exist; check the path') from error
    except OSError as error:
        raise InputError(f'could not read {name} ({error.strerror}); check its permissions') from error
    # torch.save writes a zip archive, whose directory stands at the end.
    if not head or (head.startswith(b'PK') and not zipfile.is_zipfile(path)):
        raise InputError(f'expected a whole checkpoint, but {name} is {"truncated" if head else "empty"}; copy or '
                         'download it again')


def _load(path: Path, name: str) -> Any:
    try:
        with torch.serialization.safe_globals(_safe_globals()), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # on unusual pickles, which end in the sentences below
            return torch.load(path, map_location='cpu', weights_only=True)
    # Bytes of any kind come here, and the unpickler fails on them with exceptions of any kind.
    except Exception as error:
        refused = re.search(r'GLOBAL (\S+)', str(error)) if isinstance(error, UnpicklingError) else None
        if refused:
            raise InputError(f'expected only tensors and plain values, but {name} asks to run {refused[1]}, and was '
                             'not read; ask its author for a file of the state dict alone') from error
        raise InputError(f'expected a checkpoint written by torch.save, but {name} is damaged or something else; '
                         'copy or download it again') from error


def _safe_globals() -> List[Union[Callable, Tuple[Callable, str]]]:
    """What a checkpoint may name beside tensors: values of numpy, HistoryBuffer and argparse.Namespace."""
    multiarray = (np._core if hasattr(np, '_core') else np.core).multiarray
    # numpy 1 and 2 write the same functions under different names.
    arrays = [(getattr(multiarray, function), f'numpy.{core}.multiarray.{function}')
              for core in ('core', '_core') for function in ('_reconstruct', 'scalar')]
    dtypes = {type(np.dtype(code)) for code in '?bhilqBHILQefd'}
    return [argparse.Namespace, HistoryBuffer, slice, np.ndarray, np.dtype, *dtypes, *arrays,
            (_history_buffer_method, 'builtins.getattr'),
            # A dataset's metainfo may hold parts of its config; they come back as plain dicts.
            (dict, 'mmengine.config.config.ConfigDict')]


def _history_buffer_method(owner: Any, name: Any) -> Callable:
    """``getattr`` for the one use that a Runner's checkpoint has for it.

    A ``HistoryBuffer`` is pickled with its four methods as ``getattr(HistoryBuffer, 'mean')`` and so on. The
    real ``getattr`` leads from any function through its ``__globals__`` to ``os.system``.
    """
    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise UnpicklingError('GLOBAL builtins.getattr')
    return getattr(owner, name)


def check_fits(model: nn.Module, checkpoint: Mapping[str, Any], path: PathLike) -> None:
    """Check that a checkpoint holds exactly the model's entries, before anything loads it non-strictly.

    Args:
        model (nn.Module): the model as the config builds it, wrapped for distributed training, for test-time
            augmentation, or not.
        checkpoint (Mapping): what :func:`read_checkpoint` returned: with ``state_dict``, or a bare state dict.
        path (str | os.PathLike): names the checkpoint in the message.

    Raises:
        InputError: names the first missing or unexpected keys and other shapes, and both archs if they differ.
    """
    name = os.fspath(path)
    state_dict = checkpoint.get('state_dict', checkpoint)
    if any(_is_original(key) for key in _original_state_dict(checkpoint)):
        raise InputError(f'expected weights of mmcyclemlp, but {name} holds original CycleMLP weights; convert them '
                         f'with `python tools/convert_checkpoint.py {name} CONVERTED.pth`')
    _check_tensors(state_dict, name)
    if is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    expected = model.state_dict()
    differences = _differences(expected, state_dict)
    if not differences:
        return
    held, built = arch_of(state_dict), arch_of(expected)
    if held and built and held != built:
        raise InputError(f'{name} holds CycleMLP {held}, the config builds CycleMLP {built}; take the config of this '
                         'checkpoint, or a checkpoint of this config')
    raise InputError(f'{name} does not fit the model of the config: {differences}; take the config it was trained '
                     "with, or give weights of the backbone alone by init_cfg=dict(type='Pretrained', "
                     "checkpoint=FILE, prefix='backbone.')")


def arch_of(state_dict: Mapping[str, Any]) -> Optional[str]:
    """``b1`` to ``b5`` by the numbers of a state dict of ours, with or without ``backbone.``; else None."""
    numbers = _numbers_of(state_dict)
    return next((arch for arch, settings in ARCHS.items() if settings == numbers), None)


def _numbers_of(state_dict: Mapping[str, Any]) -> Dict[str, Tuple[float, ...]]:
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
        mlp_ratios=tuple(blocks[0][0] / blocks[0][1] for blocks in shapes))


def _differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What separates two state dicts, the first few of each kind; empty if keys and shapes are the same."""
    reshaped = [f'{key} {list(found[key].shape)} instead of {list(value.shape)}' for key, value in expected.items()
                if key in found and found[key].shape != value.shape]
    kinds = (('missing', [key for key in expected if key not in found]),
             ('unexpected', [key for key in found if key not in expected]),
             ('of another shape', reshaped))
    return ', '.join(f'{kind} {_first(items)}' for kind, items in kinds if items)


def _first(items: Iterable[str], most: int = 3) -> str:
    items = list(items)
    # Keys come from the file: repr keeps line breaks and terminal codes out of the message.
    shown = ', '.join(repr(item)[1:-1][:120] for item in items[:most])
    return shown + (f' and {len(items) - most} more' if len(items) > most else '')


def _check_tensors(state_dict: Any, name: str) -> None:
    """Raise InputError unless this is a dict of key to real tensor."""
    if not isinstance(state_dict, Mapping) or not state_dict:
        raise InputError(f'expected a state dict, but {name} holds none; check that it is the right file')
    others = [str(key) for key, value in state_dict.items()
              if not isinstance(key, str) or not isinstance(value, Tensor)]
    if others:
        raise InputError(f'expected a state dict of tensors, but in {name} these are none: {_first(others)}; check '
                         'that it is the right file')


class Converted(NamedTuple):
    """Original weights under our names.

    ``form`` is ``classifier`` or ``dense`` (a norm an output stage, no head), ``num_classes`` None if dense.
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
        table.update({rf'network\.{2 * i}\.(\d+)\.{old}': rf'backbone.stages.{i}.\1.{new}'
                      for old, new in block.items()})
        table[rf'norm{2 * i}\.(weight|bias)'] = rf'backbone.norm{i}.\1'
        if i < 3:
            table[rf'network\.{2 * i + 1}\.proj\.(weight|bias)'] = rf'backbone.downsamples.{i}.proj.\1'
    return [(re.compile(old), new) for old, new in table.items()]


_KEY_TABLE = _key_table()
_OFFSET = re.compile(r'(network\.[0246]\.\d+\.attn\.sfc_[hw])\.offset')


def convert(state_dict: Mapping[str, Tensor], name: str = 'the state dict') -> Converted:
    """Original state dict -> ours, strictly: every key used, every shape checked, every offset compared.

    Args:
        state_dict (Mapping[str, Tensor]): of the authors' ``CycleNet``, as classifier or for dense prediction;
            key table in :func:`_key_table`, shapes [C, C, 1, 1] for the CycleFC weights.
        name (str): names the source in messages.

    Raises:
        InputError: the state dict is of another network, incomplete, or of another kernel size than 3.
    """
    _check_tensors(state_dict, name)
    unusable = [key for key, value in state_dict.items()
                if not value.is_floating_point() or value.layout is not torch.strided or value.is_meta]
    if unusable:
        raise InputError(f'expected dense floating-point tensors, but {name} holds others: {_first(unusable)}; save '
                         'the state dict in float32')
    offsets = {key: value for key, value in state_dict.items() if _OFFSET.fullmatch(key)}
    converted = _rename({key: value for key, value in state_dict.items() if key not in offsets}, name)

    arch = arch_of(converted)
    if arch is None:
        numbers = _numbers_of(converted)
        raise InputError(f'expected a CycleMLP from b1 to b5, but {name} has stages of {numbers["depths"]} blocks and '
                         f'{numbers["embed_dims"]} channels; give a file of one of them')
    form = 'classifier' if 'norm.weight' in state_dict else 'dense'
    # The dense form has four norms, or three where its code was told to leave the first out.
    out_indices = (3, ) if form == 'classifier' else (0, 1, 2, 3) if 'norm0.weight' in state_dict else (1, 2, 3)
    backbone = CycleMLP(arch, out_indices=out_indices)
    expected = {f'backbone.{key}': value for key, value in backbone.state_dict().items()}
    num_classes = None
    if form == 'classifier':
        channels = ARCHS[arch]['embed_dims'][-1]
        num_classes = converted['head.fc.weight'].numel() // channels if 'head.fc.weight' in converted else 1000
        expected['head.fc.weight'] = torch.empty(num_classes, channels, device='meta')
        expected['head.fc.bias'] = torch.empty(num_classes, device='meta')
    differences = _differences(expected, converted)
    if differences:
        raise InputError(f'expected a whole {form} CycleMLP {arch}, but {name} differs (our names): {differences}; '
                         'take the complete original file')
    _check_offsets(offsets, state_dict, name)
    backbone.load_state_dict(
        {key[len('backbone.'):]: value for key, value in converted.items() if key.startswith('backbone.')},
        strict=True)
    return Converted(arch, form, out_indices, num_classes, converted)


def convert_file(source: PathLike, target: PathLike) -> Converted:
    """Convert an original ``.pth`` (file or URL) to an mmengine checkpoint, replacing ``target`` as a whole.

    ``target`` gets ``dict(meta, state_dict)`` with ``backbone.*`` and, from a classifier, ``head.fc.*``.

    Raises:
        InputError: as :func:`read_checkpoint` and :func:`convert`, or ``target`` cannot be written; then
            nothing is left behind and an older ``target`` is as it was.
    """
    name, target = os.fspath(source), _path(target)
    _check_target(target, name)
    result = convert(_original_state_dict(read_checkpoint(name)), name)
    meta = dict(arch=result.arch, form=result.form, num_classes=result.num_classes, source=name,
                mmcyclemlp_version=__version__)
    # A clone, since torch.save writes the whole storage of a view.
    state_dict = {key: value.detach().clone() for key, value in result.state_dict.items()}
    _save(dict(meta=meta, state_dict=state_dict), target)
    return result


def _original_state_dict(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict of an original checkpoint, which lies under ``model`` or is bare, or of one of ours."""
    state_dict = checkpoint.get('model', checkpoint.get('state_dict', checkpoint))
    return state_dict if isinstance(state_dict, Mapping) else {}


def _is_original(key: Any) -> bool:
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
        raise InputError(f'expected original weights, but {name} holds CycleMLP {arch_of(state_dict)} under the names '
                         'of mmcyclemlp; use it as it is')
    unknown = [key for key in state_dict if _renamed(key) is None]
    if unknown:
        raise InputError(f'expected the keys of an original CycleMLP (such as network.0.0.attn.mlp_c.weight), but '
                         f'{name} holds {_first(unknown)}; give a file CycleMLP_B1.pth to CycleMLP_B5.pth or one of '
                         'the same network')
    converted = {}
    for key, value in state_dict.items():
        new = _renamed(key)
        if new in converted:  # `norm` and `norm6` share a place
            raise InputError(f'expected a classifier or the dense form of CycleMLP, but {name} mixes both ({key}); '
                             'give a file of one of them')
        if '.shift_' in new and value.shape[2:] == (1, 1):
            value = value.flatten(1)
        converted[new] = value
    return converted


def _check_offsets(offsets: Mapping[str, Tensor], state_dict: Mapping[str, Tensor], name: str) -> None:
    """Compare the buffers ``[1, 2C, 1, 1]`` with what our layers compute, as they are not kept.

    They are laid out as deformable convolution reads them, (dy, dx) for each channel; a file without them is
    taken to be of kernel size 3, as the released ones are.
    """
    for key, offset in offsets.items():
        layer = _OFFSET.fullmatch(key)[1]
        weight = state_dict.get(f'{layer}.weight')
        if weight is None:
            raise InputError(f'expected a weight beside each offset, but {name} holds {key} alone; take the complete '
                             'original file')
        if not _has_kernel_size(offset, layer, weight.shape[1], 3):
            other = next((k for k in range(1, 32, 2) if _has_kernel_size(offset, layer, weight.shape[1], k)), None)
            came = f'kernel size {other}' if other else 'none that CycleFC makes'
            raise InputError(f'expected the offsets of kernel size 3, but those of {name} ({key}) are of {came}; give '
                             'a file trained with kernel size 3')


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
        raise InputError(f'expected an existing folder to write into, but {target.parent} is none; create it first')
    if os.path.exists(target) and os.path.exists(_path(source)) and os.path.samefile(target, _path(source)):
        raise InputError(f'expected another file to write than the one to read, but both are {target}; give the '
                         'converted one a name of its own')


def _save(checkpoint: Dict[str, Any], target: Path) -> None:
    """Write to a temporary name beside the target, then rename: a reader never sees half a file."""
    temporary = target.with_name(f'.{uuid.uuid4().hex}.tmp')
    try:
        with temporary.open('xb') as file:
            torch.save(checkpoint, file)
        os.replace(temporary, target)
    except (OSError, RuntimeError) as error:  # torch's zip writer reports a full disk as RuntimeError
        raise InputError(f'could not write {target} ({error}); check the permissions and the free space of its folder'
                         ) from error
    finally:
        temporary.unlink(missing_ok=True)
