"""Fonts that can write the names of classes, in any script."""

import functools
from pathlib import Path
from typing import Iterator, List, NamedTuple, Set, Tuple

import matplotlib


class Drawable(NamedTuple):
    """Names as they can be drawn, and the path of the font for them."""

    names: List[str]
    font: str


@functools.lru_cache(maxsize=8)
def drawable(names: Tuple[str, ...]) -> Drawable:
    """The font of this machine that can write most of the names; a name that it cannot write becomes its number."""
    best, most = None, -1
    for font in _fonts():
        able = [set(name) <= _characters(font) | {' '} for name in names]
        if sum(able) > most:
            best, most = Drawable([n if ok else str(i) for i, (n, ok) in enumerate(zip(names, able))], font), sum(able)
        if most == len(names):
            break
    return best


def _fonts() -> Iterator[str]:
    """matplotlib's own font first, then those of the system."""
    own = Path(matplotlib.get_data_path(), 'fonts/ttf')
    yield str(own / 'DejaVuSans.ttf')
    from matplotlib.font_manager import fontManager  # looks through the system's fonts, which takes a second

    for entry in sorted(fontManager.ttflist, key=lambda entry: (entry.style != 'normal', entry.fname)):
        if own not in Path(entry.fname).parents:  # among them one that draws a box for every character
            yield entry.fname


@functools.lru_cache(maxsize=64)
def _characters(font: str) -> Set[str]:
    from matplotlib.ft2font import FT2Font

    try:
        return set(map(chr, FT2Font(font).get_charmap()))
    except (OSError, RuntimeError):  # damaged, or without a table of characters
        return set()
