"""The check of annotation files: what is refused, what is told, and that mmdet handles all that is let pass."""

import copy
import json
import math
import os
import tarfile
import unicodedata

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmdet.registry import DATASETS
from mmengine import Config
from mmengine.registry import init_default_scope
from PIL import Image
from pycocotools import mask as coco_mask

from mmcyclemlp.checks import check_annotations
from mmcyclemlp.checks import detection as annotations
from mmcyclemlp.datasets import digit_scenes
from mmcyclemlp.errors import InputError
from mmcyclemlp.untrusted import read_json

from .helpers import REPO

WIDTH, HEIGHT = 40, 30
SQUARE = [[4, 4, 12, 4, 12, 12, 4, 12]]
CLASSES = ('cat', 'dog')


def box(key, image=1, category=1, bbox=(4, 4, 8, 8), segmentation=SQUARE, **more):
    return dict(
        id=key,
        image_id=image,
        category_id=category,
        bbox=list(bbox),
        area=bbox[2] * bbox[3],
        iscrowd=0,
        segmentation=copy.deepcopy(segmentation),
        **more,
    )


@pytest.fixture
def content(tmp_path):
    """Two images with a cat and a dog each; the image files lie in images/."""
    (tmp_path / 'images').mkdir()
    for i in (1, 2):
        Image.new('RGB', (WIDTH, HEIGHT)).save(tmp_path / f'images/{i}.png')
    return dict(
        images=[dict(id=i, file_name=f'{i}.png', width=WIDTH, height=HEIGHT) for i in (1, 2)],
        annotations=[box(11), box(12, category=2), box(21, 2), box(22, 2, 2)],
        categories=[dict(id=1, name='cat'), dict(id=2, name='dog')],
    )


@pytest.fixture
def lines(monkeypatch):
    """What is told."""
    lines = []
    monkeypatch.setattr(annotations, 'print_log', lambda line, logger, level: lines.append(line))
    return lines


@pytest.fixture
def run(tmp_path, content):
    """A config of content, which is written when the config is made; sections and masks as asked for."""

    def make(masks=False, classes=CLASSES, scored=False, metric='bbox', poly2mask=True, **more):
        (tmp_path / 'few.json').write_text(json.dumps(content))
        dataset = dict(
            type='CocoDataset',
            data_root=str(tmp_path),
            ann_file='few.json',
            data_prefix=dict(img='images/'),
            metainfo=dict(classes=classes),
            test_mode=scored,
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True, with_mask=masks, poly2mask=poly2mask),
                dict(type='Resize', scale=(WIDTH, HEIGHT), keep_ratio=True),
                dict(type='PackDetInputs', meta_keys=('img_id', 'ori_shape')),
            ],
            **more,
        )
        split = 'val' if scored else 'train'
        config = {'default_scope': 'mmdet', f'{split}_dataloader': dict(dataset=dataset)}
        if scored:
            config['val_evaluator'] = dict(type='CocoMetric', ann_file=str(tmp_path / 'few.json'), metric=metric)
        return Config(config)

    return make


def load(config):
    """Instances of each image as mmdet's dataset and pipeline give them, by image id."""
    init_default_scope('mmdet')
    section = (config.get('train_dataloader') or config.get('val_dataloader')).dataset
    dataset = DATASETS.build(section)
    samples = [dataset[i]['data_samples'] for i in range(len(dataset))]
    return {sample.img_id: sample for sample in samples}


