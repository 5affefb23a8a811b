"""A study as its file says it: which runs, under which settings."""

import hashlib
import json
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Set

from mmengine import Config

from mmcyclemlp.config import load_config
from mmcyclemlp.config.walk import walk
from mmcyclemlp.errors import InputError
from mmcyclemlp.untrusted import parse_yaml, read_text

# Keys and what they hold.
STUDY_KEYS = dict(title=str, image_size=int, epochs=int, seeds=list, amp=bool, options=dict, runs=list)
RUN_KEYS = dict(name=str, config=str, options=dict)


class Run(NamedTuple):
    """One training run."""

    name: str  # of the system or variant; runs of several seeds share it
    seed: int
    path: Path  # of the config
    options: Dict[str, Any]  # as --cfg-options takes them
    config: Config  # with the options
    amp: bool = False  # train in mixed precision

    @property
    def folder(self) -> str:
        """Its place below the study's work dir."""
        return f'{self.name.replace(" ", "_")}/seed{self.seed}'

    @property
    def title(self) -> str:
        return f'{self.name}, seed {self.seed}'

    @property
    def epochs(self) -> int:
        return self.config.train_cfg.max_epochs

    @property
    def dataset(self) -> str:
        """As the config's file name begins: DATASET_ARCH."""
        return self.path.stem.partition('_')[0]

    @property
    def settings(self) -> str:
        """A checksum of all settings but where the data lie."""
        amp = 'amp ' if self.amp else ''
        config = json.loads(json.dumps(self.config.to_dict(), default=repr))  # a copy, whose tuples are lists
        for _, section in walk(config):
            section.pop('data_root', None)  # differs from machine to machine
        return hashlib.sha256(f'{self.seed} {amp}{config}'.encode()).hexdigest()


class Study(NamedTuple):
    """Runs to be compared."""

    name: str
    title: str
    image_size: int  # side in pixels, for the count of operations
    runs: List[Run]


def load_study(path: Path) -> Study:
    """Read a study's file, and the config of each of its runs.

    The file is YAML: ``title``, ``image_size``, ``runs`` (each with ``name``, ``config``, a path from the file's
    folder, and ``options``), and what holds for all runs: ``epochs``, ``seeds``, ``amp`` (mixed precision) and
    ``options``.

    Raises:
        InputError: the file cannot be read; a key is unknown or missing; a config or an option is wrong.
    """
    content = read_plan(path)
    common = dict(content.get('options', {}))
    if 'epochs' in content:
        common['train_cfg.max_epochs'] = content['epochs']
    runs = []
    for entry in content['runs']:
        _check_keys(entry, RUN_KEYS, {'name', 'config'}, f'a run of {path}')
        if not re.fullmatch(r'\w[\w .=+-]*', entry['name']):
            raise InputError(
                f'a name of a run in {path} expects letters, digits, spaces and _.=+- only, but got '
                f'{entry["name"]!r}; rename it'
            )
        config_path = path.parent / entry['config']
        options = {**common, **entry.get('options', {})}
        config, amp = _config(config_path, options), content.get('amp', False)
        runs += [Run(entry['name'], seed, config_path, options, config, amp) for seed in content.get('seeds', [0])]
    folders = [run.folder for run in runs]
    twice = next((folder for folder in folders if folders.count(folder) > 1), None)
    if twice:
        raise InputError(
            f'{path} expects each run to have a name and each seed to be there once, but {twice} is there '
            'twice; rename one'
        )
    return Study(path.stem, content['title'], content['image_size'], runs)


def read_plan(path: Path) -> Dict[str, Any]:
    """A study's file as it stands: its keys are known and of their types; its configs are not read.

    Raises:
        InputError: as load_study says, configs excepted.
    """
    content = parse_yaml(read_text(path), str(path))
    if not isinstance(content, dict) or not isinstance(content.get('runs'), list) or not content['runs']:
        raise InputError(f'expected a study with a list of runs, but {path} has none; see configs/studies')
    _check_keys(content, STUDY_KEYS, {'title', 'image_size', 'runs'}, str(path))
    for key in ('image_size', 'epochs'):
        if content.get(key, 1) < 1:
            raise InputError(f'{path} expects {key} to be 1 or more, but got {content[key]}; correct it')
    seeds = content.get('seeds', [0])
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise InputError(f'{path} expects seeds to be numbers from 0 up, such as [0, 1], but got {seeds}; correct it')
    return content


def _check_keys(section: Any, known: Dict[str, type], needed: Set[str], where: str) -> None:
    if not isinstance(section, dict) or needed - set(section):
        raise InputError(
            f'{where} expects the keys {", ".join(sorted(needed))}, but got '
            f'{", ".join(map(str, section)) if isinstance(section, dict) else repr(section)}; add them'
        )
    unknown = next((key for key in section if key not in known), None)
    if unknown is not None:
        near = get_close_matches(str(unknown), known, 1)
        hint = f'did you mean {near[0]}?' if near else f'it takes {", ".join(sorted(known))}'
        raise InputError(f'{where} has the unknown key {unknown}; {hint}')
    for key, value in section.items():
        if type(value) is not known[key]:
            raise InputError(
                f'{where} expects {key} to be of type {known[key].__name__}, but got {value!r}; correct it'
            )


def _config(path: Path, options: Dict[str, Any]) -> Config:
    config = load_config(path, options)
    if not config.train_cfg.get('by_epoch', True):
        raise InputError(f'a study expects runs by epochs, but {path} trains by iterations; give another config')
    return config
