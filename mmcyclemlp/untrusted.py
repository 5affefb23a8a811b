"""Files nobody vouches for: annotations, images, settings. Their bounds, and the libraries' readers made to keep them.

Checkpoints are read by :mod:`mmcyclemlp.checkpoints`.
"""

import codecs
import functools
import hashlib
import http.client
import json
import math
import os
import re
import stat
import sys
import tempfile
import time
import urllib.request
import warnings
from pathlib import Path
from typing import Any, Callable, Optional, Union

import cv2
import yaml
from mmengine.fileio.backends import HTTPBackend, LocalBackend
from mmengine.fileio.handlers import JsonHandler, PickleHandler, YamlHandler, file_handlers
from PIL import EpsImagePlugin, Image
from torch.hub import tqdm  # or torch's stand-in, where it is not installed

from . import images, pickles
from .errors import InputError
from .files import written_whole

FILE_BYTES = 8 << 30
JSON_BYTES = 2 << 30
JSON_CONTAINERS = 20_000_000  # lists and dicts; COCO's 118,000 training images have 5 million
YAML_BYTES = 16 << 20
YAML_NODES = 1_000_000  # with every alias counted as often as it is used
DOWNLOAD_BYTES = 8 << 30
DOWNLOAD_TIMEOUT = 30  # seconds without an answer
DOWNLOAD_SECONDS = 3600  # in all

_last_read = 'the file'  # for sentences of readers that are given bytes only


def check_regular(path: Union[str, os.PathLike], most: int = FILE_BYTES) -> None:
    """Raise InputError for a device, a pipe, or a file of more than ``most`` bytes; OSError if it is not there."""
    global _last_read
    _last_read, status = os.fspath(path), os.stat(path)
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise InputError(f'expected a file, but {path} is a device or a pipe; give a regular file')
    if status.st_size > most:
        raise InputError(f'expected a file of at most {most:,} bytes, but {path} has {status.st_size:,}; split it')


def read_text(path: Union[str, os.PathLike], most: int = JSON_BYTES) -> str:
    """Text of a file in UTF-8, or as a byte order mark, an XML declaration or a coding line of Python says.

    Raises:
        InputError: the bytes are none of these, or more than ``most``; OSError if it cannot be opened.
    """
    check_regular(path, most)
    data = Path(path).read_bytes()
    named = re.match(rb'<\?xml[^>]*?encoding=["\']([\w.-]+)|#.*?coding[:=]\s*([\w.-]+)', data[:200])
    # As Windows writes it, also without the mark; UTF-32's begins as UTF-16's does.
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        encoding = 'utf-32'
    elif data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = 'utf-16'
    elif b'\0' in data[:2]:
        encoding = 'utf-16-be' if data[0] == 0 else 'utf-16-le'
    else:
        encoding = (named[1] or named[2]).decode() if named else 'utf-8-sig'
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        raise InputError(f'expected text in UTF-8, but {path} holds other bytes ({error}); save it as UTF-8') from error


def read_json(path: Path, what: str = 'json') -> Any:
    """Read a json file within the bounds; InputError if it is not ``what``."""
    try:
        return parse_json(read_text(path), str(path), what)
    except OSError as error:
        raise InputError(f'could not read {path} ({error}); copy or make it again') from error


def parse_json(text: str, name: str, what: str = 'json') -> Any:
    """As ``json.loads``; InputError for text beyond the bounds or broken."""
    count = text.count('[') + text.count('{')
    if count > JSON_CONTAINERS or len(text) > JSON_BYTES:
        raise InputError(
            f'expected {what} of at most {JSON_CONTAINERS:,} lists and dicts and {JSON_BYTES:,} characters, but '
            f'{name} has {count:,} and {len(text):,}; split it'
        )
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f'expected {what}, but {name} is no whole json ({error.msg}, line {error.lineno} column {error.colno}); '
            'copy or make it again'
        ) from error
    except (RecursionError, ValueError) as error:  # of a number of more than 4,300 digits
        reason = 'is nested too deeply' if isinstance(error, RecursionError) else 'holds a number that is too long'
        raise InputError(f'expected {what}, but {name} {reason}; make it again') from error


def parse_yaml(text: str, name: str) -> Any:
    """As ``yaml.safe_load``; InputError for text beyond the bounds, with tags of Python, or broken."""
    try:
        if len(text) > YAML_BYTES:
            raise ValueError(f'more than {YAML_BYTES:,} characters')
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is not None and _expanded(node, {}) > YAML_NODES:
            raise ValueError(f'more than {YAML_NODES:,} values, aliases counted as often as they are used')
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        reason = 'nested too deeply' if isinstance(error, RecursionError) else ' '.join(str(error).split())
        raise InputError(f'{name} is not valid YAML ({reason}); correct it') from error


def _expanded(node: Any, known: dict) -> int:
    """Number of values at and below a node, were each alias written out."""
    if id(node) not in known:
        known[id(node)] = YAML_NODES + 1  # if it leads back to itself
        parts = node.value if isinstance(node.value, list) else ()
        known[id(node)] = 1 + sum(
            _expanded(each, known) for part in parts for each in (part if isinstance(part, tuple) else (part,))
        )
    return known[id(node)]


def parse_pickle(data: bytes, name: str, encoding: str = 'ASCII') -> Any:
    """Read a pickle of plain values and numpy arrays; InputError for any other, and nothing of it has run."""
    try:
        return pickles.loads(data, encoding)
    except Exception as error:  # a damaged pickle fails in any way
        asks = re.search(r'GLOBAL (.+)', str(error))
        reason = f'asks to run {asks[1]}, and was not read' if asks else f'is damaged ({error!r:.200})'
        raise InputError(
            f'expected a pickle of plain values and numpy arrays, but {name} {reason}; make it again, or as json'
        ) from error