def score(config, samples, keep=lambda key: True):
    """COCO's AP for detections that are exactly the file's boxes of which ``keep`` says yes."""
    metric = CocoMetric(ann_file=config.val_evaluator.ann_file, metric='bbox')
    metric.dataset_meta = dict(classes=CLASSES)
    with open(config.val_evaluator.ann_file) as file:
        entries = [entry for entry in json.load(file)['annotations'] if keep(entry['id'])]
    for key in samples:
        own = [entry for entry in entries if entry['image_id'] == key]
        boxes = torch.tensor([entry['bbox'] for entry in own], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found = dict(
            bboxes=boxes,
            scores=torch.ones(len(own)),
            labels=torch.tensor([entry['category_id'] - 1 for entry in own], dtype=torch.long),
        )
        metric.process({}, [dict(pred_instances=found, img_id=key, ori_shape=(HEIGHT, WIDTH))])
    return metric.evaluate(len(samples))['coco/bbox_mAP']


def count(samples):
    return {key: len(sample.gt_instances) for key, sample in samples.items()}


@pytest.mark.parametrize('masks', [False, True])
@pytest.mark.parametrize('scored', [False, True])
def test_a_sound_file_passes_without_a_word(run, lines, masks, scored):
    config = run(masks=masks, scored=scored, metric=['bbox', 'segm'] if masks else 'bbox')
    check_annotations(config, 'train', 'val')
    assert lines == []
    assert count(load(config)) == {1: 2, 2: 2}


def outside(content):
    content['annotations'] += [box(31, 1, 1, (-20, 4, 8, 8)), box(32, 2, 1, (4, HEIGHT, 8, 8))]


def no_size(content):
    content['annotations'] += [box(31, 1, 1, (4, 4, 0, 8)), box(32, 2, 1, (4, 4, 8, 0.5))]
    content['annotations'] += [box(33, 2, 1, (9, 9, -4, -4)), dict(box(34, 2), area=0)]


def other_image(content):
    content['annotations'].append(box(31, 3))


def other_category(content):
    content['categories'].insert(1, dict(id=7, name='elk'))
    content['annotations'] += [box(31, 1, 7), box(32, 2, 7)]


PASSED_OVER = [
    (outside, '2 of 6 boxes lie outside their image (the first is annotation 31): mmdet leaves them out'),
    (
        no_size,
        '4 of 8 boxes are smaller than a pixel or have no area (the first is annotation 31): mmdet leaves them out',
    ),
    (
        other_image,
        '1 of 5 annotations are of images that the file does not list (the first is annotation 31): mmdet '
        'leaves them out',
    ),
    (
        other_category,
        '2 of 6 annotations are of categories that are not among the classes (the first is annotation '
        '31): mmdet leaves them out, and what they show counts as background',
    ),
]


@pytest.mark.parametrize('masks', [False, True])
@pytest.mark.parametrize('change, line', PASSED_OVER, ids=[change.__name__ for change, _ in PASSED_OVER])
def test_what_mmdet_leaves_out_is_told(run, content, lines, tmp_path, change, line, masks):
    change(content)
    config = run(masks=masks)
    check_annotations(config, 'train')
    assert lines == [f'{tmp_path}/few.json: {line}']
    samples = load(config)
    assert count(samples) == {1: 2, 2: 2}
    assert all(sample.gt_instances.labels.tolist() == [0, 1] for sample in samples.values())


@pytest.mark.parametrize('change', [outside, no_size])
def test_what_the_dataset_leaves_out_is_missed_by_the_metric(run, content, lines, change):
    change(content)
    config = run(scored=True)
    check_annotations(config, 'val')
    assert len(lines) == 1 and lines[0].endswith("mmdet leaves them out; COCO's metric counts them as missed")
    samples = load(config)
    assert score(config, samples, lambda key: key < 30) < 0.99
    content['annotations'] = content['annotations'][:4]
    assert score(run(scored=True), samples) == pytest.approx(1)


def test_boxes_across_the_border_are_cut(run, content, lines, tmp_path):
    content['annotations'] += [box(31, 1, 1, (-5, 20, 10, 20)), box(32, 1, 1, (35.5, 4, 5.4, 8))]
    config = run()
    check_annotations(config, 'train')
    assert lines == [
        f'{tmp_path}/few.json: 1 of 6 boxes reach more than a pixel out of their image (the first is '
        "annotation 31): mmdet keeps them, and its Resize cuts them at the image's border"
    ]
    boxes = load(config)[1].gt_instances.bboxes.numpy()
    np.testing.assert_allclose(boxes[2:], [[0, 20, 5, 30], [35.5, 4, 40, 12]], atol=1e-5)


@pytest.mark.parametrize(
    'filters, outcome, expected',
    [(dict(filter_empty_gt=True), 'mmdet leaves them out', {1: 2}), (None, 'they count as background', {1: 2, 2: 0})],
)
def test_images_without_annotation(run, content, lines, tmp_path, filters, outcome, expected):
    content['annotations'] = content['annotations'][:2]
    config = run(masks=True, filter_cfg=filters)
    check_annotations(config, 'train')
    assert lines == [
        f'{tmp_path}/few.json: 1 of 2 images have no annotation of the classes (the first is 2.png): {outcome}'
    ]
    assert count(load(config)) == expected


def test_images_without_annotation_are_scored_in_silence(run, content, lines):
    content['annotations'] = content['annotations'][:2]
    config = run(scored=True)
    check_annotations(config, 'val')
    assert lines == [] and count(load(config)) == {1: 2, 2: 0}


@pytest.mark.parametrize(
    'segmentation', [[[1, 1, 5, 5]], [[1, 1, 5, 5, 3, 3, 1]], dict(size=[HEIGHT, WIDTH]), dict(counts='', size=None)]
)
def test_masks_that_are_none_are_ignored(run, content, lines, tmp_path, segmentation):
    content['annotations'].append(box(31, segmentation=segmentation))
    config = run(masks=True)
    check_annotations(config, 'train')
    assert lines == [
        f'{tmp_path}/few.json: 1 of 5 masks have neither three points nor run lengths that are read (the '
        'first is annotation 31): mmdet counts what they show neither as object nor as background'
    ]
    samples = load(config)
    assert count(samples) == {1: 2, 2: 2} and len(samples[1].ignored_instances) == 1
    with pytest.raises(InputError, match="annotation 31 has a segmentation that COCO's metric cannot read"):
        check_annotations(run(scored=True, metric='segm'), 'val')


def test_run_lengths_are_not_read_as_polygons(run, content, lines):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
    mask[4:12, 4:12] = 1
    counts = coco_mask.encode(mask)['counts'].decode()
    content['annotations'].append(box(31, segmentation=dict(size=[HEIGHT, WIDTH], counts=counts)))
    for poly2mask, ignored in ((True, 0), (False, 1)):
        config = run(masks=True, poly2mask=poly2mask)
        check_annotations(config, 'train')
        assert len(lines) == ignored
        assert len(load(config)[1].ignored_instances) == ignored


def test_where_no_mask_is_read_nothing_could_be_learnt(run, content):
    counts = [0, WIDTH * HEIGHT]
    for annotation in content['annotations']:
        annotation['segmentation'] = dict(size=[HEIGHT, WIDTH], counts=counts)
    check_annotations(run(masks=True), 'train')
    with pytest.raises(InputError, match='of 4 none is left; 4 masks have neither three points nor run lengths that'):
        check_annotations(run(masks=True, poly2mask=False), 'train')


def test_crowds_are_ignored_in_silence(run, content, lines):
    counts = [0, 0, WIDTH * HEIGHT // 2, WIDTH * HEIGHT // 2]
    content['annotations'].append(dict(box(31, segmentation=dict(size=[HEIGHT, WIDTH], counts=counts)), iscrowd=1))
    counts[1:3] = [600, 0]
    config = run(masks=True)
    check_annotations(config, 'train')
    samples = load(config)
    assert lines == [] and count(samples) == {1: 2, 2: 2} and len(samples[1].ignored_instances) == 1


def test_annotation_zero_is_never_found(run, content, lines, tmp_path):
    content['annotations'][0]['id'] = 0
    config = run(scored=True)
    check_annotations(config, 'val')
    assert lines == [f"{tmp_path}/few.json: COCO's metric never finds annotation 0; number the annotations from 1"]
    assert score(config, load(config)) < 0.99
    check_annotations(run(), 'train')
    assert len(lines) == 1  # in training it is as good as any


def keys(section, index, *names):
    def remove(content):
        for name in names:
            del content[section][index][name]

    remove.__name__ = '_'.join(('no', *names))
    return remove


def put(section, index, **values):
    def change(content):
        content[section][index].update(values)

    change.__name__ = f'{section}_{"_".join(values)}'
    return change


def without(section):
    def remove(content):
        del content[section]

    remove.__name__ = f'without_{section}'
    return remove


def empty(section):
    def clear(content):
        content[section] = []

    clear.__name__ = f'empty_{section}'
    return clear


def swapped(content):
    content['categories'].reverse()


def twice(content):
    content['categories'].append(dict(id=3, name='cat'))


def all_outside(content):
    for entry in content['annotations']:
        entry['bbox'][0] = -100


def text_ids(content):
    for image in content['images']:
        image['id'] = str(image['id'])


REFUSED = [
    (without('images'), 'has no images; give the right file'),
    (without('annotations'), 'has no annotations; give the right file'),
    (without('categories'), 'has no categories; give the right file'),
    (empty('images'), 'it lists none'),
    (empty('annotations'), 'of 0 none is left'),
    (empty('categories'), 'not cat, dog of the classes'),
    (
        put('categories', 1, name='elk'),
        r'lists the categories cat, elk, but not dog of the classes of train_dataloader'
        r".dataset; set its metainfo=dict\(classes=\('cat', 'elk',\)\), and num_classes",
    ),
    (swapped, r"in another order, and mmdet would mix up their names; .*classes=\('dog', 'cat',\)"),
    (twice, 'category cat is there twice'),
    (put('categories', 1, id=1), 'category id 1 is there twice'),
    (keys('categories', 0, 'name'), r'categories\[0\] has no name'),
    (keys('images', 1, 'file_name'), r'images\[1\] has no file_name'),
    (keys('images', 1, 'width'), r'images\[1\] has no width'),
    (put('images', 1, height=0), 'image 2.png has size 40 x 0'),
    (put('images', 1, height='30'), 'image 2.png has size 40 x 30; expected two positive numbers'),
    (put('images', 1, id=1), 'image id 1 is there twice'),
    (put('images', 1, file_name='3.png'), r'1 of 2 are missing: \S+/images/3.png; put them there'),
    (keys('annotations', 2, 'id'), r'annotations\[2\] has no id'),
    (keys('annotations', 2, 'image_id'), r'annotations\[2\] has no image_id'),
    (keys('annotations', 2, 'category_id'), r'annotations\[2\] has no category_id'),
    (keys('annotations', 2, 'area'), 'annotation 21 has no area'),
    (keys('annotations', 2, 'bbox'), 'annotation 21 has no bbox'),
    (put('annotations', 2, bbox=[1, 2, 3]), r'annotation 21 has bbox \[1, 2, 3\]'),
    (put('annotations', 2, bbox=[1, 2, math.nan, 4]), r'annotation 21 has bbox \[1, 2, nan, 4\]'),
    (put('annotations', 2, area='64'), 'and area 64; expected four numbers x, y, width, height, and one'),
    (put('annotations', 2, id=11), 'annotation id 11 is there twice'),
    (put('annotations', 2, category_id=0), 'annotation 21 has category_id 0, but categories lists 1, 2'),
    (put('annotations', 2, id=[21]), r'annotations\[2\] has \[21\] for id; expected a number or a name'),
    (put('annotations', 2, image_id={}), r'annotations\[2\] has {} for image_id'),
    (put('images', 1, id=None), r'images\[1\] has None for id'),
    (put('images', 1, width=1e9), 'image 2.png has size 1000000000.0 x 30; .* at most 178,956,970 pixels'),
    (put('categories', 1, name=['dog']), r"categories\[1\] has \['dog'\] for name; expected a name"),
    (all_outside, 'of 4 none is left; 4 boxes lie outside their image'),
    (text_ids, "annotation 11 has image_id 1, which is a number, but the list has '1', which is text; write both"),
]


@pytest.mark.parametrize('change, sentence', REFUSED, ids=[change.__name__ for change, _ in REFUSED])
def test_what_would_fail_or_mislead_is_refused(run, content, change, sentence):
    change(content)
    with pytest.raises(InputError, match=sentence) as caught:
        check_annotations(run(), 'train')
    assert 'few.json' in str(caught.value) and '\n' not in str(caught.value)


MASKS_REFUSED = [
    (keys('annotations', 2, 'segmentation'), 'annotation 21 has no segmentation, but train_dataloader.dataset reads'),
    (put('annotations', 2, segmentation=[]), 'annotation 21 has no segmentation'),
    (put('annotations', 2, segmentation=[4, 4, 12, 4, 12, 12]), 'annotation 21 has a segmentation that is no list of'),
    (put('annotations', 2, segmentation='full'), 'annotation 21 has a segmentation of type str'),
    (
        put('annotations', 2, segmentation=[[4, 4, 8, 8, 12, 12]]),
        'annotation 21 has a mask of no area though its area is 64',
    ),
    (put('annotations', 2, segmentation=dict(size=[HEIGHT, WIDTH], counts=[WIDTH * HEIGHT])), 'mask of no area'),
    (
        put('annotations', 2, segmentation=dict(size=[WIDTH, HEIGHT], counts=[0, WIDTH * HEIGHT])),
        r'annotation 21 has a mask of size \[40, 30\], but its image 2.png is \[30, 40\]',
    ),
    (
        put('annotations', 2, segmentation=dict(size=[HEIGHT, WIDTH], counts=[5, 5])),
        'annotation 21 has run lengths of 10 pixels, but its image 2.png has 1200',
    ),
    (put('annotations', 2, segmentation=[[4, 4, 1e8, 4, 12, 12]]), 'annotation 21 has a polygon that reaches far out'),
    (
        put('annotations', 2, segmentation=dict(size=[HEIGHT, WIDTH], counts=[-5, WIDTH * HEIGHT + 5])),
        'annotation 21 has run lengths that are no numbers from 0 up',
    ),
    (
        put('annotations', 2, segmentation=dict(size=[HEIGHT, WIDTH], counts='0oo')),
        'annotation 21 has run lengths that are no numbers from 0 up',
    ),
    (
        put('annotations', 2, segmentation=dict(size=[HEIGHT, WIDTH], counts='PPYo0')),
        'annotation 21 has run lengths of|that are no numbers',
    ),
]


@pytest.mark.parametrize('change, sentence', MASKS_REFUSED, ids=map(str, range(len(MASKS_REFUSED))))
@pytest.mark.slow
def test_masks_are_checked_where_they_are_read(run, content, lines, change, sentence):
    change(content)
    with pytest.raises(InputError, match=sentence):
        check_annotations(run(masks=True), 'train')
    config = run()
    check_annotations(config, 'train')
    assert lines == [] and count(load(config)) == {1: 2, 2: 2}


@pytest.mark.parametrize('index', [0, 1, 2, 3, 6])
def test_mmdet_fails_late_on_refused_masks(run, content, index):
    MASKS_REFUSED[index][0](content)
    config = run(masks=True)
    init_default_scope('mmdet')
    dataset = DATASETS.build(config.train_dataloader.dataset)  # without a word
    with pytest.raises((AssertionError, KeyError, TypeError, ValueError)):
        dataset[1]


@pytest.mark.parametrize('index', [4, 5])
def test_mmdet_takes_empty_masks_for_objects(run, content, index):
    MASKS_REFUSED[index][0](content)
    instances = load(run(masks=True))[2].gt_instances
    assert len(instances) == 2 and instances.masks.masks.sum(axis=(1, 2)).tolist()[0] == 0


def test_mmdet_mixes_up_names_in_another_order(run, content):
    swapped(content)
    config = run()
    assert load(config)[1].gt_instances.labels.tolist() == [1, 0]  # the cat's label is that of the dog's name


def test_a_file_that_is_missing_or_cut(run, tmp_path):
    config = run()
    whole = (tmp_path / 'few.json').read_text()
    for length in (0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 2):
        (tmp_path / 'few.json').write_text(whole[:length])
        with pytest.raises(InputError, match=r'few.json is no whole json \(.*\); copy or make it again'):
            check_annotations(config, 'train')
    (tmp_path / 'few.json').write_text('[]')
    with pytest.raises(InputError, match='few.json has no images and no annotations and no categories'):
        check_annotations(config, 'train')
    (tmp_path / 'few.json').rename(tmp_path / 'fewer.json')
    with pytest.raises(InputError, match=r'few.json does not exist; did you mean \S+/fewer.json\?'):
        check_annotations(config, 'train')
    (tmp_path / 'fewer.json').unlink()
    with pytest.raises(InputError, match='put the dataset there, or set train_dataloader.dataset.ann_file'):
        check_annotations(config, 'train')


def test_images_are_looked_for_in_their_folders(run, content, lines, tmp_path):
    (tmp_path / 'images/part').mkdir()
    (tmp_path / 'images/2.png').rename(tmp_path / 'images/part/2.png')
    content['images'][1]['file_name'] = 'part/2.png'
    check_annotations(run(), 'train')
    (tmp_path / 'images').rename(tmp_path / 'pictures')
    with pytest.raises(InputError, match=r'2 of 2 are missing: \S+/1.png, \S+/2.png; .*train_dataloader.*data_prefix'):
        check_annotations(run(), 'train')


def test_images_that_may_be_passed_over_are_not_looked_for(run, content):
    content['images'][1]['file_name'] = '3.png'
    config = run()
    loader = config.train_dataloader.dataset.pipeline[0]
    loader.type = 'LoadReadableImage'
    with pytest.raises(InputError, match=r'1 of 2 are missing: \S+/3.png'):
        check_annotations(config, 'train')
    loader.skipped = 'skipped.txt'
    check_annotations(config, 'train')


def test_the_folder_of_the_images_is_named(run):
    config = run()
    config.train_dataloader.dataset.data_prefix = dict(img_path='images/')
    with pytest.raises(InputError, match=r'train_dataloader.dataset.data_prefix must name .* dict\(img=FOLDER\), got'):
        check_annotations(config, 'train')


def test_an_image_that_is_filtered_out_may_be_missing(run, content, lines):
    content['images'].append(dict(id=3, file_name='3.png', width=WIDTH, height=HEIGHT))
    content['images'].append(dict(id=4, file_name='4.png', width=WIDTH, height=8))
    content['annotations'].append(box(41, 4))
    config = run(filter_cfg=dict(filter_empty_gt=True, min_size=16))
    check_annotations(config, 'train')
    assert count(load(config)) == {1: 2, 2: 2}
    with pytest.raises(InputError, match=r"filter_cfg=\{'min_size': 64\} leaves none of the 4 images"):
        check_annotations(run(filter_cfg=dict(min_size=64)), 'train')


def test_a_class_alone_is_no_tuple(run):
    with pytest.raises(InputError, match=r"must be a tuple of names, got 'cat'; a tuple of one name is \('cat', \)"):
        check_annotations(run(classes=('cat')), 'train')


WRAPPERS = [
    lambda dataset: dict(type='RepeatDataset', times=2, dataset=dataset),
    lambda dataset: dict(type='ConcatDataset', datasets=[dataset]),
    lambda dataset: dict(type='ClassBalancedDataset', oversample_thr=0.1, dataset=dataset),
    lambda dataset: dict(type='MultiImageMixDataset', pipeline=[], dataset=dataset),
    lambda dataset: dict(type='RepeatDataset', times=2, dataset=dict(type='mmdet.ConcatDataset', datasets=[dataset])),
]


@pytest.mark.parametrize('wrap', WRAPPERS, ids=['repeat', 'concat', 'balanced', 'mix', 'both'])
def test_datasets_in_wrappers_are_checked(run, content, wrap):
    content['annotations'][2]['category_id'] = 9
    config = run()
    config.train_dataloader.dataset = wrap(config.train_dataloader.dataset)
    with pytest.raises(InputError, match='annotation 21 has category_id 9'):
        check_annotations(config, 'train')


def test_masks_may_be_read_by_a_wrapper(run, content):
    del content['annotations'][2]['segmentation']
    config = run(masks=True)
    inner = config.train_dataloader.dataset
    config.train_dataloader.dataset = dict(
        type='MultiImageMixDataset', dataset=dict(inner, pipeline=[]), pipeline=inner.pipeline
    )
    with pytest.raises(InputError, match='no segmentation, but train_dataloader.dataset.dataset reads masks'):
        check_annotations(config, 'train')


def test_other_datasets_are_left_alone(run, content, tmp_path):
    config = run()
    config.train_dataloader.dataset.update(type='VOCDataset', ann_file='absent.txt')
    check_annotations(config, 'train')
    config.train_dataloader.dataset.update(type='CocoPanopticDataset', ann_file='absent.json')
    check_annotations(config, 'train')
    config = run(backend_args=dict(backend='petrel'))
    config.train_dataloader.dataset.ann_file = 'absent.json'
    check_annotations(config, 'train')
    check_annotations(Config(dict(default_scope='mmpretrain')), 'train', 'val')
    check_annotations(Config(dict(default_scope='mmdet', val_dataloader=None)), 'train', 'val', 'test')


def test_the_metric_must_score_what_is_loaded(run, content, tmp_path):
    config = run(scored=True)
    config.val_dataloader.dataset.indices = 1
    with pytest.raises(InputError, match=r'val_dataloader.dataset.indices takes a part .*subset_coco.py'):
        check_annotations(config, 'val')
    assert score(config, load(config)) < 0.6  # of all, found is what is in the first image
    content['images'].pop()
    content['annotations'] = content['annotations'][:2]
    (tmp_path / 'fewer.json').write_text(json.dumps(content))
    config = run(scored=True)
    config.val_evaluator.ann_file = str(tmp_path / 'fewer.json')
    check_annotations(config, 'val')
    for part in (config.val_dataloader.dataset, config.val_evaluator):
        part.ann_file = str(tmp_path / 'fewer.json')
    check_annotations(config, 'val')


@pytest.mark.parametrize('scores_more', [False, True])
def test_the_metric_has_the_images_of_the_dataset(run, content, tmp_path, scores_more):
    run()
    content['images'].pop()
    content['annotations'] = content['annotations'][:2]
    (tmp_path / 'fewer.json').write_text(json.dumps(content))
    config = Config(run(scored=True).to_dict())
    names = [str(tmp_path / 'fewer.json'), str(tmp_path / 'whole.json')]
    content['images'].append(dict(id=2, file_name='2.png', width=WIDTH, height=HEIGHT))
    (tmp_path / 'whole.json').write_text(json.dumps(content))
    config.val_dataloader.dataset.ann_file, config.val_evaluator.ann_file = names if scores_more else names[::-1]
    with pytest.raises(
        InputError,
        match=r'val_evaluator scores over the images of \S+.json, but 1 of them .* id 2; set'
        ' val_evaluator.ann_file',
    ):
        check_annotations(config, 'val')


def test_a_test_without_truth_may_have_no_annotations(run, content, lines):
    del content['annotations']
    config = run(scored=True)
    with pytest.raises(InputError, match='has no annotations'):
        check_annotations(config, 'val')
    config.val_evaluator.update(format_only=True, outfile_prefix='results')
    check_annotations(config, 'val')
    assert lines == [] and count(load(config)) == {1: 0, 2: 0}


def test_one_process_tells(run, content, lines, monkeypatch):
    outside(content)
    monkeypatch.setenv('RANK', '1')
    check_annotations(run(), 'train')
    assert lines == []


def test_a_dataset_that_makes_its_data_makes_it(lines, tmp_path, monkeypatch):
    from mmcyclemlp.datasets import digit_scenes_detection  # noqa: F401

    monkeypatch.setattr(digit_scenes.make_missing, '__defaults__', (3, 2))
    monkeypatch.chdir(tmp_path)
    dataset = dict(
        type='DigitScenesDetection',
        ann_file='annotations/val.json',
        data_prefix=dict(img='val/'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_mask=True)],
        test_mode=True,
    )
    check_annotations(
        Config(
            dict(
                default_scope='mmdet',
                val_dataloader=dict(dataset=dataset),
                val_evaluator=dict(type='CocoMetric', ann_file='data/digit_scenes/annotations/val.json'),
            )
        ),
        'val',
    )
    assert lines == [] and (tmp_path / 'data/digit_scenes/val/0001.png').is_file()


@pytest.mark.parametrize(
    'archive, folder, sections',
    [
        ('bccd_trainval', 'bccd', [(f'annotations/{split}.json', 'images/') for split in ('train', 'val')]),
        (
            'coco_mini_instances',
            'coco_mini',
            [(f'annotations/instances_{split}.json', f'images/{split}/') for split in ('train', 'val')],
        ),
    ],
)
def test_real_annotations_pass(shared_data, tmp_path, lines, archive, folder, sections):
    with tarfile.open(shared_data / f'{archive}.tar.gz') as tar:
        tar.extractall(tmp_path, filter='data')
    root = next(path for path in (tmp_path, tmp_path / folder) if (path / 'annotations').is_dir())
    masks = folder == 'coco_mini'
    metainfo = {} if masks else dict(metainfo=dict(classes=('RBC', 'WBC', 'Platelets')))
    for split, (ann_file, prefix) in zip(('train', 'val'), sections):
        dataset = dict(
            type='CocoDataset',
            data_root=str(root),
            ann_file=ann_file,
            data_prefix=dict(img=prefix),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_mask=masks)],
            test_mode=split == 'val',
            **metainfo,
        )
        evaluator = dict(type='CocoMetric', ann_file=str(root / ann_file), metric=['bbox', 'segm'] if masks else 'bbox')
        check_annotations(
            Config(
                {'default_scope': 'mmdet', f'{split}_dataloader': dict(dataset=dataset), 'val_evaluator': evaluator}
            ),
            split,
        )
    told = [line.split(': ', 1)[1] for line in lines]
    assert told == (
        ['2 of 70 images have no annotation of the classes (the first is 000000000250.jpg): they count as background']
        if masks
        else []
    )


