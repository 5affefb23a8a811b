"""Images and videos: finding, reading and writing them."""

import logging
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union

import cv2
import mmcv
import numpy as np
from mmengine.logging import print_log
from PIL import Image, ImageOps

from mmcyclemlp.errors import InputError
from mmcyclemlp.files import written_whole
from mmcyclemlp.images import UNREADABLE, eight_bits

from .failures import about

PathLike = Union[str, os.PathLike]
Failed = Callable[[InputError], None]
IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v')
CODECS = (('.mp4', 'mp4v'), ('.avi', 'MJPG'))  # the second is part of OpenCV itself
USUAL_FPS = 25.0  # of a video that does not say
LEAST_SHARE = 0.95  # of the frames that a video announces; some formats only estimate them


class Picture(NamedTuple):
    """An image uint8 [H, W, 3] BGR; ``source`` is its path or that of its video, or None for an array."""

    image: np.ndarray
    source: Optional[str] = None
    frame: Optional[int] = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return (self.source or 'an array') if self.frame is None else f'frame {self.frame} of {self.source}'


def read(inputs: Any, failed: Failed) -> Iterator[Picture]:
    """Images of paths, folders, videos, arrays and Pillow's images, or of any iterable of such, one after the other.

    What cannot be read goes to ``failed``; unless that raises, the rest follows.
    """
    if isinstance(inputs, (str, os.PathLike, np.ndarray, Image.Image)) or not isinstance(inputs, Iterable):
        inputs = [inputs]
    for given in inputs:
        try:
            if not isinstance(given, (str, os.PathLike)):
                yield Picture(_pixels(given))
                continue
            images, videos = find_media([given])
        except InputError as error:
            failed(error)
            continue
        for path in images:
            try:
                with about(str(path)):
                    image = read_image(path)
            except InputError as error:
                failed(error)
            else:
                yield Picture(image, str(path))
        for path in videos:
            try:
                yield from _frames(path)
            except InputError as error:
                failed(error)


def _pixels(image: Any) -> np.ndarray:
    """An array or an image of Pillow as uint8 [H, W, 3] BGR."""
    if isinstance(image, Image.Image):
        return np.ascontiguousarray(np.asarray(ImageOps.exif_transpose(eight_bits(image)).convert('RGB'))[..., ::-1])
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size:
        if image.ndim == 2:
            return np.repeat(image[..., None], 3, axis=2)
        if image.ndim == 3 and image.shape[2] == 3:
            return image
    found = f'{image.dtype} {list(image.shape)}' if isinstance(image, np.ndarray) else f'a {type(image).__name__}'
    raise InputError(
        'expected a path, an image of Pillow or an array uint8 [H, W, 3] in BGR or [H, W] in grey, '
        f'got {found}; convert it'
    )


def _frames(path: Path) -> Iterator[Picture]:
    video, count = open_video(path), 0
    for count, image in enumerate(video, 1):
        yield Picture(image, str(path), count - 1)
    if count < video.frame_cnt * LEAST_SHARE - 1:
        raise InputError(
            f'expected {video.frame_cnt} frames, but {path} ends after {count}, which were used; copy it again'
        )


def find_media(paths: Iterable[PathLike]) -> Tuple[List[Path], List[Path]]:
    """Image files and videos among paths, where a folder stands for the images in it; what else it holds is told.

    Raises:
        InputError: a path does not exist, or a folder holds no image.
    """
    images, videos = [], []
    for given in paths:
        path = Path(given)
        if '://' in str(given):
            raise InputError(f'expected a file or a folder, but got the address {given}; download it first')
        if os.path.isdir(path):  # False where pathlib raises, as for a name that is too long
            images += _images_in(path)
        elif os.path.isfile(path):
            (videos if path.suffix.lower() in VIDEOS else images).append(path)
        else:
            raise InputError(
                f'expected an image, a folder of images or a video, but {path} does not exist; check the path'
            )
    return images, videos


def _images_in(folder: Path) -> List[Path]:
    visible = sorted(entry for entry in folder.iterdir() if not entry.name.startswith('.'))
    images = [entry for entry in visible if entry.suffix.lower() in IMAGES and entry.is_file()]
    others = [f'{entry.name}/' if entry.is_dir() else entry.name for entry in visible if entry not in images]
    listed = ', '.join(others[:5]) + (f' and {len(others) - 5} more' if len(others) > 5 else '')
    if not images:
        raise InputError(
            f'expected images in {folder}, but it holds no file of {" ".join(IMAGES)}'
            f'{f", only {listed}" if others else ""}; give their folder itself, or name the files'
        )
    if others:
        print_log(
            f'Passed over in {folder}: {listed}. A folder stands for its {" ".join(IMAGES)}; give others by name',
            'current',
            logging.WARNING,
        )
    return images


def names_of(paths: Iterable[Path]) -> Dict[Path, str]:
    """A name for each path, without suffix; numbered where several would have the same."""
    names: Dict[Path, str] = {}
    taken = set()
    for path in paths:
        name, number = path.stem, 2
        while name in taken:
            name, number = f'{path.stem}-{number}', number + 1
        names[path] = name
        taken.add(name)
    return names


def read_image(path: Path) -> np.ndarray:
    """Decode an image to uint8 [H, W, 3] BGR as the libraries' loaders do; InputError for one that is not whole."""
    try:
        with Image.open(path) as image:
            image.load()  # raises for a truncated file, which OpenCV fills with grey
    except UNREADABLE as error:
        raise InputError(
            f'expected an image, but {path} cannot be read ({error}); copy it again, or leave it out'
        ) from error
    return mmcv.imread(str(path))


def write_image(path: Path, image: np.ndarray) -> None:
    """Write uint8 [H, W, 3] RGB or [H, W], as a whole or not at all."""
    with written_whole(path) as temporary:
        Image.fromarray(image).save(temporary)


def open_video(path: Path) -> mmcv.VideoReader:
    """A reader of the frames of a video, uint8 [H, W, 3] BGR; InputError if there are none."""
    video = mmcv.VideoReader(str(path))
    if not video.opened or not video.width:
        raise InputError(f'expected a video, but {path} cannot be decoded; convert it to MP4 (H.264)')
    return video


def video_target(path: Path) -> Tuple[Path, str]:
    """``path`` with the suffix of the first codec that this OpenCV can write, and the codec; InputError if none."""
    for suffix, codec in CODECS:
        with tempfile.TemporaryDirectory() as folder:
            writer = cv2.VideoWriter(f'{folder}/probe{suffix}', cv2.VideoWriter_fourcc(*codec), USUAL_FPS, (64, 64))
            usable = writer.isOpened()
            writer.release()
        if usable:
            return path.with_suffix(suffix), codec
    raise InputError(
        f'could not write {path}: this OpenCV has no codec for {" or ".join(s for s, _ in CODECS)}; '
        'reinstall opencv-python-headless from its wheels'
    )


@contextmanager
def video_writer(path: Path, codec: str, size: Tuple[int, int], fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that adds a frame uint8 [H, W, 3] RGB of ``size`` (H, W) to a video, which appears when whole."""
    with written_whole(path) as temporary:
        fps = fps if 0 < fps < 1000 else USUAL_FPS
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter_fourcc(*codec), fps, size[::-1])
        try:
            yield lambda frame: writer.write(np.ascontiguousarray(frame[..., ::-1]))
        finally:
            writer.release()
