#!/usr/bin/env python
"""Take the first images of a COCO file that have annotations, to check that a detector overfits them.

    python tools/datasets/subset_coco.py data/coco/annotations/instances_train2017.json few.json --images 8

An image counts if it has an annotation that is not `iscrowd`; all annotations of an image are taken. A dataset's
own `indices` would not do, since mmdet's CocoMetric scores over all images of its file.
"""

import os
import sys
from argparse import Namespace
from pathlib import Path

# A checkout works without installation, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmcyclemlp.checks.coco import check_images, read_coco
from mmcyclemlp.cli.arguments import command, parser_of
from mmcyclemlp.errors import InputError
from mmcyclemlp.files import write_json

PARSER = parser_of(__doc__)
PARSER.add_argument('annotations', type=Path, metavar='ANN', help='json to read')
PARSER.add_argument('out', type=Path, metavar='OUT', help='json to write')
PARSER.add_argument('--images', type=int, required=True, metavar='N', help='how many images to take')


def subset(content: dict, count: int) -> dict:
    """``content`` with the first ``count`` images, in the file's order, that have an annotation of an object."""
    with_objects = {entry['image_id'] for entry in content['annotations'] if not entry.get('iscrowd')}
    images = [image for image in content['images'] if image['id'] in with_objects][:count]
    chosen = {image['id'] for image in images}
    annotations = [entry for entry in content['annotations'] if entry['image_id'] in chosen]
    return {**content, 'images': images, 'annotations': annotations}


@command(PARSER)
def main(args: Namespace) -> None:
    if args.images < 1:
        raise InputError(f'--images expects a number from 1 up, got {args.images}')
    if os.path.exists(args.out) and os.path.samefile(args.out, args.annotations):
        raise InputError(
            f'expected another file to write than the one to read, but both are {args.out}; give a new name'
        )
    content = read_coco(args.annotations, 'check the path')
    check_images(args.annotations, content['images'])
    if any('image_id' not in entry for entry in content['annotations']):
        raise InputError(f'expected an image_id in each annotation of {args.annotations}; give the right file')
    part = subset(content, args.images)
    if len(part['images']) < args.images:
        raise InputError(
            f'--images {args.images} asks for more than the {len(part["images"])} images with annotations '
            f'of {args.annotations}; take fewer'
        )
    write_json(args.out, part)
    print(f'Wrote {len(part["images"])} images with {len(part["annotations"])} annotations to {args.out}')


if __name__ == '__main__':
    sys.exit(main())