@pytest.mark.parametrize('name, args', [('train.py', []), ('test.py', ['weights.pth'])])
def test_the_tools_check_before_they_start(tmp_path, tool, name, args):
    torch.save(dict(state_dict=dict(weight=torch.zeros(1))), tmp_path / 'weights.pth')
    options = '--cfg-options', f'{name[:-3]}_dataloader.dataset.data_root={tmp_path}'
    code, _, error = tool(tmp_path, name, REPO / 'configs/cyclemlp/bccd_retinanet_b1.py', *args, *options)
    assert code == 2
    assert error.startswith(f"error: expected annotations in COCO's format, but {tmp_path}{os.sep}annotations")
    assert sorted(path.name for path in tmp_path.iterdir()) == ['weights.pth']


def refused(config, match):
    with pytest.raises(InputError, match=match) as error:
        check_annotations(config, 'train', 'val')
    assert '\n' not in str(error.value)


def test_ids_as_text_and_as_numbers(run, content):
    content['annotations'][0]['category_id'] = '1'
    refused(run(), "annotation 11 has category_id '1', which is text, but the list has 1, which is a number; write")
    content['annotations'][0].update(category_id=1, image_id='1')
    refused(run(), "annotation 11 has image_id '1', which is text, but the list has 1, which is a number; write both")


