"""One rule of decoding for all loaders and prediction: 8 bits, turned by EXIF, and named if it cannot be read."""

import codecs
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine.fileio.backends import LocalBackend
from PIL import Image

from mmcyclemlp.datasets.load_images import LoadReadableImage
from mmcyclemlp.errors import InputError
from mmcyclemlp.images import size_of
from mmcyclemlp.inference.media import read_image
from mmcyclemlp.untrusted import guard_libraries, read_text


@pytest.fixture(autouse=True)
def guarded():
    guard_libraries()


def decoded(path):
    """An image by the loaders of training and by that of prediction, which must agree."""
    images = [load(dict(img_path=str(path)))['img'] for load in (LoadImageFromFile(), LoadReadableImage())]
    images.append(read_image(Path(path)))
    for image in images:
        assert image.dtype == np.uint8 and image.shape == images[0].shape
    return images


GREY = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)
COLOUR = np.dstack([GREY, GREY // 2, 255 - GREY])  # BGR


@pytest.mark.parametrize('name', ['a.png', 'a.tif', 'big-endian.tif', 'rgb.png', 'rgb.tif'])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, name):
    deep = (COLOUR if 'rgb' in name else GREY).astype(np.uint16) * 256 + 77
    path = tmp_path / name
    if name == 'big-endian.tif':
        Image.frombytes('I;16B', (20, 12), deep.astype('>u2').tobytes()).save(path)
        assert Image.open(path).mode == 'I;16B'
    else:
        cv2.imwrite(str(path), deep)
    expected = COLOUR if 'rgb' in name else np.repeat(GREY[..., None], 3, axis=2)
    for image in decoded(path):
        # OpenCV and Pillow round colours of a TIFF in different ways.
        np.testing.assert_allclose(image.astype(int), expected, atol=1 if name == 'rgb.tif' else 0)


def test_alpha_is_left_out_of_grey_as_of_colours(tmp_path):
    alpha = np.full_like(GREY, 128)
    for mode, bands, expected in (('LA', [GREY, alpha], GREY), ('RGBA', [GREY, GREY, GREY, alpha], GREY)):
        Image.fromarray(np.dstack(bands), mode).save(tmp_path / f'{mode}.png')
        for image in decoded(tmp_path / f'{mode}.png'):
            assert np.array_equal(image, np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize('dtype', [np.float32, np.int32])
@pytest.mark.parametrize('channels', [1, 3])
def test_numbers_without_a_range_are_refused(tmp_path, dtype, channels):
    if dtype is np.int32 and channels == 3:
        pytest.skip('no writer for it')
    path, values = tmp_path / 'a.tif', GREY if channels == 1 else COLOUR
    if channels == 1:
        Image.fromarray(values.astype(dtype)).save(path)
    else:
        cv2.imwrite(str(path), values.astype(dtype) / 255)
    for load in (LoadImageFromFile(), LoadReadableImage()) if channels == 1 else (LoadImageFromFile(),):
        with pytest.raises(InputError, match='8 or 16 bits, but .*a.tif holds .*; scale it to 8 bits'):
            load(dict(img_path=str(path)))


@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.tif', 'a.webp', 'deep.png'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_images_are_turned_as_their_tag_says(tmp_path, name, orientation):
    path, exif = tmp_path / name, Image.Exif()
    exif[0x0112] = orientation
    colours = np.zeros((16, 32, 3), np.uint8)
    colours[:8, :16] = 200  # top left is bright
    image = Image.fromarray(colours)
    if name == 'deep.png':
        image = Image.fromarray(colours[..., 0].astype(np.uint16) * 257)
    image.save(path, exif=exif.tobytes(), **({'lossless': True} if name == 'a.webp' else {}))
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}[
        orientation
    ]
    shape = (16, 32) if orientation < 5 else (32, 16)
    assert size_of(path) == shape[::-1]
    for image in decoded(path):
        assert image.shape[:2] == shape
        bright = [(y, x) for y in (0, -1) for x in (0, -1) if image[y, x].mean() > 150]
        assert bright == [corner]


@pytest.mark.parametrize(
    'load', [LoadImageFromFile(), LoadReadableImage(), LoadImageFromFile(imdecode_backend='pillow')]
)
@pytest.mark.parametrize(
    'content, reason',
    [
        (b'', 'it is empty'),
        (b'<!DOCTYPE html><p>Not found', 'it is HTML or another text'),
        (b'PK\3\4', 'cannot identify image file'),
        (cv2.imencode('.jpg', COLOUR)[1].tobytes()[:500], '.+'),
        (cv2.imencode('.png', COLOUR)[1].tobytes()[:200], '.+'),
    ],
)
def test_an_image_that_cannot_be_read_is_named_by_every_loader(tmp_path, load, content, reason):
    path = tmp_path / 'a.jpg'
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf'^expected an image, but {path} cannot be read \({reason}\); copy or make'):
        load(dict(img_path=str(path)))


def test_hidden_folders_and_files_are_left_out(tmp_path):
    for name in ('rose/1.jpg', 'rose/._1.jpg', 'rose/.ipynb_checkpoints/1.jpg', '.ipynb_checkpoints/1.jpg'):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    backend = LocalBackend()
    assert list(backend.list_dir_or_file(tmp_path, list_file=False)) == ['rose']
    assert list(backend.list_dir_or_file(tmp_path, list_dir=False, recursive=True)) == ['rose/1.jpg']


TEXT = '# coding: gb2312\n{"name": "红"}\n'


@pytest.mark.parametrize(
    'data',
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode('utf-16'),
        codecs.BOM_UTF16_BE + TEXT.encode('utf-16-be'),
        TEXT.encode('utf-16-le'),
        TEXT.encode('utf-16-be'),
        TEXT.encode('utf-32'),
        TEXT.encode('gb2312'),
    ],
)
def test_text_is_read_in_the_encoding_that_it_names_or_shows(tmp_path, data):
    if data == TEXT.encode():
        data = data.replace(b'gb2312', b'utf-8 ')
    (tmp_path / 'a.txt').write_bytes(data)
    assert read_text(tmp_path / 'a.txt').splitlines()[1] == '{"name": "红"}'
    assert LocalBackend().get_text(tmp_path / 'a.txt').splitlines()[1] == '{"name": "红"}'


def test_text_in_an_encoding_that_nobody_names_is_refused(tmp_path):
    (tmp_path / 'a.txt').write_bytes('érable'.encode('latin-1'))
    with pytest.raises(InputError, match='expected text in UTF-8, but .*a.txt holds other bytes .*; save it as UTF-8'):
        read_text(tmp_path / 'a.txt')
