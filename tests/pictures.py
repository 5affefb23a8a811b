"""Small images and masks for tests, whole and damaged."""

import numpy as np
from PIL import Image


def save(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(array))
    if mode:
        image = image.convert(mode)
    image.save(path)
    return str(path)


def photo(path, height=12, width=16):
    return save(path, np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def labels_of(height=12, width=16, most=5):
    return np.random.default_rng(1).integers(0, most, (height, width)).astype(np.uint8)


def cut(path, share=0.6):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def sixteen_bits(path):
    save(path, labels_of().astype(np.uint16))


def another_value(path):
    mask = labels_of()
    mask[0, :3] = 7
    save(path, mask)