@pytest.mark.parametrize('name', ['dog ', unicodedata.normalize('NFD', 'dög')])
def test_names_that_look_the_same(run, content, name):
    content['categories'][1]['name'] = name
    seen = 'dög' if 'g' == name[-1] else 'dog'
    refused(run(classes=('cat', seen)), rf"categories 'cat', {name!r}, but not {seen!r} of .* differ in spaces, case")


def test_a_file_that_was_checked_is_not_read_again_unless_it_changed(run, content, tmp_path, monkeypatch):
    config, read = run(), []
    monkeypatch.setattr(annotations, 'read_json', lambda path, what: read.append(path) or read_json(path, what))
    check_annotations(config, 'train')
    expected = count(load(config))
    assert read == []
    assert count(load(config)) == expected and read == [tmp_path / 'few.json']
    check_annotations(config, 'train')
    content['annotations'].pop()
    (tmp_path / 'few.json').write_text(json.dumps(content))
    assert sum(count(load(config)).values()) == sum(expected.values()) - 1 and len(read) == 2


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-16-le'])
def test_files_with_a_byte_order_mark_or_in_utf_16_are_read(run, content, tmp_path, encoding):
    config = run(scored=True)
    path = tmp_path / 'few.json'
    path.write_bytes(path.read_text().encode(encoding))
    check_annotations(config, 'val')
    init_default_scope('mmdet')
    assert len(DATASETS.build(config.val_dataloader.dataset)) == 2
    CocoMetric(ann_file=str(path))


