"""Check masks and labels of a segmentation run before it starts; mmseg finds faults late or not at all."""

import os
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from mmengine import Config
from PIL import Image

from mmcyclemlp.config.walk import metrics, walk
from mmcyclemlp.datasets.masks import BYTE_MODES, Labels, check_upright, read_mask
from mmcyclemlp.errors import InputError
from mmcyclemlp.images import UNREADABLE

from .common import built, check_heads, heads, sampled, some, uncollected, warn
from .consistency import check_batch

IGNORED = 255  # what mmseg ignores unless told otherwise
SAMPLE = 100  # masks that are looked at before training


class Source(NamedTuple):
    """A dataset of a config: its section's dotted name, its images with their masks, and what these may hold."""

    name: str
    pairs: List[Tuple[str, str]]
    missing: List[Tuple[str, str]]  # pairs whose mask is not there
    extra: List[str]  # masks of no image
    labels: Labels
    names: Sequence[str]  # of the classes in the files
    learnt: Sequence[str]  # of the classes that are learnt; the files may hold more
    suffixes: Dict[str, int]  # of the files beside the images, which are not read
    listed: str  # the file of names, if any


def mask_sources(config: Config, *splits: str) -> Iterator[Source]:
    """The segmentation datasets of a config's splits (``train``, ``val``, ``test``), also those in wrappers.

    One that makes its data itself makes it now; one that is not on this machine is left out. No file is opened.

    Raises:
        InputError: a dataset has no masks.
    """
    from mmseg.datasets import BaseSegDataset

    ignored = next((head.get('ignore_index', IGNORED) for _, head in heads(config)), None)
    for split in splits:
        for name, dataset, _ in built(config, split, BaseSegDataset, serialize_data=False):
            if dataset.backend_args:
                continue
            try:
                dataset.full_init()
            except FileNotFoundError as error:
                raise InputError(
                    f'expected images for {name} in {error.filename or error}, which does not exist; put the dataset '
                    'there, or correct its data_root and data_prefix'
                ) from error
            except (AssertionError, ValueError) as error:
                raise InputError(
                    f'expected folders of images and masks for {name}, but got data_prefix={dataset.data_prefix} '
                    f'and ann_file={dataset.ann_file!r} ({error}); set data_prefix=dict(img_path=FOLDER, '
                    'seg_map_path=FOLDER), and the list of names that there is, if any'
                ) from error
            items = dataset.data_list  # get_data_info would copy each
            suffixes = _other_suffixes(dataset)
            if not items or any('seg_map_path' not in item for item in items):
                raise InputError(
                    f'expected images with masks from {name}, but it has {"no masks" if items else "none"}'
                    + (f' with img_suffix={dataset.img_suffix!r}, only {_counted(suffixes)}' if suffixes else '')
                    + '; set its data_root and data_prefix=dict(img_path=FOLDER, seg_map_path=FOLDER)'
                    + (f', or img_suffix={next(iter(suffixes))!r}' if suffixes else '')
                )
            pairs = [(item['img_path'], item['seg_map_path']) for item in items]
            # Of custom classes, the files hold those that they are chosen from.
            classes = dataset.METAINFO['classes'] if dataset.label_map else dataset.metainfo['classes']
            yield Source(
                name,
                pairs,
                *_unmatched(dataset, pairs),
                Labels(
                    len(classes), dataset.ignore_index if ignored is None else ignored, bool(dataset.reduce_zero_label)
                ),
                classes,
                dataset.metainfo['classes'],
                suffixes,
                dataset.ann_file,
            )


@uncollected()
def check_masks(config: Config, *splits: str) -> None:
    """Check that a segmentation config's splits have a mask for each image, and that its parts agree on the labels.

    Raises:
        InputError: an image has no mask, which mmseg finds when its turn comes; heads, metric and padding ignore
            different values, or a head has another number of classes than the dataset, which makes metrics wrong.
    """
    if config.get('default_scope') != 'mmseg':
        return
    _check_ignored(config)
    for source in mask_sources(config, *splits):
        if source.suffixes:
            warn(f'{source.name}: left out beside its {len(source.pairs):,} images: {_counted(source.suffixes)}')
        if source.missing:
            image, mask = source.missing[0]
            there = Counter(path.suffix for path in Path(mask).parent.glob('*.*') if path.name[0] != '.')
            del there[Path(mask).suffix]
            raise InputError(
                f'expected a mask for each image of {source.name}, but {len(source.missing):,} of '
                f'{len(source.pairs):,} are not there, such as {mask} for {image}'
                + (f', where there are {_counted(there)}' if there else '')
                + '; add them, or correct data_prefix and seg_map_suffix of the dataset'
                + (f', or {source.listed}, which lists names without suffix' if source.listed else '')
            )
        check_heads(config, source.name, source.learnt)
        masks = [mask for _, mask in source.pairs]
        counts, looked = count_values(sampled(masks, SAMPLE))
        if not looked:
            read_mask(masks[0], source.labels)  # which says why not
        told = about_values(counts, source.labels, source.names)
        # That a few masks lack some of many classes means nothing.
        if told and (looked == len(masks) or np.count_nonzero(counts) < 3):
            warn(f'{source.name}: in {looked:,} of {len(masks):,} masks, {told}')
        others = np.flatnonzero((counts > 0) & ~source.labels.allowed)
        if others.size:
            warn(
                f'{source.name}: in {looked:,} masks, {counts[others].sum() / counts.sum():.0%} of the pixels hold '
                f'values of no class, {some(others)}; expected {source.labels}'
            )
        if source.name.startswith('train'):
            check_batch(config, len(source.pairs))


