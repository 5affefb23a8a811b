"""Masks and labels that are wrong are named before a run, and by the tool that checks them."""

import re

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from mmcyclemlp.checks import check_masks, common
from mmcyclemlp.checks.segmentation import about_values
from mmcyclemlp.datasets.masks import Labels, read_mask
from mmcyclemlp.errors import InputError

from .helpers import REPO
from .pictures import another_value, cut, labels_of, photo, save, sixteen_bits


@pytest.fixture
def dataset(tmp_path):
    """A folder with images and masks of five classes, in two splits, and the config of a run on it."""
    for split, count in (('train', 12), ('val', 3)):
        for i in range(count):
            photo(tmp_path / f'images/{split}/{i:02}.jpg')
            save(tmp_path / f'masks/{split}/{i:02}.png', labels_of())
    (tmp_path / 'config.py').write_text(CONFIG.format(root=tmp_path, repo=REPO))
    return tmp_path


CONFIG = """
default_scope = 'mmseg'
custom_imports = dict(imports=['mmcyclemlp', 'mmcyclemlp.engine', 'mmcyclemlp.datasets.load_masks'])
metainfo = dict(classes=tuple('abcde'))
train_dataloader = dict(dataset=dict(type='RepeatDataset', times=2, dataset=dict(
    type='BaseSegDataset', data_root='{root}', metainfo=metainfo,
    data_prefix=dict(img_path='images/train', seg_map_path='masks/train'))))
val_dataloader = dict(dataset=dict(
    type='BaseSegDataset', data_root='{root}', metainfo=metainfo,
    data_prefix=dict(img_path='images/val', seg_map_path='masks/val')))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric')
test_evaluator = val_evaluator
model = dict(
    data_preprocessor=dict(type='SegDataPreProcessor', size=(8, 8)),
    decode_head=dict(type='FPNHead', num_classes=5),
    auxiliary_head=[dict(type='FCNHead', num_classes=5), dict(type='FCNHead', num_classes=5)])
"""


@pytest.fixture
def check(dataset):
    """Check the config with changed options."""

    def run(**options):
        config = Config.fromfile(dataset / 'config.py')
        config.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
        with DefaultScope.overwrite_default_scope('mmseg'):
            check_masks(config, 'train', 'val')

    return run


def test_a_sound_config_passes(check):
    check()
    check(default_scope='mmdet', val_evaluator__ignore_index=4)  # another task's


def test_missing_masks_are_named_before_the_run(check, dataset):
    (dataset / 'masks/train/03.png').unlink()
    (dataset / 'masks/train/07.png').unlink()
    with pytest.raises(
        InputError,
        match=r'each image of train_dataloader.dataset.dataset, but 2 of 12 are not there, '
        r'such as \S+/masks/train/03.png for \S+/images/train/03.jpg; add them',
    ):
        check()


@pytest.mark.parametrize(
    'options, sentence',
    [
        (
            dict(val_evaluator__ignore_index=4),
            r'model.decode_head.ignore_index is 255 and val_evaluator.ignore_index is 4',
        ),
        (
            dict(model__decode_head__ignore_index=4),
            r'decode_head.ignore_index is 4 and model.auxiliary_head.0.ignore_index '
            r'is 255 \(255 unless it is set\); set both to the same',
        ),
        (dict(model__data_preprocessor__seg_pad_val=4), r'and model.data_preprocessor.seg_pad_val is 4'),
        (
            dict(model__auxiliary_head__1__num_classes=19),
            r'as many classes of model.auxiliary_head.1 as of '
            r'train_dataloader.dataset.dataset, but they have 19 and 5 \(a, b, c, d, e\); '
            r'set model.auxiliary_head.1.num_classes=5',
        ),
    ],
)
def test_parts_that_disagree_are_named_before_the_run(check, options, sentence):
    with pytest.raises(InputError, match=sentence):
        check(**options)


def test_a_dataset_without_masks_is_named(check):
    images_alone = dict(_delete_=True, img_path='images/val')
    with pytest.raises(InputError, match='from val_dataloader.dataset, but it has no masks; set its data_root and'):
        check(val_dataloader__dataset__data_prefix=images_alone)


# The tool.


@pytest.fixture
def tool(tool, dataset):
    return lambda *args: tool(dataset, 'datasets/check_segmentation.py', *args)


def test_the_tool_finds_nothing_in_sound_data(tool, dataset):
    code, output, _ = tool(dataset / 'config.py')
    assert code == 0 and output.endswith('15 images with masks: nothing found\n')
    code, output, _ = tool(dataset / 'images', dataset / 'masks', '--classes', 5)
    assert code == 0 and output.endswith('15 images with masks: nothing found\n')
    code, _, errors = tool(dataset / 'images', dataset / 'masks', '--classes', 5, '--ignore', 4)
    assert code == 2 and '--ignore is 4, but that is a class, of 0 to 4' in errors