def test_what_the_metric_needs_is_required_where_it_scores(run, content):
    del content['annotations'][1]['iscrowd']
    check_annotations(run(), 'train')
    refused(run(scored=True), 'annotation 12 has no iscrowd')
    content['annotations'][1].update(iscrowd=0, id='a')
    check_annotations(run(), 'train')
    refused(run(scored=True), "annotation has id 'a', .* but COCO's metric takes numbers")
    content['annotations'][1].update(id=12, iscrowd='no')
    refused(run(scored=True), "iscrowd 'no', but COCO's metric takes numbers only, and iscrowd is 0 or 1")
    content['annotations'][1].update(iscrowd=0, ignore=1, area=None)
    check_annotations(run(), 'train')
    refused(run(scored=True), 'area None')
    content['images'][1]['id'] = '2'
    refused(run(), "some image ids are text, such as '2', others numbers; write all as numbers")


def test_images_of_another_size_than_the_file_says(run, content, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (WIDTH, HEIGHT)).save(tmp_path / 'images/2.png', exif=exif.tobytes())
    refused(run(), rf'2.png is {WIDTH} x {HEIGHT}, but the image, turned by its EXIF tag, is {HEIGHT} x {WIDTH}, and')
    content['images'][1].update(width=HEIGHT, height=WIDTH)
    check_annotations(run(), 'train')
    Image.new('RGB', (9, 9)).save(tmp_path / 'images/1.png')
    refused(run(), rf'1.png is {WIDTH} x {HEIGHT}, but the image is 9 x 9, and boxes would lie beside')


def test_names_of_another_case(run, content):
    content['images'][1]['file_name'] = '2.PNG'
    refused(
        run(), r"1 of 2 are missing: \S+2.PNG \(there is '2.png', which differs in case, spaces or its Unicode form"
    )


def test_names_with_back_slashes(run, content):
    content['images'][0]['file_name'] = 'sub\\1.png'
    refused(run(), r'1 of 2 are missing: .*; write / for \\ in the names')
