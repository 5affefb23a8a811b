"""Cluttered scenes of handwritten digits with boxes and masks, made here, so that nothing is downloaded."""

import json
import os
import shutil
import uuid
from functools import cache
from pathlib import Path
from typing import List, NamedTuple, Tuple, Union

import numpy as np
from mmengine.dist import is_main_process
from PIL import Image
from rich.progress import track

from mmcyclemlp.errors import InputError, MissingDependencyError

SPLITS = ('train', 'val')
CLASSES = tuple('0123456789')
PALETTE = [
    (230, 25, 75),
    (60, 180, 75),
    (255, 225, 25),
    (0, 130, 200),
    (245, 130, 48),
    (145, 30, 180),
    (70, 240, 240),
    (240, 50, 230),
    (170, 110, 40),
    (128, 128, 0),
]
SIDES = (96, 128)  # of an image, in pixels
HEIGHTS = (32, 52)  # of a digit
GAP = 2  # between digits, at least
ITEMS = (16, 24)  # digits and strokes that are tried in an image
DARK, LIGHT = (10, 101), (170, 256)  # values of the channels behind, and of a digit
CONTRAST = 120  # least distance of a digit's colour from what is behind it, summed over the channels

Pixels = np.ndarray


class Instance(NamedTuple):
    """A digit: its ``label`` 0..9, tight ``box`` (x, y, width, height) and ``mask`` bool [H, W], both of what is
    visible of it."""

    label: int
    box: Tuple[int, int, int, int]
    mask: Pixels


class Scene(NamedTuple):
    """``image`` uint8 [H, W, 3] RGB and its instances, from back to front."""

    image: Pixels
    instances: Tuple[Instance, ...]


def digit_scene(index: int, split: str = 'train') -> Scene:
    """The ``index``-th scene of a split, from 0 without end.

    Digits of scikit-learn, in light colours, slanted and about 32 to 52 pixels high, on a darker, textured ground among
    strokes and shapes, in an image of 96 to 128 pixels per side. They do not touch, no stroke hides more than a tenth
    of one, and all are annotated. The digits that ``Digits`` holds out appear in ``val`` only. All computations are in
    integers, from a generator seeded by split and index: a scene has the same pixels on every machine.

    Raises:
        InputError: unknown split or negative index.
        MissingDependencyError: scikit-learn is not installed.
    """
    if split not in SPLITS:
        raise InputError(f'split of digit scenes must be one of {SPLITS}, got {split!r}')
    if index < 0:
        raise InputError(f'expected the index of a digit scene from 0 up, got {index}')
    rng = np.random.default_rng([SPLITS.index(split), index])
    height, width = (int(side) for side in rng.integers(SIDES[0], SIDES[1] + 1, size=2))
    image = _ground(rng, height, width)
    for _ in range(rng.integers(4, 10)):
        _paint(image, _shape(rng, height, width), rng.integers(*DARK, size=3))
    front = np.zeros((height, width), dtype=int)  # number of the digit in front, from 1
    labels: List[int] = []
    sizes = [0]
    for _ in range(rng.integers(*ITEMS, endpoint=True)):
        is_stroke = rng.integers(12) == 0
        label, alpha = (-1, _stroke(rng, height, width)) if is_stroke else _digit(rng, split, height, width)
        mask = alpha >= 128
        if _hides(mask, front, sizes) if is_stroke else front[_grown(mask)].any():
            continue
        colour = rng.integers(*DARK, size=3) if is_stroke else _visible_colour(rng, image, mask)
        _paint(image, alpha, colour)
        if is_stroke:
            front[mask] = 0
        else:
            labels.append(label)
            sizes.append(int(mask.sum()))
            front[mask] = len(labels)
    image += rng.integers(-8, 9, size=image.shape)
    instances = tuple(Instance(label, _box(front == i), front == i) for i, label in enumerate(labels, start=1))
    return Scene(image.clip(0, 255).astype(np.uint8), instances)


def semantic_mask(scene: Scene) -> Pixels:
    """uint8 [H, W]: 0 for the ground, 1 to 10 for the digits 0 to 9."""
    mask = np.zeros(scene.image.shape[:2], dtype=np.uint8)
    for instance in scene.instances:
        mask[instance.mask] = instance.label + 1
    return mask


def write_digit_scenes(root: Union[str, os.PathLike], train: int = 2000, val: int = 100) -> None:
    """Write scenes as a dataset for detection, instance and semantic segmentation.

    ``{train,val}/NNNN.png`` are images, ``annotations/{train,val}.json`` hold boxes and masks in COCO's format with
    category ids 1 to 10 for the digits 0 to 9, ``masks/{train,val}/NNNN.png`` semantic masks with the same indices and
    0 for the ground. 500 scenes take some 6 seconds. ``root`` is complete or missing, never half written.

    Raises:
        InputError: ``root`` exists, a count is not positive, or nothing can be written there.
        MissingDependencyError: scikit-learn or pycocotools is not installed.
    """
    if _holds_something(Path(root).expanduser()):
        raise InputError(
            f'expected a folder to make for the digit scenes, but {root} exists; remove it first, or give another'
        )
    make_missing(root, train, val)


