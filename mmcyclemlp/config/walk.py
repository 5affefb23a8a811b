"""The one walk through a config: every section with its dotted path; and changes at such paths."""

import re
from copy import deepcopy
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from mmengine import Config

from mmcyclemlp.errors import InputError


def walk(section: Any, path: str = '') -> Iterator[Tuple[str, dict]]:
    """Every section (dict) at and below ``section``, in lists and tuples too, with its dotted path; the outer first."""
    is_section = isinstance(section, (dict, Config))
    if is_section:
        yield path, section
    elif not isinstance(section, (list, tuple)):
        return
    for key, value in list(section.items() if is_section else enumerate(section)):
        yield from walk(value, f'{path}.{key}' if path else str(key))


def changed(config: Config, changes: Dict[str, Any]) -> Config:
    """A copy of ``config`` with other values at dotted paths; a section that is missing on the way is made."""
    config = deepcopy(config)
    for path, value in changes.items():
        section, *parts = config, *path.split('.')
        for part in parts[:-1]:
            if isinstance(section, (dict, Config)) and part not in section:
                section[part] = {}
            section = section[int(part) if isinstance(section, (list, tuple)) else part]
        section[int(parts[-1]) if isinstance(section, list) else parts[-1]] = value
    return config


def name_of(section: dict) -> str:
    """The ``type`` of a section without its scope or module."""
    return str(section.get('type')).split('.')[-1]


def dataset_sections(config: Config, split: str) -> Iterator[Tuple[str, dict]]:
    """The dataset of ``train``, ``val`` or ``test`` with its dotted path: wrappers first, then what they hold."""
    root = f'{split}_dataloader.dataset'
    for path, section in walk((config.get(f'{split}_dataloader') or {}).get('dataset'), root):
        if re.fullmatch(r'(\.dataset|\.datasets\.\d+)*', path[len(root) :]):
            yield path, section


def datasets(config: Config, split: str) -> Iterator[Tuple[str, dict, List[dict]]]:
    """The datasets of a split, unwrapped: dotted path, section, transforms from its own to the outermost.

    Raises:
        InputError: a transform is text, as mmengine reads ``--cfg-options ...pipeline="[dict(...)]"``.
    """
    sections = dict(dataset_sections(config, split))
    for path, section in sections.items():
        for i, step in enumerate(section.get('pipeline', ())):
            if isinstance(step, str):
                raise InputError(
                    f"expected a transform such as dict(type='Resize') in {path}.pipeline.{i}, but got the text "
                    f'{step!r}; write the pipeline into a config file'
                )
        if not {'dataset', 'datasets'} & set(section):
            around = [other for name, other in sections.items() if f'{path}.'.startswith(f'{name}.')]
            yield path, section, [step for each in reversed(around) for step in each.get('pipeline', ())]


def metrics(config: Config, split: str, name: str) -> Sequence[dict]:
    """The metrics of a split that are of the type ``name``."""
    return [section for _, section in walk(config.get(f'{split}_evaluator')) if name_of(section) == name]
