"""Reading checkpoints nobody vouches for, without running what they hold."""

import contextlib
import functools
import os
import re
import tempfile
import urllib.request
import warnings
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Callable, Dict, Iterator, Union

import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

from mmcyclemlp.errors import InputError, named
from mmcyclemlp.pickles import settled, torch_globals
from mmcyclemlp.untrusted import check_regular, download, guard_libraries, parse_json

from .state_dicts import with_plain_names

PathLike = Union[str, os.PathLike]

SCHEME = 'cyclemlp://'  # of published weights
NAMED = ('open-mmlab://', 'openmmlab://', 'mmcls://', 'torchvision://', 'modelzoo://')  # in lists of the libraries
REMOTE = (r'(\S+\:)?s3://', r'(\S+\:)?petrel://', 'pavi://')


def read_checkpoint(source: PathLike) -> Dict[str, Any]:
    """Read a checkpoint onto the CPU without running any code in it.

    Accepts tensors, plain values, what the authors published (an ``argparse.Namespace``), what mmengine's ``Runner``
    writes (numpy values and ``HistoryBuffer``), and safetensors. Weights that other training code keeps elsewhere, or
    under the prefix of a wrapper, are found. ``mmengine.runner.load_checkpoint`` is not safe: it retries a rejected
    file with unrestricted pickle, and ``getattr`` among its safe globals is enough to reach ``os.system``.

    Args:
        source (str | os.PathLike): a file, an ``http://``, ``https://`` or ``file://`` URL, or ``cyclemlp://NAME`` for
            the published weights.

    Returns:
        dict: the checkpoint, without what mmengine would evaluate (``meta['config']``) and without paths to files that
        it would delete: names in the message hub are plain ones.

    Raises:
        InputError: the file is missing, unreachable, truncated, damaged by its checksums, not a checkpoint, or holds
            code.
    """
    name = os.fspath(source)
    if name.startswith(SCHEME):
        from .zoo import load_weights  # which reads by this function

        return load_weights(name)
    with _local_copy(name) as path:
        checkpoint = _read_safetensors(path, name) if _is_safetensors(path, name) else _load(path, name)
    if not isinstance(checkpoint, dict):
        raise InputError(
            f'expected a checkpoint (a dict with a state dict), but {name} holds a '
            f'{type(checkpoint).__name__}; check that it is the right file'
        )
    return with_plain_names(_disarmed(checkpoint, name))


def register_safe_loader() -> None:
    """Let mmengine read with :func:`read_checkpoint`, in ``load_from``, ``resume`` and ``init_cfg`` alike, and have all
    other readers of the libraries keep the bounds of ``mmcyclemlp.untrusted``.

    A URL is then downloaded anew by each process, where mmengine keeps a copy in its cache. Whatever else calls
    ``torch.load`` gets tensors and plain values only.
    """
    os.environ.setdefault('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    guard_libraries()
    register_safe_schemes()


def register_safe_schemes() -> None:
    """Let mmengine's checkpoint loaders read with :func:`read_checkpoint`, and leave ``torch.load`` as it is.

    ``import mmcyclemlp`` calls it, so the inferencers of OpenMMLab's libraries read safely, too.
    """
    CheckpointLoader.register_scheme(['', SCHEME, 'http://', 'https://', 'file://'], load_from_safe, force=True)
    CheckpointLoader.register_scheme(list(REMOTE), load_from_nowhere, force=True)
    # The loaders of the named schemes end in one of these.
    mmengine_checkpoint.load_from_http = load_from_safe
    mmengine_checkpoint._safe_torch_load = load_from_safe
    for scheme in NAMED:
        loader = CheckpointLoader._schemes[scheme]
        if not hasattr(loader, '__wrapped__'):
            CheckpointLoader.register_scheme(scheme, _load_from_named(loader), force=True)


_kept: Dict[str, Dict[str, Any]] = {}


def keep(source: PathLike, checkpoint: Dict[str, Any]) -> None:
    """Give mmengine a checkpoint that has been read, the next time that it asks for ``source``."""
    _kept[os.fspath(source)] = checkpoint


# mmengine logs the names of these from their eleventh letter on.
def load_from_safe(filename: Any, map_location: Any = None, **kwargs: Any) -> Dict[str, Any]:
    if isinstance(filename, (str, os.PathLike)):
        # What loads the state dict moves it to its own device.
        return _kept.pop(os.fspath(filename), None) or read_checkpoint(filename)
    return _disarmed(_load(filename, str(filename)), str(filename))


def load_from_nowhere(filename: str, map_location: Any = None) -> Dict[str, Any]:
    raise InputError(f'expected a checkpoint in a file or at an http address, got {filename}; download it first')


def _load_from_named(loader: Callable) -> Callable:
    @functools.wraps(loader)
    def load_from_named(filename: str, map_location: Any = None) -> Dict[str, Any]:
        try:
            return loader(filename, map_location)
        except (AttributeError, ImportError, LookupError, OSError, TypeError) as error:
            raise InputError(f'could not find {filename} ({named(error)}); check the name, or give a file') from error

    return load_from_named


def local_path(name: PathLike) -> Path:
    return Path(os.path.expanduser(name))


@contextlib.contextmanager
def _local_copy(name: str) -> Iterator[Path]:
    """The file itself, or a temporary download of the URL."""
    if name.startswith('file://'):
        yield Path(urllib.request.url2pathname(name[len('file://') :]))
    elif re.match('https?://', name):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'download'
            download(name, path)
            yield path
    else:
        yield local_path(name)


def _is_safetensors(path: Path, name: str) -> bool:
    """Whether it is safetensors; InputError for what is not a whole file, since torch's messages do not say which."""
    if os.path.isdir(path):
        raise InputError(f'expected a checkpoint file, but {name} is a folder; give the file in it')
    archive = False
    try:
        check_regular(path)
        with path.open('rb') as file:
            head, size = file.read(9), os.fstat(file.fileno()).st_size
        archive = head.startswith(b'PK') and zipfile.is_zipfile(path)
        if archive:
            _check_archive(path, name, size)
    except zipfile.BadZipFile:
        pass  # told below
    except FileNotFoundError as error:
        raise InputError(f'expected a checkpoint file, but {name} does not exist; check the path') from error
    except OSError as error:
        raise InputError(f'could not read {name} ({error.strerror}); check its permissions') from error
    # torch.save writes a zip archive, whose directory stands at the end.
    if not head or (head.startswith(b'PK') and not archive):
        raise InputError(
            f'expected a whole checkpoint, but {name} is {"truncated" if head else "empty"}; copy or download it again'
        )
    return head[8:] == b'{' and int.from_bytes(head[:8], 'little') < size


def _check_archive(path: Path, name: str, size: int) -> None:
    """Check the checksums in the archive; what it unpacks to is never more than the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if any(part.compress_type for part in parts) or sum(part.file_size for part in parts) > size:
                raise InputError(
                    f'expected a checkpoint written by torch.save, but {name} is compressed; save it again'
                )
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise InputError(f'{name} is damaged ({error}); copy or download it again') from error
    if damaged:
        raise InputError(f'{name} is damaged: the checksum of {damaged} in it differs; copy or download it again')


def _read_safetensors(path: Path, name: str) -> Dict[str, Any]:
    """The tensors; as a checkpoint with the names of the classes where :func:`publish` put them into the file."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
        with safe_open(path, 'pt') as file:
            card = parse_json((file.metadata() or {}).get('mmcyclemlp', 'null'), name)
        classes = card.get('dataset_meta') if isinstance(card, dict) else None
        return dict(meta=dict(dataset_meta=classes), state_dict=weights) if classes else weights
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f'expected a whole safetensors file, but {name} is damaged ({error}); copy it again'
        ) from error