def most_pixels() -> float:
    """Of an image: twice ``PIL.Image.MAX_IMAGE_PIXELS``, which is Pillow's own bound."""
    return math.inf if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def download(url: str, path: Path) -> None:
    """Download within the bounds. A name such as ``NAME-1a2b3c4d.pth`` holds the first digits of the SHA-256.

    Raises:
        InputError: it cannot be reached, has another checksum, or is beyond a bound.
    """
    try:
        digest, got, start = hashlib.sha256(), 0, time.monotonic()
        request = urllib.request.Request(url, headers={'User-Agent': 'mmcyclemlp'})
        with urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT) as answer, path.open('wb') as file:
            length = int(answer.headers.get('Content-Length') or 0)
            bar = tqdm(total=length or None, unit='B', unit_scale=True, disable=not sys.stderr.isatty())
            while chunk := answer.read1(1 << 20):
                got += len(chunk)
                if max(got, length) > DOWNLOAD_BYTES:
                    raise OSError(f'it has more than {DOWNLOAD_BYTES:,} bytes')
                if time.monotonic() - start > DOWNLOAD_SECONDS:
                    raise OSError(f'it took more than {DOWNLOAD_SECONDS} s')
                digest.update(chunk)
                file.write(chunk)
                bar.update(len(chunk))
            bar.close()
        if got < length:
            raise OSError(f'it ended after {got:,} of {length:,} bytes')
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise InputError(
            f'could not download {url} ({getattr(error, "reason", error)}); check the address and '
            'the network, or download the file yourself and give its path'
        ) from error
    named = re.search(r'-(?!20\d{6}\.)([0-9a-f]{8,64})\.\w+$', url)  # eight digits may be a date
    if named and not digest.hexdigest().startswith(named[1]):
        raise InputError(
            f'expected a file whose SHA-256 starts with {named[1]}, as its name says, but {url} has '
            f'{digest.hexdigest()[:8]}; download it again, or from elsewhere'
        )


class _Json(JsonHandler):
    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        return parse_json(file.read(), _last_read)


class _Yaml(YamlHandler):
    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        return parse_yaml(file.read(), _last_read)


class _Pickle(PickleHandler):
    def load_from_fileobj(self, file: Any, encoding: str = 'ASCII', **kwargs: Any) -> Any:
        return parse_pickle(file.read(), _last_read, encoding)


def guard_libraries() -> None:
    """Have mmengine, mmcv and Pillow keep the bounds in this process and those it forks."""
    if isinstance(file_handlers['json'], _Json):
        return
    for suffixes, handler in ((('json',), _Json()), (('yaml', 'yml'), _Yaml()), (('pickle', 'pkl'), _Pickle())):
        file_handlers.update(dict.fromkeys(suffixes, handler))
    LocalBackend.get = _get
    LocalBackend.get_text = lambda self, filepath, encoding='utf-8': read_text(filepath)
    LocalBackend.list_dir_or_file = _visible(LocalBackend.list_dir_or_file)
    LocalBackend.put = _put  # by which checkpoints are written
    HTTPBackend.get = _downloaded
    HTTPBackend.get_text = lambda self, url, encoding='utf-8': _downloaded(self, url).decode(encoding)
    EpsImagePlugin.gs_binary = False  # PostScript is a program, and Ghostscript would run it
    warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)  # beyond half the bound

    import mmcv

    decode, to_array = mmcv.imfrombytes, mmcv.image.io._pillow2array

    @functools.wraps(decode)
    def imfrombytes(
        content: bytes, flag: Any = 'color', channel_order: str = 'bgr', backend: Optional[str] = None
    ) -> Any:
        try:
            if images.needs_pillow(content, _last_read, flag) and backend in (None, 'cv2'):
                backend = 'pillow'
            pixels = decode(content, flag, channel_order, backend)
        except InputError:
            raise
        except (cv2.error, *images.UNREADABLE) as error:
            if getattr(error, 'code', None) == cv2.Error.StsNoMem:  # of too large an image, which is whole
                raise MemoryError(str(error)) from error
            raise images.unreadable(content, _last_read, error) from error
        if pixels is None:
            raise images.unreadable(content, _last_read)
        return pixels

    @functools.wraps(to_array)
    def pillow_to_array(image: Image.Image, flag: str = 'color', channel_order: str = 'bgr') -> Any:
        if flag != 'unchanged':
            image = images.eight_bits(image, _last_read)
            if image.mode == 'LA':  # which mmcv would blend with a colour, where OpenCV leaves the alpha out
                image = image.convert('L')
        return to_array(image, flag, channel_order)

    mmcv.imfrombytes = mmcv.image.imfrombytes = mmcv.image.io.imfrombytes = imfrombytes
    mmcv.image.io._pillow2array = pillow_to_array


def _visible(method: Callable) -> Callable:
    """The libraries leave hidden files out, but take hidden folders for classes and read what lies in them."""

    @functools.wraps(method)
    def visible(self: Any, *args: Any, **kwargs: Any) -> Any:
        return (name for name in method(self, *args, **kwargs) if not re.search(r'(^|[/\\])\.', name))

    return visible


def _get(self: Any, filepath: Union[str, os.PathLike]) -> bytes:
    check_regular(filepath)
    return Path(filepath).read_bytes()


def _put(self: Any, obj: bytes, filepath: Union[str, os.PathLike]) -> None:
    Path(filepath).parent.mkdir(parents=True, exist_ok=True)
    with written_whole(filepath) as temporary:
        temporary.write_bytes(obj)


def _downloaded(self: Any, filepath: str) -> bytes:
    global _last_read
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'download'
        download(filepath, path)
        _last_read = filepath
        return path.read_bytes()
