"""Digit scenes: what is in an image, what is written, and that mmdet and mmseg read it."""

import hashlib
import json
import multiprocessing
import sys

import numpy as np
import pytest
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs
from mmengine.registry import DefaultScope
from PIL import Image
from pycocotools.coco import COCO

from mmcyclemlp.datasets import digit_scenes
from mmcyclemlp.datasets.digit_scenes import CLASSES, digit_scene, semantic_mask, write_digit_scenes
from mmcyclemlp.datasets.digit_scenes_detection import DigitScenesDetection
from mmcyclemlp.datasets.digit_scenes_segmentation import DigitScenesSegmentation
from mmcyclemlp.datasets.digits import Digits
from mmcyclemlp.errors import InputError, MissingDependencyError

COUNT = 60


@pytest.fixture(scope='module')
def scenes():
    return [digit_scene(i, 'train') for i in range(COUNT)]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """A small dataset of 12 training and 4 validation scenes."""
    root = tmp_path_factory.mktemp('scenes') / 'digit_scenes'
    write_digit_scenes(root, train=12, val=4)
    return root


def test_a_scene_is_the_same_everywhere(scenes):
    image, instances = digit_scene(3, 'train')
    assert np.array_equal(image, scenes[3].image)
    content = image.tobytes() + b''.join(i.mask.tobytes() for i in instances) + bytes(i.label for i in instances)
    assert hashlib.sha256(content).hexdigest()[:16] == '94bfbba38ba81de9'


def test_scenes_differ_by_index_and_split(scenes):
    images = {scene.image.tobytes() for scene in scenes} | {digit_scene(0, 'val').image.tobytes()}
    assert len(images) == COUNT + 1


def test_images_are_of_many_sizes(scenes):
    heights, widths = ([scene.image.shape[axis] for scene in scenes] for axis in (0, 1))
    for sides in (heights, widths):
        assert 96 <= min(sides) < 100 and 124 < max(sides) <= 128
    ratios = [w / h for w, h in zip(widths, heights)]
    assert min(ratios) < 0.8 and max(ratios) > 1.25
    assert all(scene.image.dtype == np.uint8 and scene.image.shape[2] == 3 for scene in scenes)


def test_digits_are_of_many_sizes_and_every_class(scenes):
    instances = [instance for scene in scenes for instance in scene.instances]
    assert {instance.label for instance in instances} == set(range(10))
    whole = [instance.box[3] for instance in instances]
    assert np.quantile(whole, 0.02) < 36 and np.quantile(whole, 0.98) > 50 and max(whole) < 60
    assert all(1 <= len(scene.instances) <= 9 for scene in scenes) and len(instances) > 3 * COUNT


def test_digits_are_light_on_a_darker_ground(scenes):
    for scene in scenes:
        digits = semantic_mask(scene) > 0
        assert np.quantile(scene.image[~digits], 0.9) < 130 < np.quantile(scene.image[digits], 0.2)


def test_boxes_are_tight_and_inside(scenes):
    for scene in scenes:
        for instance in scene.instances:
            x, y, w, h = instance.box
            assert instance.mask.shape == scene.image.shape[:2] and instance.mask.dtype == bool
            rows, columns = np.nonzero(instance.mask)
            assert (x, y) == (columns.min(), rows.min())
            assert (x + w - 1, y + h - 1) == (columns.max(), rows.max())
            assert 0 <= x and 0 <= y and x + w <= scene.image.shape[1] and y + h <= scene.image.shape[0]


def test_masks_are_what_is_visible(scenes):
    for scene in scenes:
        covered = sum(instance.mask.astype(int) for instance in scene.instances)
        assert covered.max() <= 1  # a pixel shows one digit


def test_digits_are_close_but_do_not_touch(scenes):
    nearest = []
    for scene in scenes:
        points = [np.argwhere(instance.mask) for instance in scene.instances]
        for i, mine in enumerate(points):
            # The larger of the distances along the two axes.
            nearest += [abs(mine[:, None] - other).max(axis=2).min() for other in points[:i]]
    assert min(nearest) == digit_scenes.GAP + 1
    assert np.mean(np.array(nearest) < 8) > 0.2


def test_all_within_the_gap_is_near():
    mask = np.zeros((9, 12), bool)
    mask[0, 2] = mask[5, 8] = True
    near = np.zeros_like(mask)
    near[:3, :5] = near[3:8, 6:11] = True
    assert digit_scenes.GAP == 2 and np.array_equal(digit_scenes._grown(mask), near)


