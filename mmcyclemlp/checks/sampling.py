"""Checks before a run take seconds: a look at a part of many files, and a bar over what takes longer."""

import gc
import time
from contextlib import contextmanager
from typing import Iterator, Sequence, TypeVar

from mmengine.dist import is_main_process
from rich.progress import track

Item = TypeVar('Item')
SECONDS = 2.0


def sampled(items: Sequence[Item], most: int) -> Iterator[Item]:
    """About ``most`` of the items, evenly spread, as many as two seconds allow; one at least."""
    end = time.monotonic() + SECONDS
    for item in items[:: max(1, len(items) // most)]:
        yield item
        if time.monotonic() > end:
            return


def shown(items: Sequence[Item], what: str) -> Iterator[Item]:
    """All items, with a bar named ``what`` from the third second on."""
    end, done = time.monotonic() + SECONDS, 0
    while done < len(items) and time.monotonic() <= end:
        yield items[done]
        done += 1
    if done < len(items):
        yield from track(items[done:], what, disable=not is_main_process())


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection: over a file of millions of values, it would take longer than reading them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
