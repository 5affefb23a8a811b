#!/usr/bin/env python
"""Check all images and masks of a segmentation dataset: names, sizes, label values, and whether they can be read.

    python tools/datasets/check_segmentation.py configs/cyclemlp/camvid_fpn_b1.py
    python tools/datasets/check_segmentation.py data/mine/images data/mine/masks --classes 5

Exit status 0: no faults; 1: faults, of which the first ten are listed; 2: user errors, which print one line.
"""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

# A checkout works without installation, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from mmengine.registry import DefaultScope
from rich.progress import track

from mmcyclemlp.checks.segmentation import about_values, count_values, mask_sources
from mmcyclemlp.cli.arguments import command, parser_of
from mmcyclemlp.config import load_config
from mmcyclemlp.datasets.load_images import LoadReadableImage
from mmcyclemlp.datasets.masks import Labels, check_size, find_pairs, read_mask
from mmcyclemlp.errors import InputError

SHOWN = 10

PARSER = parser_of(__doc__)
PARSER.add_argument(
    'paths',
    nargs='+',
    metavar='PATH',
    help='a config, whose datasets for training, validation and test are checked; or a folder of '
    'images and one of masks with the same names up to the suffix',
)
PARSER.add_argument('--classes', type=int, metavar='N', help='for two folders: masks contain 0 to N-1')
PARSER.add_argument('--ignore', type=int, metavar='VALUE', help='for two folders: ignored value (default: 255)')


class Part(NamedTuple):
    """A dataset: its name, masks, what they may hold, and the names of its classes."""

    name: str
    masks: Sequence[str]
    labels: Labels
    classes: Sequence[str]


def of_folders(args: Namespace) -> Tuple[Dict[Tuple[str, str], Labels], List[str], List[Part]]:
    """Pairs of image and mask with what the mask may hold, sentences about files without counterpart, and datasets."""
    if args.classes is None or not 1 <= args.classes <= 256:
        raise InputError(f'two folders need --classes N, from 1 to 256, but got {args.classes}; say how many there are')
    pairs, faults = find_pairs(*map(Path, args.paths))
    labels = Labels(args.classes, 255 if args.ignore is None else args.ignore)
    if args.ignore is not None and args.ignore in range(args.classes):
        raise InputError(
            f'--ignore is {args.ignore}, but that is a class, of 0 to {args.classes - 1}, of which nothing would be '
            'learned; give another value'
        )
    names = [f'number {i}' for i in range(args.classes)]
    return dict.fromkeys(pairs, labels), faults, [Part(args.paths[1], [mask for _, mask in pairs], labels, names)]


def of_config(args: Namespace) -> Tuple[Dict[Tuple[str, str], Labels], List[str], List[Part]]:
    """As :func:`of_folders`, of all datasets of a config."""
    if args.classes is not None or args.ignore is not None:
        raise InputError(
            '--classes and --ignore belong to two folders, but got a config, which says them itself; leave them out'
        )
    config = load_config(args.paths[0])
    if config.get('default_scope') != 'mmseg':
        raise InputError(
            f'expected a config of segmentation, but {args.paths[0]} has default_scope '
            f'{config.get("default_scope")!r}; give another'
        )
    pairs, extra, parts = {}, {}, {}
    with DefaultScope.overwrite_default_scope('mmseg'):
        for source in mask_sources(config, 'train', 'val', 'test'):  # the last two are often the same
            pairs.update(dict.fromkeys(source.pairs, source.labels))
            extra.update(dict.fromkeys(source.extra))
            masks = tuple(mask for _, mask in source.pairs)
            parts.setdefault(masks, Part(source.name, masks, source.labels, source.names))
    return pairs, [f'{mask} has no image' for mask in extra], list(parts.values())


def faults_of(pairs: Dict[Tuple[str, str], Labels]) -> Iterator[str]:
    """A sentence for each image or mask at fault."""
    load = LoadReadableImage()
    for (image_path, mask_path), labels in track(pairs.items(), 'Images and masks', total=len(pairs)):
        size = None
        try:
            size = load(dict(img_path=image_path))['ori_shape']
        except InputError as error:
            yield str(error)
        try:
            mask = read_mask(mask_path, labels)
            if size is not None:
                check_size(mask, mask_path, size, image_path)
        except InputError as error:
            yield str(error)


@command(PARSER)
def main(args: Namespace) -> int:
    if len(args.paths) > 2:
        raise InputError(f'expected a config, or a folder of images and one of masks, but got {len(args.paths)} paths')
    pairs, faults, parts = of_config(args) if len(args.paths) == 1 else of_folders(args)
    faults += faults_of(pairs)
    notes = []
    for part in parts:
        counts, looked = count_values(part.masks)
        told = about_values(counts, part.labels, part.classes)
        if told and looked:
            # Masks of one class teach nothing; that some classes are rare may be so.
            few = (counts[part.labels.allowed & ~np.isin(np.arange(256), part.labels.ignored)] > 0).sum() < 2
            (faults if few else notes).append(f'in the {looked:,} masks of {part.name}, {told}')
    print(f'{len(pairs):,} images with masks: {f"{len(faults):,} faults" if faults else "nothing found"}')
    for fault in faults[:SHOWN]:
        print(f'- {fault}')
    if len(faults) > SHOWN:
        print(f'- and {len(faults) - SHOWN:,} more')
    for note in notes:
        print(f'Note: {note}')
    return 1 if faults else 0


if __name__ == '__main__':
    sys.exit(main())