def test_masks_of_which_none_can_be_read_have_no_values(tool, dataset):
    for mask in (dataset / 'masks').rglob('*.png'):
        sixteen_bits(mask)
    code, output, _ = tool(dataset / 'images', dataset / 'masks', '--classes', 5)
    assert code == 1 and '15 images with masks: 15 faults\n' in output and 'no pixel' not in output


def spoil(dataset):
    """Seven faults of six kinds."""
    cut(dataset / 'images/train/00.jpg')
    save(dataset / 'masks/train/01.png', labels_of(6, 8))
    another_value(dataset / 'masks/train/02.png')
    sixteen_bits(dataset / 'masks/train/03.png')
    (dataset / 'masks/train/04.png').unlink()
    save(dataset / 'masks/train/extra.png', labels_of())
    another_value(dataset / 'masks/val/02.png')


def test_the_tool_names_each_fault_of_a_config(tool, dataset):
    spoil(dataset)
    code, output, _ = tool(dataset / 'config.py')
    assert code == 1
    head, *faults = output.partition('15 images with masks: ')[2].splitlines()
    assert head == '7 faults'
    expected = [
        'extra.png has no image',
        'expected an image, but .*/train/00.jpg cannot be read',
        '01.png is 8x6 and',
        '02.png holds 7 in 3 of 192',
        '03.png has more than 8 bits',
        '04.png does not exist',
        'val/02.png holds 7 in 3',
    ]
    assert len(faults) == len(expected)
    for fault, sentence in zip(faults, expected):
        assert re.match(rf'- .*{sentence}', fault)


def test_the_tool_names_each_fault_of_two_folders(tool, dataset):
    spoil(dataset)
    code, output, _ = tool(dataset / 'images', dataset / 'masks', '--classes', 5)
    assert code == 1 and '14 images with masks: 7 faults' in output
    assert re.search(r'- \S+/images/train/04.jpg has no mask in \S+/masks\n', output)
    assert re.search(r'- \S+/masks/train/extra.png has no image in \S+/images\n', output)
    code, output, _ = tool(dataset / 'images', dataset / 'masks', '--classes', 5, '--ignore', 7)
    assert code == 1 and '14 images with masks: 5 faults' in output


def test_the_tool_names_the_first_ten(tool, dataset):
    for path in (dataset / 'masks/train').iterdir():
        another_value(path)
    code, output, _ = tool(dataset / 'config.py')
    assert code == 1 and '12 faults' in output and output.endswith('- and 2 more\n') and output.count('\n- ') == 11


@pytest.mark.parametrize(
    'args, sentence',
    [
        (['none.py'], r'none.py does not exist'),
        ([REPO / 'configs/cyclemlp/digits_b1.py'], r"has default_scope 'mmpretrain'; give another"),
        (['config.py', '--classes', 5], r'--classes and --ignore belong to two folders'),
        (['images', 'masks'], r'two folders need --classes N, from 1 to 256, but got None'),
        (['images', 'masks', '--classes', 0], r'but got 0'),
        (['images', 'none', '--classes', 5], r'none is not a folder; check the path'),
        (['images', 'masks/none', '--classes', 5], r'image files in \S+, but there are none; check the path'),
        (['images', 'masks', 'more', '--classes', 5], r'but got 3 paths'),
    ],
)
def test_a_wrong_call_is_told_in_one_line(tool, dataset, monkeypatch, args, sentence):
    monkeypatch.chdir(dataset)
    (dataset / 'masks/none').mkdir()
    code, _, error = tool(*args)
    assert code == 2 and re.fullmatch(rf'error: .*{sentence}.*\n', error)


# What training would not learn from.


@pytest.fixture
def told(monkeypatch):
    lines = []
    monkeypatch.setattr(common, 'print_log', lambda line, logger, level: lines.append(line))
    return lines


def seg_config(root, classes, **more):
    data = dict(type='BaseSegDataset', data_root=str(root), metainfo=dict(classes=classes), **more)
    data['data_prefix'] = dict(img_path='images/train', seg_map_path='masks/train')
    model = dict(decode_head=dict(type='FPNHead', num_classes=len(classes)))
    return Config(dict(default_scope='mmseg', model=model, train_dataloader=dict(dataset=data)))


def test_binary_masks_of_0_and_255_get_the_remedy(dataset, told, tool):
    for path in (dataset / 'masks/train').iterdir():
        save(path, np.repeat([[0, 0, 255]], 12, axis=0).repeat([8, 4, 4], axis=1).astype(np.uint8))
    check_masks(seg_config(dataset, ('ground', 'leaf')), 'train')
    sentence = (
        'no pixel is of class 1 (leaf), and 25% of the pixels are ignored, with the value 255; '
        'these are binary masks of 0 and 255: write 1 for 255 (and 0 for 0)'
    )
    assert told == [f'train_dataloader.dataset: in 12 of 12 masks, {sentence}']
    code, output, _ = tool(dataset / 'images/train', dataset / 'masks/train', '--classes', 2)
    assert code == 1 and '1 faults' in output and sentence.replace('leaf', 'number 1') in output


