#!/usr/bin/env python
"""Convert annotations in Pascal VOC's format to COCO's.

    python tools/datasets/voc_to_coco.py VOCdevkit/VOC2007 train.json --split trainval
    python tools/datasets/voc_to_coco.py images_with_xml all.json --classes cat dog

VOC_FOLDER holds JPEGImages/, Annotations/ and ImageSets/Main/SPLIT.txt, or is a flat folder of XML files with the
images beside them. File names in OUT are relative to the folder of the images. Categories are numbered from 1: those of
--classes in that order; otherwise all names in the folder, in alphabetical order, so that all splits agree.

VOC's boxes count pixels from 1 and include both ends: [xmin, ymin, xmax, ymax] becomes
[xmin-1, ymin-1, xmax-xmin+1, ymax-ymin+1]. Objects marked difficult get iscrowd=1, which mmdet and COCO's metric
ignore. Unusable entries are left out and reported. User errors print one line and exit with status 2.
"""

import math
import sys
import unicodedata
import xml.etree.ElementTree as ElementTree
from argparse import Namespace
from collections import defaultdict
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

# A checkout works without installation, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.progress import track

from mmcyclemlp.cli.arguments import command, parser_of
from mmcyclemlp.errors import InputError
from mmcyclemlp.files import write_json
from mmcyclemlp.images import UNREADABLE, size_of
from mmcyclemlp.untrusted import read_text

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')
Found = Dict[str, List[str]]  # what is the matter -> where


class Voc(NamedTuple):
    """The folder of images, the names to convert, without suffix, the XML files by name, and the image files by
    :func:`same`."""

    images: Path
    names: List[str]
    annotations: Dict[str, Path]
    files: Dict[str, str]


PARSER = parser_of(__doc__)
PARSER.add_argument('folder', type=Path, metavar='VOC_FOLDER', help="folder in VOC's layout, or of XML files")
PARSER.add_argument('out', type=Path, metavar='OUT.json', help='file to write')
PARSER.add_argument('--split', metavar='NAME', help='the names in ImageSets/Main/NAME.txt (default: all)')
PARSER.add_argument('--classes', nargs='+', metavar='CLASS', help='names in label order (default: all)')


def same(name: str) -> str:
    """A name in one Unicode form, which systems write in two, and without regard to upper case."""
    return unicodedata.normalize('NFC', name).casefold()


def find(folder: Path, split: Optional[str]) -> Voc:
    """The folders and names of a dataset; InputError if there is nothing to convert."""
    if not folder.is_dir():
        raise InputError(
            f"expected a folder with annotations in VOC's format, but {folder} is no folder; check the path"
        )
    annotations = folder / 'Annotations' if (folder / 'Annotations').is_dir() else folder
    images = folder / 'JPEGImages' if (folder / 'JPEGImages').is_dir() else annotations
    found = sorted(path for path in annotations.iterdir() if path.suffix.lower() == '.xml' and path.name[0] != '.')
    there = {path.stem: path for path in found}
    files = {same(path.name): path.name for path in sorted(images.iterdir(), reverse=True) if path.is_file()}
    if not there:
        raise InputError(
            f'expected XML files in {annotations}, but it holds none; give the folder above Annotations/, '
            'or one of XML files'
        )
    if split is None:
        return Voc(images, list(there), there, files)
    sets = folder / 'ImageSets' / 'Main'
    if not (sets / f'{split}.txt').is_file():
        known = ', '.join(sorted(path.stem for path in sets.glob('*.txt'))[:10])
        raise InputError(
            f'--split {split} expects {sets / split}.txt, which does not exist; '
            + (f'there are {known}' if known else 'leave --split out to convert all')
        )
    known_names = {unicodedata.normalize('NFC', name): name for name in there}
    names = []
    for line in filter(None, map(str.strip, read_text(sets / f'{split}.txt').splitlines())):
        line = line.rpartition('/')[2].rpartition('\\')[2]  # some write the image's folder
        # The whole line may be a name with spaces; some add a 1 or -1; some write the image's suffix.
        candidates = [line, line.rsplit(None, 1)[0], line.split()[0]]
        candidates += [str(Path(name).with_suffix('')) for name in candidates if name.lower().endswith(SUFFIXES)]
        normal = [unicodedata.normalize('NFC', name) for name in candidates]
        names.append(next((known_names[name] for name in normal if name in known_names), candidates[-1]))
    return Voc(images, names, there, files)


def read(path: Path) -> ElementTree.Element:
    """Root of an annotation file; ValueError says why it cannot be read."""
    try:
        return ElementTree.fromstring(read_text(path))
    except (ElementTree.ParseError, OSError, InputError) as error:
        raise ValueError('XML files are malformed') from error


def class_names(voc: Voc) -> List[str]:
    """All names in the folder, whatever the split, in alphabetical order."""
    names = set()
    for path in track(list(voc.annotations.values()), 'Classes'):
        try:
            names |= {text(node, 'name') for node in read(path).iter('object')}
        except ValueError:
            continue  # reported when it is converted
    return sorted(names)