def make_missing(root: Union[str, os.PathLike], train: int = 2000, val: int = 100) -> None:
    """Write scenes as :func:`write_digit_scenes` does, unless ``root`` holds something.

    Several processes may do so at once: the folder of the first to be done is kept.
    """
    root = Path(root).expanduser()
    if _holds_something(root):
        return
    if min(train, val) < 1:
        raise InputError(f'expected at least one scene in each split, got train={train} and val={val}')
    temporary = root.with_name(f'.{root.name}.{uuid.uuid4().hex}.tmp')
    try:
        (temporary / 'annotations').mkdir(parents=True)
        for split, count in zip(SPLITS, (train, val)):
            _write_split(temporary, split, count)
        try:
            temporary.rename(root)
        except OSError:
            if not _holds_something(root):  # of a faster process
                raise
    except OSError as error:
        raise InputError(
            f'could not write digit scenes to {root} ({error.strerror}); check the permissions and the free space there'
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class MadeScenes:
    """A dataset whose ``data_root`` is written where it is absent: 2,000 training and 100 validation scenes."""

    def make_missing(self) -> None:
        """Write the scenes unless ``data_root`` holds something."""
        make_missing(self.data_root)

    def full_init(self) -> None:
        """As the other base's, of data that is there."""
        self.make_missing()
        super().full_init()


def _holds_something(folder: Path) -> bool:
    return folder.is_file() or (folder.is_dir() and any(folder.iterdir()))


def _write_split(root: Path, split: str, count: int) -> None:
    try:
        from pycocotools import mask as coco_mask
    except ImportError as error:
        raise MissingDependencyError(
            'the masks of digit scenes are written by pycocotools, which is not installed; '
            'run `pip install pycocotools`'
        ) from error
    images, annotations = [], []
    for folder in (root / split, root / 'masks' / split):
        folder.mkdir(parents=True)
    for index in track(range(count), f'Digit scenes, {split}', disable=not is_main_process()):
        scene = digit_scene(index, split)
        height, width, _ = scene.image.shape
        name = f'{index:04}.png'
        Image.fromarray(scene.image).save(root / split / name)
        Image.fromarray(semantic_mask(scene)).save(root / 'masks' / split / name)
        images.append(dict(id=index + 1, file_name=name, width=width, height=height))
        for instance in scene.instances:
            encoded = coco_mask.encode(np.asfortranarray(instance.mask, dtype=np.uint8))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index + 1,
                    category_id=instance.label + 1,
                    iscrowd=0,
                    bbox=list(instance.box),
                    area=int(instance.mask.sum()),
                    segmentation=dict(size=encoded['size'], counts=encoded['counts'].decode()),
                )
            )
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, start=1)]
    with (root / 'annotations' / f'{split}.json').open('w', encoding='utf-8') as file:
        json.dump(dict(images=images, annotations=annotations, categories=categories), file)


def handwritten_digits(held_out: bool) -> Tuple[Pixels, Pixels]:
    """Ink 0..16 of scikit-learn's digits, float [N, 8, 8], and labels [N]: every fifth of each class, or the others.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingDependencyError(
            'the digits are embedded in scikit-learn, which is not installed; run `pip install scikit-learn`'
        ) from error
    digits = load_digits()
    chosen = np.full(len(digits.target), not held_out)
    for label in range(10):
        chosen[np.flatnonzero(digits.target == label)[2::5]] = held_out
    return digits.images[chosen], digits.target[chosen]


@cache
def _glyphs(split: str) -> Tuple[Pixels, Pixels]:
    """Ink 0..256 of the split's digits with an empty border, int [N, 10, 10], and their labels [N]."""
    images, labels = handwritten_digits(split == 'val')
    return np.pad(16 * images.astype(int), ((0, 0), (1, 1), (1, 1))), labels


def _sample(grid: Pixels, y: Pixels, x: Pixels) -> Pixels:
    """Bilinear values [H, W] of an integer grid [h, w] at y and x, in 1/256 of a cell; its border goes on."""
    h, w = grid.shape
    y, x = y.clip(0, (h - 1) * 256), x.clip(0, (w - 1) * 256)
    top, left, down, right = y >> 8, x >> 8, y & 255, x & 255
    bottom, beside = np.minimum(top + 1, h - 1), np.minimum(left + 1, w - 1)
    above = grid[top, left] * (256 - right) + grid[top, beside] * right
    below = grid[bottom, left] * (256 - right) + grid[bottom, beside] * right
    return (above * (256 - down) + below * down) >> 16


