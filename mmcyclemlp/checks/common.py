"""What the checks of all tasks share: a config's datasets and heads, words, and a look at a part of many files."""

import gc
import logging
import os
import time
import unicodedata
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, TypeVar

from mmengine import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from rich.progress import track

from mmcyclemlp.config.walk import datasets, walk
from mmcyclemlp.errors import InputError

Item = TypeVar('Item')
SECONDS = 2.0
DIFFERING = ' (they differ in spaces, case or their Unicode form only)'


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


def built(config: Config, split: str, base: type, **options: Any) -> Iterator[Tuple[str, Any, List[dict]]]:
    """The datasets of a split that are of a library's class ``base``, also those in wrappers: dotted name, built but
    not loaded, transforms."""
    registry = import_module(f'{config.default_scope}.registry').DATASETS
    for name, section, transforms in datasets(config, split):
        kind = registry.get(section['type'])
        if isinstance(kind, type) and issubclass(kind, base):
            settings = {key: value for key, value in section.items() if key not in ('type', '_scope_')}
            yield name, kind(**{**settings, 'pipeline': [], 'lazy_init': True, **options}), transforms


def named_classes(config: Config, section: dict) -> Tuple[Any, Tuple[str, ...]]:
    """The class of a dataset, and the classes that its config or it names; none where they are in a file."""
    kind = import_module(f'{config.default_scope}.registry').DATASETS.get(str(section.get('type')))
    classes = {**getattr(kind, 'METAINFO', {}), **(section.get('metainfo') or {})}.get('classes')
    return kind, tuple(map(str, classes)) if isinstance(classes, (list, tuple)) else ()


def heads(config: Config) -> Iterator[Tuple[str, dict]]:
    """Where a model says its number of classes: dotted path and section; not of heads that tell objects from the
    rest."""
    places = [*walk(config.get('model'), 'model'), *walk(config.get('data_preprocessor'), 'data_preprocessor')]
    for path, section in places:
        last = next((part for part in reversed(path.split('.')) if not part.isdigit()), '')
        if last.endswith(('head', 'data_preprocessor')) and 'rpn' not in path and not section.get('class_agnostic'):
            if isinstance(section.get('num_classes'), int):
                yield path, section


def check_heads(config: Config, name: str, classes: Sequence[str]) -> None:
    """Raise InputError unless the model has as many classes as the dataset ``name``."""
    for place, head in heads(config):
        if head['num_classes'] != len(classes):
            raise InputError(
                f'expected as many classes of {place} as of {name}, but they have {head["num_classes"]} and '
                f'{len(classes)} ({some(classes)}); set {place}.num_classes={len(classes)}'
            )


def trained_classes(checkpoint: Optional[Mapping[str, Any]]) -> Tuple[str, ...]:
    """The classes that a checkpoint says it was trained on; empty if it does not."""
    meta = (checkpoint or {}).get('meta')
    found = (meta.get('dataset_meta') or {}).get('classes') if isinstance(meta, dict) else None
    return tuple(map(str, found or ()))


def check_same(named: Sequence[Tuple[str, Sequence[str]]], remedy: str) -> None:
    """Raise InputError, ending with ``remedy``, unless the classes of all that are named are the first's, in order."""
    for other, classes in named[1:]:
        first, expected = named[0]
        if tuple(classes) != tuple(expected):
            alike = look_alike(expected, classes)
            if alike:
                expected, classes = (tuple(map(ascii, names)) for names in (expected, classes))
            raise InputError(
                f'expected the classes of {first}, {_beside(expected, classes)}, but {other} has '
                f'{_beside(classes, expected)}{DIFFERING if alike else ""}, and their labels would not be the same; '
                f'{remedy}'
            )


def _beside(classes: Sequence[str], others: Sequence[str]) -> str:
    """Classes; of many, those that only they have."""
    own = [name for name in classes if name not in others]
    return f'{some(classes)} (with {some(own)})' if own and len(classes) > 5 else some(classes)


def some(items: Sequence[Any], most: int = 5) -> str:
    """The first few items of a list, and how many more there are."""
    return ', '.join(map(str, items[:most])) + (f' and {len(items) - most:,} more' if len(items) > most else '')


def plain(name: str) -> str:
    """A name without regard to what one hardly sees: spaces, case and the Unicode form of accents."""
    return ' '.join(unicodedata.normalize('NFC', name).casefold().split())


def look_alike(names: Iterable[str], others: Iterable[str]) -> bool:
    """Whether a name that only ``names`` has looks like one that only ``others`` has."""
    own, other = set(names), set(others)
    return not {plain(name) for name in own - other}.isdisjoint({plain(name) for name in other - own})


def warn(line: str) -> None:
    if os.environ.get('RANK', '0') == '0':  # mmengine may not know the other processes yet
        print_log(line, 'current', logging.WARNING)