def text(node: ElementTree.Element, tag: str) -> str:
    """Text of a child; ValueError if it has none."""
    found = node.findtext(tag)
    if not found or not found.strip():
        raise ValueError('objects lack a name or a corner')
    return unicodedata.normalize('NFC', found.strip())


def image_of(voc: Voc, name: str, root: ElementTree.Element) -> Tuple[str, int, int]:
    """File name and size of an image, by the name of its XML, else as the XML says; ValueError if it is missing."""
    candidates = [name + suffix for suffix in SUFFIXES]
    candidates += [Path((root.findtext('filename') or '').strip().replace('\\', '/')).name]
    for candidate in candidates:
        if same(candidate) in voc.files:
            file = voc.files[same(candidate)]
            try:
                return (file, *size_of(voc.images / file))
            except UNREADABLE as error:
                raise ValueError('images cannot be read') from error
    raise ValueError('images are missing')


def box_of(node: ElementTree.Element, width: int, height: int) -> Tuple[List[float], bool]:
    """COCO's box of an object and whether it had to be cut at the border; ValueError for one that cannot be used."""
    bounds = node.find('bndbox')
    if bounds is None:
        raise ValueError('objects lack a name or a corner')
    try:
        left, top, right, bottom = (float(text(bounds, corner)) for corner in CORNERS)
    except ValueError:
        raise ValueError('objects lack a name or a corner') from None
    if not all(map(math.isfinite, (left, top, right, bottom))) or right < left or bottom < top:
        raise ValueError('boxes have corners in the wrong order')
    corners = left - 1, top - 1, right, bottom  # the far ends excluded
    left, right = (min(max(x, 0), width) for x in corners[::2])
    top, bottom = (min(max(y, 0), height) for y in corners[1::2])
    if right <= left or bottom <= top:
        raise ValueError('boxes lie outside their image')
    box = [int(value) if value.is_integer() else value for value in map(float, (left, top, right - left, bottom - top))]
    return box, (left, top, right, bottom) != corners


def convert(voc: Voc, classes: List[str]) -> Tuple[dict, Found]:
    """COCO's dict, and what was left out or changed."""
    images, annotations, found = [], [], defaultdict(list)
    numbers = {unicodedata.normalize('NFC', name): i for i, name in enumerate(classes, start=1)}
    for name in track(voc.names, 'Annotations'):
        if name not in voc.annotations:
            found['XML files are missing'].append(f'{name}.xml')
            continue
        path = voc.annotations[name]
        try:
            root = read(path)
            file_name, width, height = image_of(voc, name, root)
        except ValueError as error:
            found[str(error)].append(path.name)
            continue
        said = tuple((root.findtext(f'size/{side}') or '').strip() for side in ('width', 'height'))
        if said != (str(width), str(height)):
            found['sizes in the XML are not those of the image, which were taken'].append(path.name)
        image = dict(id=len(images) + 1, file_name=file_name, width=width, height=height)
        images.append(image)
        for node in root.iter('object'):
            try:
                label = text(node, 'name')
                if label not in numbers:
                    raise ValueError('objects are of other classes')
                box, was_cut = box_of(node, width, height)
            except ValueError as error:
                found[str(error)].append(path.name)
                continue
            if box[2:] == [1, 1]:
                found['boxes are of a single pixel, and were kept'].append(path.name)
            if was_cut:
                found['boxes were cut at the border of their image'].append(path.name)
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image['id'],
                    category_id=numbers[label],
                    bbox=box,
                    area=box[2] * box[3],
                    iscrowd=int((node.findtext('difficult') or '').strip() == '1'),
                )
            )
    categories = [dict(id=i, name=name) for name, i in numbers.items()]
    return dict(images=images, annotations=annotations, categories=categories), found


@command(PARSER)
def main(args: Namespace) -> None:
    if not args.out.absolute().parent.is_dir():
        raise InputError(
            f'expected an existing folder to write into, but {args.out.parent} is no folder; create it first'
        )
    voc = find(args.folder, args.split)
    content, found = convert(voc, args.classes or class_names(voc))
    for reason, places in found.items():
        print(f'{len(places):,} {reason}: {", ".join(dict.fromkeys(places[:5]))}{" ..." if len(places) > 5 else ""}')
    without = sorted({c['id'] for c in content['categories']} - {a['category_id'] for a in content['annotations']})
    if without:
        print('No boxes of ' + ', '.join(content['categories'][i - 1]['name'] for i in without))
    if not content['annotations']:
        raise InputError(f'expected annotations to convert in {args.folder}, but none is left; see above')
    write_json(args.out, content)
    print(
        f'Wrote {len(content["images"]):,} images with {len(content["annotations"]):,} boxes of '
        f'{len(content["categories"])} classes to {args.out}; the images are in {voc.images}'
    )


if __name__ == '__main__':
    sys.exit(main())
