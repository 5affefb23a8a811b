"""Masks of semantic segmentation, a class index for each pixel, checked when they are read."""

import io
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from mmengine import fileio
from PIL import Image

from mmcyclemlp.errors import InputError
from mmcyclemlp.images import UNREADABLE, orientation

BYTE_MODES = ('1', 'L', 'P')  # Pillow's names of images with one byte per pixel


class Labels(NamedTuple):
    """The values of a mask: classes from 0 up, and ``ignore_index`` for pixels without a class.

    With ``reduce_zero_label``, as for ADE20K: classes from 1 up, and 0 or 255 for pixels without a class.
    """

    num_classes: int
    ignore_index: int = 255
    reduce_zero_label: bool = False

    @property
    def ignored(self) -> List[int]:
        return [0, 255] if self.reduce_zero_label else [self.ignore_index]

    @property
    def allowed(self) -> np.ndarray:
        """Whether each of the values 0 to 255 may stand in a file, bool [256]."""
        first = int(self.reduce_zero_label)
        values = [*range(first, first + self.num_classes), *self.ignored]
        return np.isin(np.arange(256), values)

    def __str__(self) -> str:
        first = int(self.reduce_zero_label)
        return (
            f'classes {first} to {first + self.num_classes - 1}, or {" or ".join(map(str, self.ignored))} where '
            'none applies'
        )


def read_mask(path: str, labels: Labels, backend_args: Optional[dict] = None) -> np.ndarray:
    """Read a mask as it is in the file, uint8 ``[H, W]``; for a palette image, the indices.

    mmseg reads masks of any kind, and silently cuts their values to eight bits.

    Args:
        path (str): an image file with one byte per pixel, such as a grey or palette PNG.
        labels (Labels): the values it may hold.
        backend_args (dict, optional): of mmengine's file backends.

    Raises:
        InputError: it is missing, cannot be read, is a JPEG, has another number of channels or bits, or holds other
            values.
    """
    try:
        with Image.open(io.BytesIO(fileio.get(path, backend_args))) as image:
            check_upright(image, path)
            if image.format in ('JPEG', 'MPO'):
                raise InputError(
                    f'expected a mask of exact values, but {path} is a JPEG, which changes them; make it again as a PNG'
                )
            mode = image.mode
            bands = image.getbands()
            mask = np.array(image) if mode in BYTE_MODES else None
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f'expected a mask, but {path} does not exist; add it, or remove its image') from error
    except UNREADABLE as error:
        raise InputError(f'expected a mask, but {path} cannot be read ({error}); copy or make it again') from error
    if mask is None:
        kind = f'has {len(bands)} channels ({", ".join(bands)})' if len(bands) > 1 else 'has more than 8 bits per pixel'
        raise InputError(
            f'expected a mask with a class index of 8 bits for each pixel, but {path} {kind}; save the '
            'indices as a grey PNG of 8 bits'
        )
    mask = mask.astype(np.uint8, copy=False)
    if not labels.allowed[mask].all():
        raise InputError(
            f'expected {labels} in a mask, but {path} holds {_others(mask, labels)}'
            f'{" (a palette image, of which the indices count)" if mode == "P" else ""}; correct it, or '
            'the number of classes and the ignored index'
        )
    return mask


def _others(mask: np.ndarray, labels: Labels) -> str:
    """The values that a mask should not hold, in words."""
    counts = np.bincount(mask.ravel(), minlength=256)
    values = np.flatnonzero((counts > 0) & ~labels.allowed)
    shown = ', '.join(map(str, values[:3])) + (f' and {len(values) - 3} more values' if len(values) > 3 else '')
    return f'{shown} in {counts[values].sum():,} of {mask.size:,} pixels'


def check_upright(image: Image.Image, path: str) -> None:
    """Raise InputError for a mask whose EXIF tag turns it: viewers do, mmseg does not."""
    if orientation(image) != 1:
        raise InputError(
            f'expected a mask whose pixels lie as those of its image, but the EXIF tag of {path} turns it, and '
            'mmseg does not; turn its pixels, and save it without the tag'
        )


def check_size(mask: np.ndarray, mask_path: str, image_size: Sequence[int], image_path: str) -> None:
    """Raise InputError unless a mask ``[H, W]`` has the size (height, width) of its image."""
    height, width = image_size[:2]
    if mask.shape != (height, width):
        turned = ' of the image as its EXIF tag turns it' if mask.shape == (width, height) else ''
        raise InputError(
            f'expected a mask of the size of its image, but {mask_path} is {mask.shape[1]}x'
            f'{mask.shape[0]} and {image_path} is {width}x{height}; make the mask again{turned}'
        )


def find_pairs(images: Path, masks: Path) -> Tuple[List[Tuple[str, str]], List[str]]:
    """Pairs of an image and a mask in two folders that have the same name up to the suffix, sorted by name.

    Returns:
        tuple[list[tuple[str, str]], list[str]]: the pairs, and a sentence for each file without a counterpart.

    Raises:
        InputError: one of them is not a folder, or holds no image file.
    """
    image_files, mask_files = _by_stem(images), _by_stem(masks)
    pairs = [(str(path), str(mask_files[stem])) for stem, path in image_files.items() if stem in mask_files]
    return pairs, [
        *(f'{path} has no mask in {masks}' for stem, path in image_files.items() if stem not in mask_files),
        *(f'{path} has no image in {images}' for stem, path in mask_files.items() if stem not in image_files),
    ]


def _by_stem(folder: Path) -> dict:
    if not folder.is_dir():
        raise InputError(f'expected a folder, but {folder} is not a folder; check the path')
    suffixes = Image.registered_extensions()
    found = {
        path.relative_to(folder).with_suffix(''): path
        for path in sorted(folder.rglob('*'))
        if path.suffix.lower() in suffixes
    }
    if not found:
        raise InputError(f'expected image files in {folder}, but there are none; check the path')
    return found


def value_table(labels: Labels, label_map: Optional[Any]) -> np.ndarray:
    """Value in a file -> what a network is trained on, uint8 [256], as mmseg's LoadAnnotations has it."""
    table = np.arange(256, dtype=np.uint8)
    if labels.reduce_zero_label:
        table = np.where(np.isin(table, labels.ignored), 255, table - 1).astype(np.uint8)
    if label_map is not None:
        renamed = np.arange(256, dtype=np.uint8)
        renamed[list(label_map)] = list(label_map.values())
        table = renamed[table]
    return table
