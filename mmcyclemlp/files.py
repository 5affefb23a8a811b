"""Writing files so that a reader, or a killed process, never leaves half of one."""

import json
import os
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Union

from .errors import InputError

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
    temporary = path.with_name(f'.{uuid.uuid4().hex}{path.suffix}')
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f'could not write {path} ({error.strerror or error}); check the permissions and the free '
            'space of its folder'
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Union[str, os.PathLike], content: Any) -> None:
    """Write ``content`` as json, as a whole or not at all."""
    with written_whole(path) as temporary:
        with temporary.open('w', encoding='utf-8') as file:
            json.dump(content, file)
            file.write('\n')