def test_classes_in_no_mask_and_ignored_pixels_are_told(dataset, told):
    for path in (dataset / 'masks/train').iterdir():
        save(path, np.repeat([[0, 2, 255, 255]], 12, axis=0).repeat(4, axis=1).astype(np.uint8))
    check_masks(seg_config(dataset, ('a', 'b', 'c', 'd')), 'train')
    assert told.pop() == (
        'train_dataloader.dataset: in 12 of 12 masks, no pixel is of class 1 (b), 3 (d), '
        'and 50% of the pixels are ignored, with the value 255'
    )
    values = np.zeros(256, int)
    values[[0, 1, 2, 255]] = 1
    assert about_values(values, Labels(3), 'abc') is None
    values[255] = 9
    assert about_values(values, Labels(3), 'abc').startswith('all classes occur, and 75% of the pixels are ignored')
    values[0] = 0
    assert 'no pixel is of class 3 (c)' in about_values(values, Labels(3, reduce_zero_label=True), 'abc')


@pytest.mark.parametrize('ignored', [300, -1, -100])
def test_an_ignored_value_that_no_byte_holds_ignores_nothing(ignored):
    values = np.zeros(256, int)
    values[[0, 1]], values[[ignored % 256]] = 1, 9
    assert about_values(values, Labels(2, ignored), 'ab') is None


def test_values_of_no_class_are_told(dataset, told):
    path = next((dataset / 'masks/train').iterdir())
    save(path, np.full((12, 16), 7, np.uint8))
    check_masks(seg_config(dataset, tuple('abcde')), 'train')
    assert told == [
        'train_dataloader.dataset: in 12 masks, 8% of the pixels hold values of no class, 7; expected classes 0 to 4, '
        'or 255 where none applies'
    ]


def test_masks_of_colours_are_refused(dataset, told):
    for path in (dataset / 'masks/train').iterdir():
        save(path, labels_of(), 'RGB')
    with pytest.raises(InputError, match=r'class index of 8 bits .* has 3 channels \(R, G, B\); save'):
        check_masks(seg_config(dataset, tuple('abcde')), 'train')


def test_lists_and_folders_that_mmseg_cannot_find(dataset, told):
    classes = tuple('abcde')
    with pytest.raises(InputError, match=r'but got data_prefix=.* and ann_file=.*none.txt. \(Failed to load'):
        check_masks(seg_config(dataset, classes, ann_file='none.txt'), 'train')
    config = seg_config(dataset, classes)
    config.train_dataloader.dataset.data_prefix = dict(img='images/train', seg='masks/train')
    with pytest.raises(InputError, match=r'but got data_prefix=\{.img.: .*set data_prefix=dict\(img_path=FOLDER, seg'):
        check_masks(config, 'train')
    (dataset / 'names.txt').write_text('00.jpg\n')
    with pytest.raises(InputError, match='00.jpg.png for .*, or .*names.txt, which lists names without suffix$'):
        check_masks(seg_config(dataset, classes, ann_file='names.txt'), 'train')


def test_images_of_other_suffixes_are_told(dataset, told):
    images = sorted((dataset / 'images/train').iterdir())
    for path in images[:5]:
        path.rename(path.with_suffix('.JPG'))
    check_masks(seg_config(dataset, tuple('abcde')), 'train')
    assert told == ['train_dataloader.dataset: left out beside its 7 images: 5 .JPG']
    for path in images[5:]:
        path.rename(path.with_suffix('.png'))
    with pytest.raises(
        InputError, match=r"it has none with img_suffix='.jpg', only 7 .png, 5 .JPG; .*, or img_suffix='.png'$"
    ):
        check_masks(seg_config(dataset, tuple('abcde')), 'train')
    with pytest.raises(InputError, match=r'are not there, such as .*_id.tif for .*, where there are 12 .png; add them'):
        check_masks(seg_config(dataset, tuple('abcde'), img_suffix='.png', seg_map_suffix='_id.tif'), 'train')
    with pytest.raises(InputError, match=r'in .*/none/images/train, which does not exist; put the dataset there'):
        check_masks(seg_config(dataset / 'none', tuple('abcde')), 'train')


@pytest.mark.parametrize('turn', [1, 3])
def test_a_mask_that_its_own_tag_turns_is_refused(dataset, told, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    path = next((dataset / 'masks/train').iterdir())
    with Image.open(path) as mask:
        mask.save(path, exif=exif.tobytes())
    config = seg_config(dataset, ('ground', 'leaf'))
    if turn == 1:
        check_masks(config, 'train')
        return
    with pytest.raises(InputError, match=f'the EXIF tag of {path} turns it'):
        check_masks(config, 'train')
    with pytest.raises(InputError, match=f'the EXIF tag of {path} turns it'):
        read_mask(str(path), Labels(2))
