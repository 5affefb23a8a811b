"""Images and videos: finding, reading and writing them."""

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Tuple

import cv2
import mmcv
import numpy as np
from PIL import Image

from mmcyclemlp.datasets.load_images import UNREADABLE
from mmcyclemlp.errors import InputError
from mmcyclemlp.files import written_whole

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v')
CODECS = (('.mp4', 'mp4v'), ('.avi', 'MJPG'))  # the second is part of OpenCV itself
USUAL_FPS = 25.0  # of a video that does not say


def find_media(paths: Iterable[Path]) -> Tuple[List[Path], List[Path]]:
    """Image files and videos among paths, where a folder stands for the images in it.

    Raises:
        InputError: a path does not exist, or a folder holds no image.
    """
    images, videos = [], []
    for path in paths:
        if path.is_dir():
            found = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in IMAGES and entry.is_file())
            if not found:
                raise InputError(
                    f'expected images in {path}, but it holds no file of {" ".join(IMAGES)}; give their folder itself'
                )
            images += found
        elif path.is_file():
            (videos if path.suffix.lower() in VIDEOS else images).append(path)
        else:
            raise InputError(
                f'expected an image, a folder of images or a video, but {path} does not exist; check the path'
            )
    return images, videos


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
    pixels = mmcv.imread(str(path))
    if pixels is None:
        raise InputError(f'expected an image, but {path} is of a kind that OpenCV cannot read; convert it to PNG')
    return pixels


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
