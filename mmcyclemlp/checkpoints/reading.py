"""Reading checkpoints nobody vouches for, without running what they hold."""

import argparse
import contextlib
import http.client
import os
import re
import socket
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Callable, Dict, Iterator, List, Tuple, Union

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

from mmcyclemlp.errors import InputError

PathLike = Union[str, os.PathLike]

DOWNLOAD_TIMEOUT = 30  # seconds without an answer


def read_checkpoint(source: PathLike) -> Dict[str, Any]:
    """Read a checkpoint onto the CPU without running any code in it.

    Accepts tensors, plain values, what the authors published (an ``argparse.Namespace``) and what mmengine's ``Runner``
    writes (numpy values and ``HistoryBuffer``). ``mmengine.runner.load_checkpoint`` is not safe: it retries a rejected
    file with unrestricted pickle, and ``getattr`` among its safe globals is enough to reach ``os.system``.

    Args:
        source (str | os.PathLike): a file, or an ``http://``, ``https://`` or ``file://`` URL.

    Returns:
        dict: the checkpoint.

    Raises:
        InputError: the file is missing, unreachable, truncated, not a checkpoint, or holds code.
    """
    name = os.fspath(source)
    with _local_copy(name) as path:
        _check_readable(path, name)
        checkpoint = _load(path, name)
    if not isinstance(checkpoint, dict):
        raise InputError(
            f'expected a checkpoint (a dict with a state dict), but {name} holds a '
            f'{type(checkpoint).__name__}; check that it is the right file'
        )
    return checkpoint


def register_safe_loader() -> None:
    """Let mmengine read with :func:`read_checkpoint`, in ``load_from``, ``resume`` and ``init_cfg`` alike.

    A URL is then downloaded anew by each process, where mmengine keeps a copy in its cache. Whatever else calls
    ``torch.load`` gets tensors and plain values only.
    """
    os.environ.setdefault('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')

    def load_from_safe(filename: str, map_location: Any = None) -> Dict[str, Any]:
        return read_checkpoint(filename)  # what loads the state dict moves it to its own device

    def load_stream(file: Any, *args: Any, **kwargs: Any) -> Any:
        return _load(file, str(file))

    CheckpointLoader.register_scheme(['', 'http://', 'https://'], load_from_safe, force=True)
    # The loaders of all other schemes end in one of these.
    mmengine_checkpoint.load_from_http = load_from_safe
    mmengine_checkpoint._safe_torch_load = load_stream


def local_path(name: PathLike) -> Path:
    return Path(os.path.expanduser(name))


@contextlib.contextmanager
def _local_copy(name: str) -> Iterator[Path]:
    """The file itself, or a temporary download of the URL."""
    if not re.match(r'(https?|file)://', name):
        yield local_path(name)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'download'
        timeout = socket.getdefaulttimeout()
        socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)  # download_url_to_file has no argument for it
        try:
            torch.hub.download_url_to_file(name, str(path), progress=sys.stderr.isatty())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise InputError(
                f'could not download {name} ({getattr(error, "reason", error)}); check the address and '
                'the network, or download the file yourself and give its path'
            ) from error
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
        raise InputError(
            f'expected a whole checkpoint, but {name} is {"truncated" if head else "empty"}; copy or download it again'
        )


def _load(path: Any, name: str) -> Any:
    try:
        with torch.serialization.safe_globals(_safe_globals()), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # on unusual pickles, which end in the sentences below
            return torch.load(path, map_location='cpu', weights_only=True)
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


def _safe_globals() -> List[Union[Callable, Tuple[Callable, str]]]:
    """What a checkpoint may name beside tensors: values of numpy, HistoryBuffer and argparse.Namespace."""
    multiarray = (np._core if hasattr(np, '_core') else np.core).multiarray
    # numpy 1 and 2 write the same functions under different names.
    arrays = [
        (getattr(multiarray, function), f'numpy.{core}.multiarray.{function}')
        for core in ('core', '_core')
        for function in ('_reconstruct', 'scalar')
    ]
    dtypes = {type(np.dtype(code)) for code in '?bhilqBHILQefd'}
    return [
        argparse.Namespace,
        HistoryBuffer,
        slice,
        np.ndarray,
        np.dtype,
        *dtypes,
        *arrays,
        (_history_buffer_method, 'builtins.getattr'),
        # A dataset's metainfo may hold parts of its config; they come back as plain dicts.
        (dict, 'mmengine.config.config.ConfigDict'),
    ]


def _history_buffer_method(owner: Any, name: Any) -> Callable:
    """``getattr`` for ``HistoryBuffer`` only, whose methods are pickled as ``getattr(HistoryBuffer, NAME)``.

    The real ``getattr`` leads from any function through its ``__globals__`` to ``os.system``.
    """
    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise UnpicklingError('GLOBAL builtins.getattr')
    return getattr(owner, name)
