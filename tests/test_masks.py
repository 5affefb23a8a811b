"""Masks as they are read, and those that are wrong."""

import re

import numpy as np
import pytest
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import loading
from mmseg.registry import TRANSFORMS
from PIL import Image

from mmcyclemlp.datasets.load_masks import LoadAnnotations
from mmcyclemlp.datasets.masks import Labels, check_size, read_mask
from mmcyclemlp.engine import LoadReadableImage
from mmcyclemlp.errors import InputError

from .pictures import another_value, cut, labels_of, photo, save, sixteen_bits

LABELS = Labels(5)


@pytest.mark.parametrize('shape', [(12, 16), (1, 16), (16, 1), (1, 1)])
def test_a_mask_is_read_as_it_is(tmp_path, shape):
    mask = labels_of(*shape)
    mask.flat[0] = 255
    np.testing.assert_array_equal(read_mask(save(tmp_path / 'grey.png', mask), LABELS), mask)
    palette = Image.fromarray(mask, 'P')
    palette.putpalette([7 * i % 256 for i in range(768)])
    palette.save(tmp_path / 'palette.png')
    np.testing.assert_array_equal(read_mask(str(tmp_path / 'palette.png'), LABELS), mask)
    np.testing.assert_array_equal(read_mask(save(tmp_path / 'bits.png', mask == 1), LABELS), mask == 1)


@pytest.mark.parametrize('own', [None, False, True])
@pytest.mark.parametrize('of_dataset', [False, True])
def test_pipeline_and_dataset_agree_on_the_zero_label(tmp_path, own, of_dataset):
    mask = np.array([[1, 2], [3, 255]], np.uint8)
    found = dict(seg_map_path=save(tmp_path / 'mask.png', mask), reduce_zero_label=of_dataset, seg_fields=[])
    load = LoadAnnotations(reduce_zero_label=own)
    if own not in (None, of_dataset):
        with pytest.raises(InputError, match=f'expected reduce_zero_label={of_dataset} of the dataset in LoadAnnota'):
            load(found)
    else:
        np.testing.assert_array_equal(load(found)['gt_seg_map'], np.where(mask == 255, 255, mask - of_dataset))


def colours(path):
    photo(path)


def compressed(path):
    Image.fromarray(labels_of()).save(path, 'JPEG')


def transparent(path):
    save(path, labels_of(), 'LA')


def void_of_another_dataset(path):
    mask = labels_of()
    mask[0, 0], mask[1, :2], mask[2, 0], mask[3, 0] = 11, 12, 13, 14
    save(path, mask)


def palette_of_colours(path):
    image = Image.fromarray(np.full((12, 16), 9, dtype=np.uint8), 'P')
    image.putpalette([0] * 768)
    image.save(path)


def cut_short(path):
    save(path, np.random.default_rng(0).integers(0, 5, (60, 60)).astype(np.uint8))
    cut(path)


def no_image(path):
    path.write_text('no image')


def empty(path):
    path.write_bytes(b'')


@pytest.mark.parametrize(
    'make, sentence',
    [
        (None, r'expected a mask, but {path} does not exist; add it, or remove its image'),
        (sixteen_bits, r'{path} has more than 8 bits per pixel; save the indices as a grey PNG of 8 bits'),
        (colours, r'{path} has 3 channels \(R, G, B\); save the indices as a grey PNG of 8 bits'),
        (transparent, r'{path} has 2 channels \(L, A\); save'),
        (
            another_value,
            r'expected classes 0 to 4, or 255 where none applies in a mask, but {path} holds 7 in 3 of 192 '
            r'pixels; correct it, or the number of classes and the ignored index',
        ),
        (void_of_another_dataset, r'{path} holds 11, 12, 13 and 1 more values in 5 of 192 pixels; correct'),
        (
            palette_of_colours,
            r'{path} holds 9 in 192 of 192 pixels \(a palette image, of which the indices count\); corr',
        ),
        (compressed, r'expected a mask of exact values, but {path} is a JPEG, which changes them; make it again as a '),
        (cut_short, r'expected a mask, but {path} cannot be read \(.+\); copy or make it again'),
        (no_image, r'{path} cannot be read \(.+\); copy'),
        (empty, r'{path} cannot be read \(.+\); copy'),
    ],
)
def test_a_wrong_mask_is_named(tmp_path, make, sentence):
    path = tmp_path / 'mask.png'
    if make:
        make(path)
    with pytest.raises(InputError, match=sentence.format(path=re.escape(str(path)))):
        read_mask(str(path), LABELS)