def count_values(masks: Iterable[str]) -> Tuple[np.ndarray, int]:
    """Numbers of pixels of each value in masks, int64 [256], and of how many masks; others have faults of their own."""
    counts, looked = np.zeros(256, np.int64), 0
    for mask in masks:
        try:
            with Image.open(mask) as image:
                check_upright(image, mask)
                if image.mode in BYTE_MODES:
                    counts += np.bincount(np.asarray(image).astype(np.uint8).ravel(), minlength=256)
                    looked += 1
        except InputError:
            raise
        except UNREADABLE:
            continue
    return counts, looked


def about_values(counts: np.ndarray, labels: Labels, names: Sequence[str]) -> Optional[str]:
    """What training would learn nothing from: classes in no mask, and how many pixels are ignored; None if neither."""
    first, pixels = int(labels.reduce_zero_label), max(1, counts.sum())
    absent = [f'{i + first} ({name})' for i, name in enumerate(names) if not counts[i + first]]
    ignored = counts[np.isin(np.arange(256), labels.ignored)].sum() / pixels
    if not absent and ignored < 0.5:
        return None
    told = f'no pixel is of class {some(absent)}' if absent else 'all classes occur'
    told += f', and {ignored:.0%} of the pixels are ignored, with the value {" or ".join(map(str, labels.ignored))}'
    if set(np.flatnonzero(counts)) == {0, 255} and len(names) == 2:
        told += f'; these are binary masks of 0 and 255: write {1 + first} for 255 (and {first} for 0)'
    return told


def _counted(suffixes: Dict[str, int]) -> str:
    return ', '.join(f'{count:,} {suffix or "without suffix"}' for suffix, count in suffixes.items())


def _other_suffixes(dataset: Any) -> Dict[str, int]:
    """Suffixes of images in a dataset's folder that it does not read, and how many; none where a list names them."""
    folder = dataset.data_prefix.get('img_path')
    if dataset.ann_file or not folder or folder == dataset.data_prefix.get('seg_map_path'):
        return {}
    names = (name for _, folders, files in os.walk(folder) for name in files if name[0] != '.')
    found = Counter(os.path.splitext(name)[1] for name in names if not name.endswith(dataset.img_suffix))
    known = Image.registered_extensions()
    return {suffix: count for suffix, count in found.most_common() if suffix.lower() in known}


def _check_ignored(config: Config) -> None:
    """Raise InputError unless all parts ignore the same value."""
    places = {f'{name}.ignore_index': head.get('ignore_index', IGNORED) for name, head in heads(config)}
    for name, section in walk(config.get('model'), 'model'):
        if name.endswith('.data_preprocessor'):
            places[f'{name}.seg_pad_val'] = section.get('seg_pad_val', IGNORED)
    for split in ('val', 'test'):
        for metric in metrics(config, split, 'IoUMetric'):
            places[f'{split}_evaluator.ignore_index'] = metric.get('ignore_index', IGNORED)
    first, value = next(iter(places.items()), ('', 0))
    other = next((place for place in places if places[place] != value), None)
    if other is not None:
        raise InputError(
            f'expected one value for pixels of no class, but {first} is {value} and {other} is '
            f'{places[other]} ({IGNORED} unless it is set); set both to the same'
        )


def _unmatched(dataset: Any, pairs: List[Tuple[str, str]]) -> Tuple[List[Tuple[str, str]], List[str]]:
    """Pairs whose mask is not there and, where the dataset is all of its folder, masks of no image."""
    there = {
        os.path.normpath(os.path.join(folder, name))
        for folder, _, names in os.walk(dataset.data_prefix['seg_map_path'])
        for name in names
        if name.endswith(dataset.seg_map_suffix)
    }
    missing = [pair for pair in pairs if os.path.normpath(pair[1]) not in there]
    if dataset.ann_file or dataset._indices is not None:
        return missing, []
    return missing, sorted(there - {os.path.normpath(mask) for _, mask in pairs})