def test_a_mask_has_one_colour(scenes):
    # What is inside a mask was painted last, with one colour, but for soft edges and the grain.
    for scene in scenes[:20]:
        for instance in scene.instances:
            inner = instance.mask & np.roll(instance.mask, 1, 0) & np.roll(instance.mask, -1, 0)
            inner &= np.roll(inner, 1, 1) & np.roll(inner, -1, 1)
            if inner.sum() > 20:
                pixels = scene.image[inner].astype(int)
                assert np.median(abs(pixels - np.median(pixels, axis=0)).max(axis=1)) <= 9


def test_no_digit_is_nearly_hidden():
    front = np.zeros((10, 10), int)
    front[:, :5], front[0, 5:] = 1, 2  # 50 and 5 pixels are seen
    mask = np.zeros((10, 10), bool)
    mask[:5, 0] = True  # would leave 45 of 50
    assert not digit_scenes._hides(mask, front, [0, 50, 5])
    assert digit_scenes._hides(mask, front, [0, 51, 5])
    mask[0, 5] = True
    assert digit_scenes._hides(mask, front, [0, 50, 5])


def test_held_out_digits_appear_in_val_only():
    for split, theirs in (('train', 'train'), ('val', 'test')):
        glyphs, labels = digit_scenes._glyphs(split)
        dataset = Digits(split=theirs)
        items = [dataset[i] for i in range(len(dataset))]
        assert labels.tolist() == [item['gt_label'] for item in items]
        images = np.stack([item['img'][..., 0] for item in items])
        assert np.array_equal(np.rint(glyphs[:, 1:-1, 1:-1] / 256 * 255).astype(np.uint8), images)


def test_the_semantic_mask_holds_the_labels(scenes):
    mask = semantic_mask(scenes[0])
    assert mask.dtype == np.uint8
    for instance in scenes[0].instances:
        assert (mask[instance.mask] == instance.label + 1).all()
    assert (mask > 0).sum() == sum(instance.mask.sum() for instance in scenes[0].instances)


@pytest.mark.parametrize(
    'args, sentence',
    [
        ((0, 'test'), r"split of digit scenes must be one of \('train', 'val'\), got 'test'"),
        ((-1, 'val'), 'index of a digit scene from 0 up, got -1'),
    ],
)
def test_wrong_scenes_are_refused(args, sentence):
    with pytest.raises(InputError, match=sentence):
        digit_scene(*args)


