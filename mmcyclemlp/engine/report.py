"""How the tools report what a user can mend."""
import sys
from contextlib import contextmanager
from typing import Iterator

from mmcyclemlp.errors import InputError


@contextmanager
def input_errors() -> Iterator[None]:
    """Print an InputError as ``error: <sentence>`` to stderr and exit with 2; all else keeps its traceback."""
    try:
        yield
    except InputError as error:
        sys.stdout.flush()  # so that the sentence comes last where both go to one file
        # From a process that loads data it comes at the end of that process's traceback, as text.
        sentence = str(error).rpartition(f'{type(error).__name__}: ')[2].strip()
        print(f'error: {sentence}', file=sys.stderr, flush=True)
        sys.exit(2)
