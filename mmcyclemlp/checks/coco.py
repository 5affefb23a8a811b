"""Faults in a file of COCO annotations: those that stop training or scoring, and those that mmdet skips."""

import math
from collections import defaultdict
from difflib import get_close_matches
from operator import mul
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set

from mmengine.logging import print_log

from mmcyclemlp.errors import InputError
from mmcyclemlp.untrusted import most_pixels, read_json

from .common import DIFFERING, look_alike, shown, some

OUTSIDE = 'boxes lie outside their image'
SMALL = 'boxes are smaller than a pixel or have no area'
UNKNOWN_IMAGE = 'annotations are of images that the file does not list'
OTHER_CATEGORY = 'annotations are of categories that are not among the classes'
CROSSING = 'boxes reach more than a pixel out of their image'
NO_POLYGON = 'masks have neither three points nor run lengths that are read'
CROWD = 'annotations are marked iscrowd'
KEYS = ('images', 'annotations', 'categories')
KINDS = {'name': str, 'file_name': str, 'id': (int, str), 'image_id': (int, str), 'category_id': (int, str)}
LARGEST = 1e15  # number that makes sense in a file
LARGE = 50  # megabytes, which take seconds to read
SIZE_TOLERANCE = 1  # pixels that a box may reach out of its image without a word


class Use(NamedTuple):
    """What is done with a file: ``name`` of the dataset's section in the config, its ``classes``, whether ``masks``
    are read at all, as run lengths too (``run_lengths``), and by COCO's metric (``scores_masks``); whether that metric
    reads the file (``scored``)."""

    name: str
    classes: Sequence[str]
    masks: bool
    run_lengths: bool
    scores_masks: bool
    scored: bool = False


class Entries:
    """Annotations of a file as mmdet takes them.

    ``kept`` counts those that it uses, ``annotated`` holds the ids of images with one of the classes, ``learnt`` the
    ids of categories that it trains on. ``counts`` and ``first`` say how many are of each kind above, and the id of the
    first.
    """

    def __init__(self) -> None:
        self.kept = 0
        self.annotated: Set[Any] = set()
        self.learnt: Set[Any] = set()
        self.ids: Set[Any] = set()
        self.counts: Dict[str, int] = defaultdict(int)
        self.first: Dict[str, Any] = {}

    def add(self, kind: str, key: Any) -> None:
        self.counts[kind] += 1
        self.first.setdefault(kind, key)


def read_coco(path: Path, advice: str, keys: Sequence[str] = KEYS) -> Dict[str, list]:
    """Read a file that must have lists of dicts under ``keys``; InputError, ending with ``advice``, if it is absent."""
    if not path.is_file():
        names = sorted(entry.name for entry in path.parent.glob('*.json')) if path.parent.is_dir() else []
        near = get_close_matches(path.name, names, 1, 0.3)
        raise InputError(
            f"expected annotations in COCO's format, but {path} does not exist; "
            + (f'did you mean {path.parent / near[0]}?' if near else advice)
        )
    size = path.stat().st_size / 1e6
    if size > LARGE:
        print_log(f'Reading {path} ({size:.0f} MB)', 'current')
    content = read_json(path, "annotations in COCO's format")
    wrong = [
        key
        for key in keys
        if not isinstance(content, dict)
        or not isinstance(content.get(key), list)
        or not all(isinstance(entry, dict) for entry in content[key])
    ]
    if wrong:
        raise InputError(
            "expected annotations in COCO's format (a dict with lists of images, annotations and "
            f'categories), but {path} has no {" and no ".join(wrong)}; give the right file'
        )
    return content


def check_images(path: Path, images: List[dict]) -> Dict[Any, dict]:
    """The images by their id; InputError for a missing key, a size of nothing, an id given twice, no image."""
    for i, image in enumerate(images):
        _require(path, f'images[{i}]', image, 'id', 'file_name', 'width', 'height')
        sides = image['width'], image['height']
        if not _are_numbers(sides) or min(sides) <= 0 or math.prod(sides) > most_pixels():
            raise InputError(
                f'{path}: image {image["file_name"]} has size {image["width"]} x {image["height"]}; '
                f'expected two positive numbers, and at most {most_pixels():,} pixels'
            )
    if not images:
        raise InputError(f'expected images in {path}, but it lists none; give the right file')
    _check_unique(path, 'image id', (image['id'] for image in images))
    return {image['id']: image for image in images}


