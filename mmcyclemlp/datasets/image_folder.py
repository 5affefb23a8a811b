"""Small classification sets as folders of images, ``{train,test}/CLASS/*``, held in memory."""

from pathlib import Path
from typing import List, Optional, Sequence

import mmcv
import numpy as np
from mmengine.logging import print_log

from mmcyclemlp.errors import InputError
from mmcyclemlp.images import UNREADABLE


def load_image_folder(
    folder: Path, dataset: str, classes: Sequence[str], side: int, images_per_class: Optional[int] = None
) -> List[dict]:
    """Decode all images of a split.

    Args:
        folder (Path): of the split, with one folder per class and equally many images in each.
        dataset (str): its name, for messages.
        classes (Sequence[str]): class names in the order of their labels.
        side (int): width and height of all images, in pixels.
        images_per_class (int, optional): read only the first of each class, in the order of their names.

    Returns:
        list[dict]: ``img``, uint8 ``[side, side, 3]`` RGB, and ``gt_label``, class by class.

    Raises:
        InputError: the folder is incomplete; an image cannot be read or has another size.
    """
    if not folder.is_dir():
        raise InputError(
            f'expected train/ and test/ in {folder.parent}, found no {folder.name}/; {dataset} as a '
            'folder is {train,test}/CLASS/*, so unpack it again'
        )
    files = [_class_files(folder, name, dataset) for name in classes]
    unexpected = sorted(entry.name for entry in _visible(folder) if entry.name not in classes)
    if unexpected:
        raise InputError(
            f"expected exactly {dataset}'s {len(classes)} class folders in {folder}, found "
            f'{unexpected[0]} as well; remove it (the classes are {", ".join(classes)})'
        )
    counts = {name: len(paths) for name, paths in zip(classes, files)}
    if len(set(counts.values())) > 1:
        few, many = min(counts, key=counts.get), max(counts, key=counts.get)
        raise InputError(
            f'expected equally many images of each class in {folder}, found {counts[few]} of {few} '
            f'but {counts[many]} of {many}; unpack it again, it seems to have been interrupted'
        )
    if images_per_class is not None:
        check_images_per_class(images_per_class, min(counts.values()), folder)
        files = [paths[:images_per_class] for paths in files]
    print_log(f'{dataset} {folder.name}: image folder {folder}, decoding {sum(map(len, files)):,} images', 'current')
    return [dict(img=_read(path, dataset, side), gt_label=label) for label, paths in enumerate(files) for path in paths]


def check_images_per_class(wanted: int, available: int, source: Path) -> None:
    """Raise InputError for a number of images that no class, or not every class, has."""
    if not isinstance(wanted, int) or not 1 <= wanted <= available:
        raise InputError(
            f'images_per_class expects a number from 1 to {available}, as many as each class has in '
            f'{source}, but got {wanted!r}; leave it out for all images'
        )


def _visible(folder: Path) -> List[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith('.'))


def _class_files(folder: Path, name: str, dataset: str) -> List[Path]:
    """Files of a class in the order of their names; InputError if there are none."""
    files = _visible(folder / name) if (folder / name).is_dir() else []
    if not files:
        state = 'is empty' if (folder / name).is_dir() else 'is missing'
        raise InputError(
            f'expected images of class {name} in {folder / name}, which {state}; {dataset} as a folder '
            'is {train,test}/CLASS/*, so unpack it again'
        )
    return files


def _read(path: Path, dataset: str, side: int) -> np.ndarray:
    """Decode an image to uint8 [side, side, 3] RGB."""
    try:
        # Pillow raises for a truncated file, which OpenCV fills with grey.
        image = mmcv.imread(str(path), channel_order='rgb', backend='pillow')
    except UNREADABLE as error:
        raise InputError(
            f'expected an image, but {path} cannot be read ({error.__cause__ or error}); unpack it again'
        ) from error
    if image.shape != (side, side, 3):
        raise InputError(
            f'expected an image of {side}x{side} as all of {dataset}, but {path} is '
            f'{image.shape[1]}x{image.shape[0]}; give the original images'
        )
    return image
