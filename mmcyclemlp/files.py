"""Writing files so that a reader, or a killed process, never leaves half of one."""

import errno
import fcntl
import json
import os
import re
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Iterator, List, Union

from .errors import InputError

_CLAIMED: List[IO] = []  # open as long as the process lives
_PACKAGE = Path(__file__).resolve().parent
# Folder of configs/ and tools/: that of the checkout, or a copy in the installed package.
PROJECT = _PACKAGE.parent if (_PACKAGE.parent / 'model-index.yml').is_file() else _PACKAGE / '.mim'


@contextmanager
def written_whole(path: Union[str, os.PathLike]) -> Iterator[Path]:
    """A temporary name beside ``path``, of the same suffix, that takes its place once the block is through.

    Raises:
        InputError: it cannot be written; then nothing is left and an older file is as it was.
    """
    path = Path(path)
    if os.path.exists(path) and not os.path.isfile(path):  # False where pathlib raises, as for a name that is too long
        raise InputError(f'expected a file to write, but {path} is a folder or a device; give another name')
    temporary = path.with_name(f'.{uuid.uuid4().hex}{path.suffix}')
    try:
        yield temporary
        with temporary.open('rb') as file:
            os.fsync(file.fileno())  # its content before its name, should the power fail
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f'could not write {path} ({error.strerror or error}); check the permissions and the free '
            'space of its folder'
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Union[str, os.PathLike], option: str) -> Path:
    """Make a folder to write to, unless it is there; InputError names the ``option`` that gives another."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise InputError(
            f'expected a folder to write to, but {folder} cannot be used ({error.strerror}); give another by {option}'
        ) from error
    return folder


def claim(folder: Union[str, os.PathLike]) -> None:
    """Make a folder and keep it to this process until it ends, however it ends; remove what a killed one half wrote.

    Raises:
        InputError: it cannot be made or written to, or another process holds it.
    """
    folder = make_folder(folder, '--work-dir')
    file = (folder / '.lock').open('a')
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's, not inherited by processes that load data
    except OSError as error:
        raise InputError(
            f'expected a work dir of its own, but another training writes to {folder}; wait for it, or give another by '
            '--work-dir'
        ) from error
    _CLAIMED.append(file)
    for path in folder.iterdir():
        if re.fullmatch(r'\.[0-9a-f]{32}(\.\w+)?', path.name):
            path.unlink()


def write_json(path: Union[str, os.PathLike], content: Any) -> None:
    """Write ``content`` as json, as a whole or not at all."""
    with written_whole(path) as temporary:
        with temporary.open('w', encoding='utf-8') as file:
            json.dump(content, file)
            file.write('\n')