@pytest.mark.filterwarnings('ignore::UserWarning')  # of Pillow, on its way to an error
@pytest.mark.parametrize('suffix', ['png', 'jpg', 'bmp', 'tif', 'gif', 'webp'])
def test_any_damage_is_an_input_error(tmp_path, suffix):
    random = np.random.default_rng(0)
    path = tmp_path / f'image.{suffix}'
    photo(path, 20, 30)
    whole = path.read_bytes()
    refused = 0
    for _ in range(60):
        content = bytearray(whole[: random.integers(1, len(whole) + 1)])
        for position in random.integers(0, len(content), random.integers(0, 4)):
            content[position] = random.integers(256)
        path.write_bytes(content)
        try:
            LoadReadableImage()(dict(img_path=str(path)))
        except InputError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 20


# The transform.


@pytest.mark.parametrize('reduce_zero_label', [False, True])
@pytest.mark.parametrize('classes', [None, ('b', 'd')])
def test_the_checked_transform_gives_what_mmsegs_gives(tmp_path, reduce_zero_label, classes):

    class Five(BaseSegDataset):
        METAINFO = dict(classes=tuple('abcde'), palette=[[i, i, i] for i in range(5)])

    photo(tmp_path / 'images/1.jpg')
    mask = labels_of(most=6 if reduce_zero_label else 5)
    mask[0, :4] = 255
    save(tmp_path / 'masks/1.png', mask)
    loaded = []
    for load in (loading.LoadAnnotations(), LoadAnnotations(num_classes=5)):
        dataset = Five(
            data_root=str(tmp_path),
            data_prefix=dict(img_path='images', seg_map_path='masks'),
            reduce_zero_label=reduce_zero_label,
            metainfo=classes and dict(classes=classes),
            pipeline=[LoadReadableImage(), load],
        )
        loaded.append(dataset[0])
    assert loaded[0]['seg_fields'] == loaded[1]['seg_fields'] == ['gt_seg_map']
    assert loaded[1]['gt_seg_map'].dtype == np.uint8
    np.testing.assert_array_equal(loaded[0]['gt_seg_map'], loaded[1]['gt_seg_map'])
    assert len(np.unique(loaded[1]['gt_seg_map'])) == 3 if classes else 6


def test_zero_is_allowed_where_it_is_ignored(tmp_path):
    path = save(tmp_path / 'mask.png', np.array([[0, 1, 5, 255]], dtype=np.uint8))
    read_mask(path, Labels(5, reduce_zero_label=True))
    with pytest.raises(InputError, match='expected classes 1 to 4, or 0 or 255 where none applies'):
        read_mask(path, Labels(4, reduce_zero_label=True))


def test_a_mask_of_another_size_is_named(tmp_path):
    image, mask = photo(tmp_path / 'a.jpg'), save(tmp_path / 'a.png', labels_of(6, 8))
    results = dict(img_path=image, seg_map_path=mask, reduce_zero_label=False, seg_fields=[])
    with pytest.raises(InputError, match=rf'but {re.escape(mask)} is 8x6 and {re.escape(image)} is 16x12; make'):
        LoadAnnotations(num_classes=5)(LoadReadableImage()(results))


def test_a_mask_of_an_image_that_its_tag_turns(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (16, 12)).save(tmp_path / 'a.jpg', exif=exif.tobytes())
    size = LoadReadableImage()(dict(img_path=str(tmp_path / 'a.jpg')))['ori_shape']
    assert size == (16, 12)
    with pytest.raises(InputError, match='is 16x12 and .* is 12x16; make the mask again of the image as its EXIF tag'):
        check_size(labels_of(12, 16), 'a.png', size, 'a.jpg')


def test_the_loader_has_its_older_name_too():
    assert TRANSFORMS.get('LoadAnnotations') is TRANSFORMS.get('LoadCheckedMask') is LoadAnnotations