def test_what_is_written_is_the_scenes(root):
    for split, count in (('train', 12), ('val', 4)):
        coco = COCO(root / 'annotations' / f'{split}.json')
        assert [category['name'] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
        assert len(coco.imgs) == count == len(list((root / split).iterdir()))
        for index, image in enumerate(coco.loadImgs(sorted(coco.imgs))):
            scene = digit_scene(index, split)
            assert np.array_equal(np.array(Image.open(root / split / image['file_name'])), scene.image)
            assert (image['height'], image['width']) == scene.image.shape[:2]
            mask = np.array(Image.open(root / 'masks' / split / image['file_name']))
            assert np.array_equal(mask, semantic_mask(scene))
            annotations = coco.loadAnns(coco.getAnnIds(imgIds=image['id']))
            assert len(annotations) == len(scene.instances)
            for annotation, instance in zip(annotations, scene.instances):
                assert annotation['category_id'] == instance.label + 1
                assert annotation['bbox'] == list(instance.box)
                assert annotation['area'] == instance.mask.sum()
                assert np.array_equal(coco.annToMask(annotation), instance.mask)


def test_mmdet_reads_boxes_and_masks(root):
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DigitScenesDetection(
            data_root=str(root),
            ann_file='annotations/train.json',
            data_prefix=dict(img='train/'),
            pipeline=[dict(type='LoadImageFromFile'), LoadAnnotations(with_bbox=True, with_mask=True), PackDetInputs()],
        )
        assert dataset.metainfo['classes'] == CLASSES and len(dataset.metainfo['palette']) == 10
        assert len(dataset) == 12
        for index in range(12):
            item, scene = dataset[index], digit_scene(index, 'train')
            assert np.array_equal(item['inputs'].numpy().transpose(1, 2, 0)[..., ::-1], scene.image)
            found = item['data_samples'].gt_instances
            assert found.labels.tolist() == [instance.label for instance in scene.instances]
            assert np.array_equal(found.masks.masks.astype(bool), [instance.mask for instance in scene.instances])
            boxes = np.array([instance.box for instance in scene.instances])
            assert np.array_equal(found.bboxes.numpy()[:, 2:] - found.bboxes.numpy()[:, :2], boxes[:, 2:])


def test_mmseg_reads_images_and_masks(root):
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DigitScenesSegmentation(
            data_root=str(root),
            data_prefix=dict(img_path='val', seg_map_path='masks/val'),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')],
        )
        assert dataset.metainfo['classes'] == ('background', *CLASSES) and len(dataset.metainfo['palette']) == 11
        assert len(dataset) == 4
        for index in range(4):
            item, scene = dataset[index], digit_scene(index, 'val')
            assert np.array_equal(item['inputs'].numpy().transpose(1, 2, 0)[..., ::-1], scene.image)
            assert np.array_equal(item['data_samples'].gt_sem_seg.data[0].numpy(), semantic_mask(scene))


@pytest.mark.parametrize('kind', [DigitScenesDetection, DigitScenesSegmentation])
def test_the_datasets_make_what_is_missing(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(digit_scenes.make_missing, '__defaults__', (3, 2))
    monkeypatch.chdir(tmp_path)
    arguments = dict(
        DigitScenesDetection=dict(ann_file='annotations/val.json', data_prefix=dict(img='val/')),
        DigitScenesSegmentation=dict(data_prefix=dict(img_path='val', seg_map_path='masks/val')),
    )[kind.__name__]
    dataset = kind(**arguments, lazy_init=True)
    assert not list(tmp_path.iterdir())
    dataset.full_init()
    assert len(dataset) == 2
    assert [path.name for path in (tmp_path / 'data').iterdir()] == ['digit_scenes']
    before = (tmp_path / 'data/digit_scenes/annotations/val.json').stat().st_mtime_ns
    kind(**arguments)
    assert (tmp_path / 'data/digit_scenes/annotations/val.json').stat().st_mtime_ns == before


def test_of_several_processes_the_first_wins(tmp_path):
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=digit_scenes.make_missing, args=(tmp_path / 'scenes', 4, 2)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ['scenes']
    assert len(json.loads((tmp_path / 'scenes/annotations/train.json').read_text())['images']) == 4


def test_a_lost_race_keeps_the_winners_folder(tmp_path, monkeypatch):
    write_split = digit_scenes._write_split

    def overtaken(root, split, count):
        write_split(root, split, count)
        (tmp_path / 'scenes').mkdir(exist_ok=True)
        (tmp_path / 'scenes' / 'winner').touch()

    monkeypatch.setattr(digit_scenes, '_write_split', overtaken)
    write_digit_scenes(tmp_path / 'scenes', 1, 1)
    assert [path.name for path in tmp_path.iterdir()] == ['scenes']
    assert [path.name for path in (tmp_path / 'scenes').iterdir()] == ['winner']


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(json, 'dump', full)
    with pytest.raises(InputError, match=r'could not write digit scenes to .*scenes \(No space left on device\)'):
        write_digit_scenes(tmp_path / 'scenes', 1, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'module, command', [('sklearn.datasets', 'pip install scikit-learn'), ('pycocotools', 'pip install pycocotools')]
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, module, command):
    monkeypatch.setitem(sys.modules, module, None)
    digit_scenes._glyphs.cache_clear()
    with pytest.raises(MissingDependencyError, match=command):
        write_digit_scenes(tmp_path / 'scenes', 1, 1)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def tool(tool, tmp_path):
    return lambda *args: tool(tmp_path, 'datasets/digit_scenes.py', *args)


def test_the_tool_makes_a_folder_once(tmp_path, tool):
    code, output, _ = tool(tmp_path / 'few', '--train', 2, '--val', 1)
    assert code == 0 and f'Wrote 2 training and 1 validation scenes to {tmp_path}/few' in output
    assert len(list((tmp_path / 'few/train').iterdir())) == 2
    code, _, error = tool(tmp_path / 'few')
    assert code == 2 and error == (
        f'error: expected a folder to make for the digit scenes, but {tmp_path}/few exists; '
        'remove it first, or give another\n'
    )


def test_the_tool_refuses_no_scenes(tmp_path, tool):
    code, _, error = tool(tmp_path / 'none', '--val', 0)
    assert code == 2 and 'expected at least one scene in each split, got train=2000 and val=0' in error
    assert not list(tmp_path.iterdir())