def check_categories(path: Path, categories: List[dict], use: Use) -> Dict[Any, str]:
    """Id and name of the categories that are classes of the config.

    mmdet numbers the labels in the file's order and names them in the config's, so InputError unless the classes
    are all there, in the same order.
    """
    for i, category in enumerate(categories):
        _require(path, f'categories[{i}]', category, 'id', 'name')
    names = [category['name'] for category in categories]
    missing = [name for name in use.classes if name not in names]
    if missing:
        alike = look_alike(names, use.classes)
        listed, absent = ([ascii(name) for name in each] if alike else each for each in (names, missing))
        raise InputError(
            f'{path} lists the categories {some(listed)}, but not {some(absent)} of the classes of '
            f'{use.name}{DIFFERING if alike else ""}; set its metainfo=dict(classes=({_tuple(names)})), and '
            'num_classes in the model'
        )
    chosen = [category for category in categories if category['name'] in use.classes]
    _check_unique(path, 'category id', (category['id'] for category in categories))
    _check_unique(path, 'category', (category['name'] for category in chosen))
    order = [category['name'] for category in chosen]
    if order != list(use.classes):
        raise InputError(
            f'{path} lists the categories {some(order)}, but the classes of {use.name} are in another '
            f'order, and mmdet would mix up their names; set its metainfo=dict(classes=({_tuple(order)}))'
        )
    return {category['id']: category['name'] for category in chosen}


def check_entries(
    path: Path, content: Dict[str, list], images: Dict[Any, dict], chosen: Dict[Any, str], use: Use
) -> Entries:
    """Check the annotations; InputError for the first that mmdet cannot use."""
    listed = {category['id'] for category in content['categories']}
    entries = Entries()
    for i, entry in enumerate(shown(content.get('annotations', ()), 'Annotations')):
        _require(path, f'annotations[{i}]', entry, 'id', 'image_id', 'category_id')
        key, category, image = entry['id'], entry['category_id'], images.get(entry['image_id'])
        if key in entries.ids:
            raise InputError(f'{path}: annotation id {key} is there twice; number the annotations anew')
        entries.ids.add(key)
        if category not in listed:
            _check_kind(path, key, 'category_id', category, listed)
            raise InputError(
                f'{path}: annotation {key} has category_id {category!r}, but categories lists '
                f'{some([repr(each) for each in sorted(listed, key=str)])}, and mmdet would take what it shows for '
                'background; '
                'correct the ids'
            )
        if use.scored:
            _require(path, f'annotation {key}', entry, 'bbox', 'area', 'iscrowd')
            if not isinstance(key, int) or entry['iscrowd'] not in (0, 1) or not _are_numbers([entry['area']]):
                raise InputError(
                    f'{path}: annotation has id {key!r}, area {entry["area"]!r:.50} and iscrowd '
                    f'{entry["iscrowd"]!r:.50}, '
                    "but COCO's metric takes numbers only, and iscrowd is 0 or 1; correct them"
                )
        crowd = entry.get('iscrowd') or 0
        if crowd not in (0, 1):  # mmdet takes the text '0' for a crowd
            raise InputError(f'{path}: annotation {key} has {crowd!r:.50} for iscrowd; expected 0 or 1')
        if image is None:
            _check_kind(path, key, 'image_id', entry['image_id'], images)
            entries.add(UNKNOWN_IMAGE, key)
            continue
        if category in chosen:
            entries.annotated.add(image['id'])
        if entry.get('ignore'):
            continue
        kind = _box_kind(path, entry, image)
        if kind in (OUTSIDE, SMALL):
            entries.add(kind, key)
        elif category not in chosen:
            entries.add(OTHER_CATEGORY, key)
        else:
            if kind:
                entries.add(kind, key)
            if use.masks and not _mask_is_read(path, entry, image, use):
                entries.add(NO_POLYGON, key)
            elif crowd:
                entries.add(CROWD, key)
            else:
                entries.kept += 1
                entries.learnt.add(category)
    return entries


def _box_kind(path: Path, entry: dict, image: dict) -> Optional[str]:
    """The fault of an annotation's box, or None."""
    _require(path, f'annotation {entry["id"]}', entry, 'bbox', 'area')
    box, area = entry['bbox'], entry['area']
    if not (isinstance(box, list) and len(box) == 4 and _are_numbers([*box, area])):
        raise InputError(
            f'{path}: annotation {entry["id"]} has bbox {box!r:.80} and area {area!r:.50}; expected four numbers x, '
            'y, width, height, and one'
        )
    x, y, w, h = box
    width, height = image['width'], image['height']
    if w < 1 or h < 1 or area <= 0:
        return SMALL
    if min(x + w, width) <= max(x, 0) or min(y + h, height) <= max(y, 0):
        return OUTSIDE
    return CROSSING if max(-x, -y, x + w - width, y + h - height) > SIZE_TOLERANCE else None


