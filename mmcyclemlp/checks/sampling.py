"""A look at a part of many files, so that a check before a run takes seconds."""

import time
from typing import Iterator, Sequence, TypeVar

Item = TypeVar('Item')
SECONDS = 2.0


def sampled(items: Sequence[Item], most: int) -> Iterator[Item]:
    """About ``most`` of the items, evenly spread, as many as two seconds allow; one at least."""
    end = time.monotonic() + SECONDS
    for item in items[:: max(1, len(items) // most)]:
        yield item
        if time.monotonic() > end:
            return