def _ground(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Two colours mixed by cloudy noise of two scales, int [H, W, 3]."""
    y, x = np.ogrid[:height, :width]
    clouds = (
        sum(
            weight
            * _sample(
                rng.integers(0, 257, size=(cells + 1, cells + 1)), 256 * cells * y // height, 256 * cells * x // width
            )
            for cells, weight in ((4, 3), (24, 1))
        )
        // 4
    )
    first, second = rng.integers(*DARK, size=(2, 3))
    return first + ((second - first) * clouds[..., None] >> 8)


def _paint(image: Pixels, alpha: Pixels, colour: Pixels) -> None:
    """Lay a colour [3] over an image [H, W, 3] in place, as far as alpha [H, W] in 0..256 says."""
    image += (colour - image) * alpha[..., None] >> 8


def _stroke(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Opacity 0 or 256 of a straight stroke, [H, W]."""
    y, x = np.ogrid[:height, :width]
    dy, dx = y - rng.integers(height), x - rng.integers(width)
    ey, ex = rng.integers(-50, 51, size=2)
    length = ey * ey + ex * ex + 1  # squared
    along = (dy * ey + dx * ex).clip(0, length)
    reach = rng.integers(2, 5) * length // 2
    return 256 * ((dy * length - ey * along) ** 2 + (dx * length - ex * along) ** 2 <= reach**2)


def _shape(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Opacity 0..256 of a stroke, blob, ellipse, rectangle or triangle, full or hollow, [H, W]."""
    kind = rng.integers(5)
    if kind == 0:
        return _stroke(rng, height, width)
    y, x = np.ogrid[:height, :width]
    dy, dx = y - rng.integers(height), x - rng.integers(width)
    ry, rx = rng.integers(6, 32, size=2)
    dx = dx + (dy * rng.integers(-128, 129) >> 8)
    # Distance from the middle in 1/1024 of the way to the edge; squared where it is round.
    if kind <= 2:
        distance = 1024 * ((dy * rx) ** 2 + (dx * ry) ** 2) // (ry * rx) ** 2
    elif kind == 3:
        distance = 1024 * np.maximum(abs(dy) * rx, abs(dx) * ry) // (ry * rx)
    else:
        distance = 1024 * np.maximum(abs(2 * dx * ry) + dy * rx, -dy * rx) // (ry * rx)
    if kind == 1:
        return (1024 - distance).clip(0, 1024) // 4
    inner = rng.integers(400, 800) * rng.integers(2)
    return 256 * ((distance <= 1024) & (distance >= inner))


def _digit(rng: np.random.Generator, split: str, height: int, width: int) -> Tuple[int, Pixels]:
    """Label of a digit somewhere in the image, and its opacity 0..256, [H, W]."""
    glyphs, labels = _glyphs(split)
    i = rng.integers(len(glyphs))
    size = rng.integers(HEIGHTS[0], HEIGHTS[1] + 1)
    wide = size * rng.integers(85, 111) // 100
    side = size * 5 // 4  # room for the slant
    top, left = rng.integers(height - side), rng.integers(width - side)
    dy, dx = np.mgrid[:side, :side] - side // 2
    slant, turn = rng.integers(-40, 41), rng.integers(-16, 17)  # in 1/256
    middle = 9 * 128  # of ten cells
    ink = _sample(glyphs[i], middle + (256 * dy + turn * dx) * 8 // size, middle + (256 * dx + slant * dy) * 8 // wide)
    alpha = np.zeros((height, width), dtype=int)
    alpha[top : top + side, left : left + side] = (4 * (ink - 64)).clip(0, 256)
    return int(labels[i]), alpha


def _hides(mask: Pixels, front: Pixels, sizes: List[int]) -> bool:
    """Whether less than nine tenths of a digit would be left of it."""
    left = np.bincount(front[~mask], minlength=len(sizes))
    return any(10 * seen < 9 * size for seen, size in zip(left[1:], sizes[1:]))


def _grown(mask: Pixels) -> Pixels:
    """The mask and all within ``GAP`` pixels of it along both axes."""
    for _ in range(2):  # along the rows, and of the transposed along the columns
        grown = mask.copy()
        for step in range(1, GAP + 1):
            grown[step:] |= mask[:-step]
            grown[:-step] |= mask[step:]
        mask = grown.T
    return mask


def _visible_colour(rng: np.random.Generator, image: Pixels, mask: Pixels) -> Pixels:
    """A light colour [3] that stands out from what the mask covers."""
    behind = image[mask].sum(axis=0) // mask.sum()
    colour = behind
    while abs(colour - behind).sum() < CONTRAST:
        colour = rng.integers(*LIGHT, size=3)
    return colour


def _box(mask: Pixels) -> Tuple[int, int, int, int]:
    """Tight box (x, y, width, height) of a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1))
