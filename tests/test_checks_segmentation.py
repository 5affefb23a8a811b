"""Images and masks that are wrong are named, before a run, while it reads them, and by the tool that checks them."""

import re

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DefaultScope
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import loading
from PIL import Image

from mmcyclemlp.checks import check_masks, common
from mmcyclemlp.checks.segmentation import about_values
from mmcyclemlp.datasets.load_masks import LoadAnnotations
from mmcyclemlp.datasets.masks import Labels, check_size, read_mask
from mmcyclemlp.engine import LoadReadableImage, input_errors
from mmcyclemlp.errors import InputError

from .helpers import REPO

LABELS = Labels(5)


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


# One mask.


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


def sixteen_bits(path):
    save(path, labels_of().astype(np.uint16))


def colours(path):
    photo(path)


def transparent(path):
    save(path, labels_of(), 'LA')


def another_value(path):
    mask = labels_of()
    mask[0, :3] = 7
    save(path, mask)


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


# Images that cannot be read.


def damaged(folder, count=12):
    """A folder of images, of which the third and eighth cannot be read."""
    paths = [photo(folder / f'{i:02}.jpg', 40, 60) for i in range(count)]
    cut(folder / '02.jpg')
    (folder / '07.jpg').write_bytes(b'')
    return paths


def dataset_of(kind, paths, load, **settings):
    """A dataset of a library over the paths; its own loading of a list is left out."""

    class Listed(kind):
        METAINFO = dict(classes=('a',), palette=[[0, 0, 0]])

        def load_data_list(self):
            return [dict(img_path=path, height=40, width=60, instances=[]) for path in paths]

    return Listed(pipeline=[load], **settings)


def kinds():
    from mmpretrain.datasets import BaseDataset as Classification

    yield pytest.param(BaseDataset, {}, id='mmengine')
    yield pytest.param(BaseSegDataset, {}, id='mmseg')
    yield pytest.param(Classification, dict(ann_file=''), id='mmpretrain')


@pytest.mark.parametrize('kind, settings', kinds())
def test_unreadable_images_are_passed_over_and_counted(tmp_path, kind, settings, caplog):
    paths = damaged(tmp_path / 'images')
    note = tmp_path / 'run' / 'skipped.txt'
    dataset = dataset_of(kind, paths, LoadReadableImage(str(note)), **settings)
    for _ in range(2):  # the second round counts none again
        read = {dataset[i]['img_path'] for i in range(len(dataset))}
        assert read <= set(paths) - {paths[2], paths[7]}
    assert note.read_text().splitlines() == [paths[2], paths[7]]
    LoadReadableImage(str(note))  # of another run
    assert not note.exists()


def test_detection_passes_over_unreadable_images_too(tmp_path):
    datasets = pytest.importorskip('mmdet.datasets', exc_type=ImportError)
    paths = damaged(tmp_path / 'images')
    note = tmp_path / 'skipped.txt'
    dataset = dataset_of(datasets.BaseDetDataset, paths, LoadReadableImage(str(note)))
    assert all(dataset[i]['img'].shape == (40, 60, 3) for i in range(len(dataset)))
    assert len(note.read_text().splitlines()) == 2


@pytest.mark.slow
def test_several_processes_keep_one_count(tmp_path):
    from torch.utils.data import DataLoader

    paths = damaged(tmp_path / 'images')
    note = tmp_path / 'skipped.txt'
    dataset = dataset_of(BaseDataset, paths, LoadReadableImage(str(note)))
    loader = DataLoader(dataset, num_workers=2, collate_fn=lambda items: [item['img_path'] for item in items])
    for _ in range(2):
        assert len([path for batch in loader for path in batch]) == len(paths)
    assert sorted(note.read_text().splitlines()) == [paths[2], paths[7]]


def test_too_many_unreadable_images_end_the_run(tmp_path):
    paths = damaged(tmp_path / 'images')
    note = tmp_path / 'skipped.txt'
    dataset = dataset_of(BaseDataset, paths, LoadReadableImage(str(note), most=1))
    with pytest.raises(InputError, match=f'at most 1 images .* but {re.escape(paths[7])} is the 2th; they are listed'):
        for i in range(len(paths)):
            dataset[i]


def test_unreadable_images_are_named_where_none_is_passed_over(tmp_path):
    paths = damaged(tmp_path / 'images')
    for backend in ('pillow', 'cv2'):
        load = LoadReadableImage(imdecode_backend=backend)
        for path in (paths[2], paths[7], str(tmp_path / 'absent.jpg')):
            with pytest.raises(InputError, match=rf'an image, but {re.escape(path)} cannot be read \(.+\); copy'):
                load(dict(img_path=path))
        assert load(dict(img_path=paths[0]))['img'].shape == (40, 60, 3)


def test_an_error_of_a_loading_process_is_one_line(tmp_path, capsys):
    from torch._utils import ExceptionWrapper

    path = damaged(tmp_path / 'images')[2]
    try:
        LoadReadableImage()(dict(img_path=path))
    except InputError:
        error = ExceptionWrapper(where='in DataLoader worker process 0')  # what torch sends to the main process
    with pytest.raises(SystemExit) as stop, input_errors():
        error.reraise()
    assert stop.value.code == 2
    assert re.fullmatch(
        rf'error: expected an image, but {re.escape(path)} cannot be read \(.+\); .* remove it\n',
        capsys.readouterr().err,
    )


# Before a run.


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
        (['images', 'none', '--classes', 5], r'none is no folder; check the path'),
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


def test_a_mask_of_an_image_that_its_tag_turns(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (16, 12)).save(tmp_path / 'a.jpg', exif=exif.tobytes())
    size = LoadReadableImage()(dict(img_path=str(tmp_path / 'a.jpg')))['ori_shape']
    assert size == (16, 12)
    with pytest.raises(InputError, match='is 16x12 and .* is 12x16; make the mask again of the image as its EXIF tag'):
        check_size(labels_of(12, 16), 'a.png', size, 'a.jpg')


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