def _load(path: Any, name: str) -> Any:
    try:
        with torch.serialization.safe_globals(torch_globals()), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # on unusual pickles, which end in the sentences below
            return settled(torch.load(path, map_location='cpu', weights_only=True))
    # Bytes of any kind come here, and the unpickler fails on them with exceptions of any kind.
    except Exception as error:
        refused = re.search(r'GLOBAL (\S+)', str(error)) if isinstance(error, UnpicklingError) else None
        if refused:
            raise InputError(
                f'expected only tensors and plain values, but {name} asks to run {refused[1]}, and was '
                'not read; ask its author for a file of the state dict alone'
            ) from error
        raise InputError(
            f'expected a checkpoint written by torch.save, but {name} is damaged or something else; '
            'copy or download it again'
        ) from error


def check_dataset_meta(meta: Any, name: str) -> None:
    """Raise InputError unless the names of the classes are a list, and their colours one of RGB."""
    items: Dict[str, Any] = meta if isinstance(meta, dict) else dict(classes=str(meta))
    for key, value in items.items():
        valid = dict(classes=_is_name, palette=_is_colour).get(str(key).lower())
        if valid and value is not None and not (isinstance(value, (list, tuple)) and all(map(valid, value))):
            raise InputError(
                f'expected a list of names as classes, and of RGB colours as palette, but {name} has {value!r:.80} as '
                f'{str(key).lower()}; take another file'
            )


def _is_name(value: Any) -> bool:
    return isinstance(value, (str, int))


def _is_colour(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(part in range(256) for part in value)


def _disarmed(checkpoint: Dict[str, Any], name: str) -> Dict[str, Any]:
    """Without what mmengine acts upon when a run resumes: a config that it evaluates, files that it deletes."""
    meta, hub = checkpoint.get('meta'), checkpoint.get('message_hub')
    if isinstance(meta, dict):
        meta.pop('config', None)
        for unit in ('epoch', 'iter', 'batches'):
            if type(meta.get(unit, 0)) is not int or not 0 <= meta.get(unit, 0) < 1 << 40:
                raise InputError(
                    f'expected a number from 0 up for meta[{unit!r}], but {name} has {meta[unit]!r:.50}; take another'
                )
        check_dataset_meta(meta.get('dataset_meta') or {}, name)
    found = hub.get('runtime_info') if isinstance(hub, dict) else None
    info: Dict[str, Any] = found if isinstance(found, dict) else {}
    for key, value in list(info.items()):
        if str(key).startswith(('best_ckpt', 'last_ckpt')):
            info[key] = os.path.basename(value) if isinstance(value, str) else ''
            if not re.fullmatch(r'[\w.+-]+\.pth', info[key]):
                del info[key]
        elif key in ('keep_ckpt_ids', 'old_ckpt_ids'):
            info[key] = [number for number in value if type(number) is int] if isinstance(value, list) else []
    return checkpoint
