"""User errors: the commands print them as one line, without a traceback, and exit with status 2."""

import os
import signal
import sys


class InputError(ValueError):
    """Wrong input; the message says what was expected, what came, and what to do."""


class MissingDependencyError(InputError, ImportError):
    """A package is missing or outside its tested versions; the message holds the command."""


class RunStopped(Exception):
    """A run was told to stop by a signal and has saved its state."""

    def __init__(self, number: int, path: str):
        self.number = number
        super().__init__(f'stopped by {signal.Signals(number).name}; saved to {path}, and --resume goes on from there')


def named(error: BaseException) -> str:
    """An error in one line: its kind, and what it says, if anything."""
    return ' '.join(f'{type(error).__name__}: {error}'.split()).removesuffix(':')


def tell(error: InputError) -> None:
    """Print ``error: <sentence>`` to stderr."""
    try:
        print(end='', flush=True)  # so that the sentence comes last where both go to one file; there may be no stdout
    except BrokenPipeError:  # its reader has ended; what it still holds is dropped
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # From a process that loads data it comes at the end of that process's traceback, as text.
    sentence = str(error).rpartition(f'{type(error).__name__}: ')[2].strip()
    # What files hold may stand in it; line breaks and terminal codes are shown as Python writes them.
    sentence = ''.join(c if c.isprintable() else repr(c)[1:-1] for c in sentence)
    print(f'error: {sentence}', file=sys.stderr, flush=True)
