"""Check masks and labels of a segmentation run before it starts; mmseg finds faults late or not at all."""

import os
import re
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Tuple

from mmengine import Config

from mmcyclemlp.config.walk import datasets, metrics, walk
from mmcyclemlp.datasets.masks import Labels
from mmcyclemlp.errors import InputError

IGNORED = 255  # what mmseg ignores unless told otherwise


class Source(NamedTuple):
    """A dataset of a config: its section's dotted name, its images with their masks, and what these may hold."""

    name: str
    pairs: List[Tuple[str, str]]
    missing: List[Tuple[str, str]]  # pairs whose mask is not there
    extra: List[str]  # masks of no image
    labels: Labels
    num_classes: int  # that are learnt; the files may hold more


def mask_sources(config: Config, *splits: str) -> Iterator[Source]:
    """The segmentation datasets of a config's splits (``train``, ``val``, ``test``), also those in wrappers.

    One that makes its data itself makes it now; one that is not on this machine is left out. No file is opened.

    Raises:
        InputError: a dataset has no masks.
    """
    from mmseg.datasets import BaseSegDataset
    from mmseg.registry import DATASETS

    heads = _heads(config)
    for split in splits:
        for name, section, _ in datasets(config, split):
            dataset = DATASETS.build(dict(section, pipeline=[], lazy_init=True, serialize_data=False))
            if not isinstance(dataset, BaseSegDataset) or dataset.backend_args:
                continue
            dataset.full_init()
            items = [dataset.get_data_info(i) for i in range(len(dataset))]
            if not items or any('seg_map_path' not in item for item in items):
                raise InputError(
                    f'expected images with masks from {name}, but it has {"no masks" if items else "none"}'
                    '; set its data_root and data_prefix=dict(img_path=FOLDER, seg_map_path=FOLDER)'
                )
            pairs = [(item['img_path'], item['seg_map_path']) for item in items]
            ignored = heads[0][1].get('ignore_index', IGNORED) if heads else dataset.ignore_index
            # Of custom classes, the files hold those that they are chosen from.
            classes = dataset.METAINFO['classes'] if dataset.label_map else dataset.metainfo['classes']
            yield Source(
                name,
                pairs,
                *_unmatched(dataset, pairs),
                Labels(len(classes), ignored, bool(dataset.reduce_zero_label)),
                len(dataset.metainfo['classes']),
            )


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
        if source.missing:
            image, mask = source.missing[0]
            raise InputError(
                f'expected a mask for each image of {source.name}, but {len(source.missing):,} of '
                f'{len(source.pairs):,} are not there, such as {mask} for {image}; add them, or correct '
                'data_prefix and seg_map_suffix of the dataset'
            )
        for name, head in _heads(config):
            if head.get('num_classes', source.num_classes) != source.num_classes:
                raise InputError(
                    f'expected as many classes of {name} as of {source.name}, but they have '
                    f'{head["num_classes"]} and {source.num_classes}; set {name}.num_classes='
                    f'{source.num_classes}'
                )


def _check_ignored(config: Config) -> None:
    """Raise InputError unless all parts ignore the same value."""
    places = {f'{name}.ignore_index': head.get('ignore_index', IGNORED) for name, head in _heads(config)}
    preprocessor = _model(config).get('data_preprocessor') or {}
    places['model.data_preprocessor.seg_pad_val'] = preprocessor.get('seg_pad_val', IGNORED)
    for split in ('val', 'test'):
        for metric in metrics(config, split, 'IoUMetric'):
            places[f'{split}_evaluator.ignore_index'] = metric.get('ignore_index', IGNORED)
    first, value = next(iter(places.items()))
    other = next((place for place in places if places[place] != value), None)
    if other is not None:
        raise InputError(
            f'expected one value for pixels of no class, but {first} is {value} and {other} is '
            f'{places[other]} ({IGNORED} unless it is set); set both to the same'
        )


def _model(config: Config) -> dict:
    """The model's section, inside a wrapper for test-time augmentation if there is one."""
    section = config.get('model') or {}
    return section.get('module', section)


def _heads(config: Config) -> List[Tuple[str, dict]]:
    """Decode and auxiliary heads with their dotted names."""
    return [
        (name, section)
        for name, section in walk(_model(config), 'model')
        if re.fullmatch(r'model\.(decode|auxiliary)_head(\.\d+)?', name)
    ]


def _unmatched(dataset: Any, pairs: List[Tuple[str, str]]) -> Tuple[List[Tuple[str, str]], List[str]]:
    """Pairs whose mask is not there and, where the dataset is all of its folder, masks of no image."""
    there = {str(path) for path in Path(dataset.data_prefix['seg_map_path']).rglob(f'*{dataset.seg_map_suffix}')}
    missing = [pair for pair in pairs if os.path.normpath(pair[1]) not in there]
    if dataset.ann_file or dataset._indices is not None:
        return missing, []
    return missing, sorted(there - {os.path.normpath(mask) for _, mask in pairs})
