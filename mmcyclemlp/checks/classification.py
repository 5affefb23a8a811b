"""Check the class folders and lists of images of a classification run before it starts; mmpretrain takes any."""

import os
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from mmengine import Config

from mmcyclemlp.config.walk import datasets
from mmcyclemlp.errors import InputError
from mmcyclemlp.untrusted import read_text

from .common import built, check_heads, check_same, heads, named_classes, shown, some, trained_classes, warn

SPLITS = ('train', 'val', 'test')


class Source(NamedTuple):
    """A dataset of a config: its section's ``name``, built but not loaded, and the names of its classes by label;
    none are known of a list of images without."""

    name: str
    dataset: Any
    classes: Optional[Tuple[str, ...]]

    @property
    def folder(self) -> Path:
        return Path(self.dataset.img_prefix)


def check_classes(config: Config, *splits: str, checkpoint: Optional[Mapping[str, Any]] = None) -> None:
    """Check the datasets of a classification config's ``splits`` that are class folders or lists of images.

    mmpretrain numbers the folders of each split by itself. So InputError unless those of training, of ``splits`` and
    of ``checkpoint`` have the same names. No image is opened.

    Raises:
        InputError: a folder or list is missing or holds nothing, a line of a list is wrong, classes differ, or the
            model has another number of them.
    """
    if config.get('default_scope') != 'mmpretrain':
        return
    sources = {split: list(_sources(config, split)) for split in SPLITS}
    check_named_classes(config, *splits)
    for split in splits:
        for source in sources[split]:
            _check_files(config, source)
    named = [
        (f'{source.name} ({source.folder})', source.classes)
        for split in SPLITS
        for source in sources[split]
        if source.classes and (split in splits or ('train' in (split, *splits) and source.folder.is_dir()))
    ]
    if trained := trained_classes(checkpoint):
        named.insert(0, ('the checkpoint', trained))
    check_same(named, 'rename the folders, and add an empty one for a class without images')
    if named:
        check_heads(config, *named[-1])


def check_named_classes(config: Config, *splits: str) -> None:
    """Raise InputError where the model has another number of classes than a dataset that names them itself, such as
    CIFAR10; a CustomDataset has those of its folders."""
    from mmpretrain.datasets import CustomDataset

    for name, section, _ in (each for split in splits for each in datasets(config, split)):
        kind, classes = named_classes(config, section)
        if classes and not (isinstance(kind, type) and issubclass(kind, CustomDataset)):
            check_heads(config, name, classes)


def _sources(config: Config, split: str) -> Iterator[Source]:
    from mmpretrain.datasets import CustomDataset

    for name, dataset, _ in built(config, split, CustomDataset):
        if not dataset.with_label or '://' in dataset.img_prefix:
            continue
        classes = dataset.CLASSES and tuple(dataset.CLASSES)
        folders = None if dataset.ann_file else _folders(Path(dataset.img_prefix))
        if folders and classes and classes != folders and sorted(classes) == sorted(folders):
            raise InputError(
                f'expected the classes of {name} in the order of their folders, {some(folders)}, since mmpretrain '
                f'numbers these by their names, but got {some(classes)}; leave its classes out'
            )
        # Where classes have other names than the folders, the folders count.
        yield Source(name, dataset, folders or classes)


def _folders(folder: Path) -> Tuple[str, ...]:
    if not folder.is_dir():
        return ()
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != '.'))


def _check_files(config: Config, source: Source) -> None:
    folder, name = source.folder, source.name
    hint = ', and write / for \\' if '\\' in str(folder) else ''
    if not folder.is_dir():
        raise InputError(
            f'expected {"images" if source.dataset.ann_file else "class folders"} in {folder}, which does not exist; '
            f'put the dataset there, or correct {name}.data_root or data_prefix{hint}'
        )
    if source.dataset.ann_file:
        _check_lines(config, source)
        return
    if not source.classes:
        raise InputError(
            f'expected a folder of images for each class in {folder}, but it holds none; sort the images into '
            f'folders, or correct {name}.data_root or data_prefix'
        )
    beside = [each.name for each in folder.iterdir() if each.is_file() and source.dataset.is_valid_file(each.name)]
    if beside:
        warn(f'{folder}: {len(beside):,} images lie beside the class folders, and are not read: {some(beside)}')
    left_out: Dict[str, List[str]] = {}
    empty, read, total = [], 0, 0
    for each in source.classes:
        found = 0
        for parent, folders, files in os.walk(folder / each):
            folders[:] = [other for other in folders if other[0] != '.']
            for file in files:
                if file[0] == '.':
                    continue
                total += 1
                if source.dataset.is_valid_file(file):
                    found += 1
                else:
                    left_out.setdefault(Path(file).suffix.lower() or 'no suffix', []).append(os.path.join(parent, file))
        read += found
        empty += [each] * (not found)
    suffixes = ' '.join(sorted(source.dataset.extensions))
    if not read:
        raise InputError(
            f'expected images in the class folders of {folder}, but of {total:,} files none is of {suffixes}; '
            f'convert them, or set {name}.extensions'
        )
    for suffix, files in left_out.items():
        kinds = Counter(os.path.relpath(file, folder).split(os.sep)[0] for file in files)
        where = ', '.join(f'{count:,} in {each}' for each, count in kinds.most_common(3))
        warn(
            f'{folder}: {len(files):,} of {total:,} files are of a kind that is not read, {suffix} ({where}; the first '
            f'is {files[0]}); convert them, or set {name}.extensions'
        )
    if empty:
        warn(f'{folder}: {len(empty):,} of {len(source.classes):,} classes have no image: {some(empty)}')


def _check_lines(config: Config, source: Source) -> None:
    """Check that each line of a list is the name of an image and the number of its class."""
    path, folder = Path(source.dataset.ann_file), source.folder
    if not path.is_file():
        raise InputError(
            f'expected a list of images in {path}, which does not exist; put it there, or correct '
            f'{source.name}.ann_file'
        )
    number = len(source.classes) if source.classes else next((head['num_classes'] for _, head in heads(config)), None)
    lines = read_text(path).splitlines()
    if not lines:
        raise InputError(f'expected lines of an image and its class in {path}, but it is empty; give the right file')
    for i, line in enumerate(shown(lines, 'Lines'), 1):
        name, _, label = line.strip().rpartition(' ')
        where = f'expected an image and the number of its class, as in `tulip/1.jpg 4`, but line {i} of {path}'
        if not name or not label.isdecimal():
            raise InputError(f'{where} is {line!r:.200}; correct it')
        if number is not None and int(label) >= number:
            raise InputError(f'{where} has class {label}, and there are {number}, numbered from 0; correct it')
        if not (folder / name).is_file():
            raise InputError(
                f'{where} names {str(folder / name)!r}, which does not exist; correct it, or {source.name}.data_prefix'
            )