def _mask_is_read(path: Path, entry: dict, image: dict, use: Use) -> bool:
    """Whether mmdet reads the mask of an annotation that it keeps, or ignores it; InputError if neither."""
    where, mask = f'{path}: annotation {entry["id"]}', entry.get('segmentation')
    if not mask:
        raise InputError(
            f'{where} has no segmentation, but {use.name} reads masks; add it, or take a config for boxes only'
        )
    if isinstance(mask, list):
        if not all(isinstance(polygon, list) and _are_numbers(polygon) for polygon in mask):
            raise InputError(
                f'{where} has a segmentation that is no list of polygons [x1, y1, x2, y2, ...]; correct it'
            )
        reach = max(image['width'], image['height'])
        if any(polygon and (min(polygon) < -reach or max(polygon) > 2 * reach) for polygon in mask):
            # pycocotools takes memory by the length of a side, and crashes on long ones.
            raise InputError(
                f'{where} has a polygon that reaches far out of its image {image["file_name"]} of '
                f'{image["width"]} x {image["height"]}; correct it'
            )
        polygons = [polygon for polygon in mask if len(polygon) >= 6 and len(polygon) % 2 == 0]
        valid = is_read = bool(polygons)
        is_empty = not any(map(_has_area, polygons))
    elif isinstance(mask, dict):
        valid = isinstance(mask.get('counts'), (list, str)) and mask.get('size') is not None
        is_read = valid and use.run_lengths
        is_empty = valid and _run_length_area(where, mask, image) == 0
    else:
        raise InputError(f'{where} has a segmentation of type {type(mask).__name__}; expected polygons or run lengths')
    if use.scores_masks and not valid:
        raise InputError(
            f"{where} has a segmentation that COCO's metric cannot read; expected polygons of at least "
            'three points, or run lengths with size and counts'
        )
    if is_read and is_empty:
        raise InputError(
            f'{where} has a mask of no area though its area is {entry["area"]}, and would teach the mask '
            'head to see nothing there; correct or remove it'
        )
    return is_read


def _has_area(polygon: List[float]) -> bool:
    x0, y0, x1, y1, x2, y2 = polygon[:6]
    if (x1 - x0) * (y2 - y0) != (x2 - x0) * (y1 - y0):
        return True  # of most, the first triangle says so
    x, y = polygon[::2], polygon[1::2]
    return sum(map(mul, x, y[1:] + y[:1])) != sum(map(mul, y, x[1:] + x[:1]))


def _run_length_area(where: str, mask: dict, image: dict) -> int:
    size, expected, counts = mask['size'], [image['height'], image['width']], mask['counts']
    if size != expected:
        raise InputError(
            f'{where} has a mask of size {size}, but its image {image["file_name"]} is {expected} '
            '(height, width); correct one of them'
        )
    counts = _decoded(counts) if isinstance(counts, str) else counts
    # pycocotools writes past its memory for others.
    if not all(type(count) is int and count >= 0 for count in counts):
        raise InputError(f'{where} has run lengths that are no numbers from 0 up; correct them')
    if sum(counts) != size[0] * size[1]:
        raise InputError(
            f'{where} has run lengths of {sum(counts)} pixels, but its image {image["file_name"]} has '
            f'{size[0] * size[1]}; correct them'
        )
    return sum(counts[1::2])


def _decoded(text: str) -> List[int]:
    """Run lengths from COCO's text: 5 bits a character, the lowest first; from the fourth on, the difference to the one
    two before. -1 stands for the rest of a text that is cut off."""
    counts: List[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts + [-1] * bool(shift)


def _require(path: Path, where: str, entry: dict, *keys: str) -> None:
    for key in keys:
        if key not in entry:
            raise InputError(f'{path}: {where} has no {key}, which mmdet reads; add it')
        if not isinstance(entry[key], KINDS.get(key, object)):
            raise InputError(
                f'{path}: {where} has {entry[key]!r:.50} for {key}; expected a '
                f'{"name" if KINDS[key] is str else "whole number or a name"}'
            )


def _check_kind(path: Path, key: Any, what: str, value: Any, others: Iterable[Any]) -> None:
    """Raise InputError for an id that is text where the same one is a number, or the other way round."""
    other = next((each for each in others if str(each) == str(value)), None)
    if other is not None:
        kinds = ('text', 'a number') if isinstance(value, str) else ('a number', 'text')
        raise InputError(
            f'{path}: annotation {key} has {what} {value!r}, which is {kinds[0]}, but the list has {other!r}, which is '
            f'{kinds[1]}; write both as numbers'
        )


def _check_unique(path: Path, what: str, keys: Iterable[Any]) -> None:
    keys = list(keys)
    text = [key for key in keys if isinstance(key, str)]
    if what.endswith('id') and 0 < len(text) < len(keys):
        raise InputError(f'{path}: some {what}s are text, such as {text[0]!r}, others numbers; write all as numbers')
    seen = set()
    for key in keys:
        if key in seen:
            raise InputError(f'{path}: {what} {key} is there twice; make it unique')
        seen.add(key)


def _are_numbers(values: Sequence[Any]) -> bool:
    # Of a hundred thousand polygons; a loop in Python would take ten times as long.
    return {int, float}.issuperset(map(type, values)) and abs(sum(values)) < LARGEST  # not of nan, either


def _tuple(names: Sequence[str]) -> str:
    return ' '.join(f'{name!r},' for name in names[:8]) + (' ...' if len(names) > 8 else '')
