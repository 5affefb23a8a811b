"""How images are read, for training, checks and prediction alike: with 8 bits, turned as their EXIF tag says."""

import io
import os
import struct
import zlib
from typing import Any, Optional, Tuple, Union

import cv2
import numpy as np
from PIL import Image, ImageOps

from .errors import InputError

# What Pillow raises for a truncated or broken image, such as SyntaxError for a PNG.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
ORIENTATION = 0x0112  # tag of EXIF; from 2 on the image is turned or mirrored, from 5 on its sides are swapped


def size_of(path: Union[str, os.PathLike]) -> Tuple[int, int]:
    """Width and height of an image as it is shown, from its header; one of ``UNREADABLE`` if it has none."""
    with Image.open(path) as image:
        # Of a TIFF, newer versions of Pillow turn the size already.
        width, height = (image.tag_v2[256], image.tag_v2[257]) if image.format == 'TIFF' else image.size
        return (height, width) if orientation(image) >= 5 else (width, height)


def eight_bits(image: Image.Image, name: str = 'an image') -> Image.Image:
    """An image of 16 bits as one of 8, by its upper byte, as OpenCV has it; others as they are.

    Raises:
        InputError: of 32-bit or floating-point numbers, whose range nobody knows.
    """
    if image.mode == 'F' or (image.mode == 'I' and image.format != 'PNG'):
        kind = 'floating-point numbers' if image.mode == 'F' else 'numbers of 32 bits'
        raise InputError(f'expected an image of 8 or 16 bits, but {name} holds {kind}; scale it to 8 bits')
    if not image.mode.startswith('I'):
        return image
    return Image.fromarray((np.asarray(ImageOps.exif_transpose(image)) >> 8).astype(np.uint8))


def needs_pillow(content: bytes, name: str, flag: Any) -> bool:
    """Whether an encoded image is one that OpenCV would not turn.

    Raises:
        InputError: it has more pixels than Pillow allows or, unless ``flag`` of mmcv is unchanged, as for masks, values
            without a known range.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            if flag == 'unchanged':
                return False
            if image.mode in ('F', 'I'):
                eight_bits(image, name)
            return image.format not in ('JPEG', 'MPO') and orientation(image) != 1
    except Image.DecompressionBombError as error:
        raise InputError(f'expected a smaller image, but {name} is too large ({error}); cut it into tiles') from error
    except OSError:  # no kind that Pillow knows; OpenCV knows floating-point numbers in colours
        if content and flag != 'unchanged':
            pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
            if pixels is not None and pixels.dtype.kind == 'f':
                eight_bits(Image.new('F', (1, 1)), name)
        return False


def unreadable(content: bytes, name: str, error: Optional[Exception] = None) -> InputError:
    """The sentence on an encoded image that cannot be decoded."""
    reason = ' '.join(str(error).split()) if error else 'it is of no kind that OpenCV reads'
    if not content:
        reason = 'it is empty'
    elif content.lstrip()[:1] == b'<':
        reason = 'it is HTML or another text'
    elif error is None or isinstance(error, cv2.error):  # Pillow says what is wrong
        try:
            with Image.open(io.BytesIO(content)) as image:
                image.load()
        except UNREADABLE as cause:
            reason = str(cause)
    reason = reason.partition(' <_io')[0]
    return InputError(f'expected an image, but {name} cannot be read ({reason}); copy or make it again, or remove it')


def orientation(image: Image.Image) -> int:
    """EXIF's number of how an image is turned or mirrored; 1 if it is not."""
    # Of a PNG without the tag before its pixels, Pillow would decode all.
    if image.format == 'PNG' and 'exif' not in image.info:
        return 1
    return image.getexif().get(ORIENTATION, 1)
