"""What the check of a COCO file refuses and tells, and that mmdet handles all that it lets pass."""

import math
import re
import unicodedata

import numpy as np
import pytest
from mmdet.evaluation import CocoMetric
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope
from pycocotools import mask as coco_mask

from mmcyclemlp.checks import check_annotations
from mmcyclemlp.errors import InputError

from . import coco_files
from .coco_files import HEIGHT, WIDTH, box, count, load, outside, refused, score

content, lines, run = coco_files.content, coco_files.lines, coco_files.run  # fixtures


@pytest.mark.parametrize('masks', [False, True])
@pytest.mark.parametrize('scored', [False, True])
def test_a_sound_file_passes_without_a_word(run, lines, masks, scored):
    config = run(masks=masks, scored=scored, metric=['bbox', 'segm'] if masks else 'bbox')
    check_annotations(config, 'train', 'val')
    assert lines == []
    assert count(load(config)) == {1: 2, 2: 2}


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


def test_where_most_are_crowds_nothing_is_learnt(run, content, lines, tmp_path):
    for entry in content['annotations'][:2]:
        entry['iscrowd'] = 1
    check_annotations(run(), 'train')
    assert lines == [
        f'{tmp_path}/few.json: 2 of 4 annotations are marked iscrowd (the first is annotation 11): mmdet trains on '
        'none of them; a single object has iscrowd 0'
    ]
    for entry in content['annotations']:
        entry['iscrowd'] = 1
    config = run()
    with pytest.raises(InputError, match='of 4 none is left; 4 annotations are marked iscrowd; correct the file'):
        check_annotations(config, 'train')
    assert count(load(config)) == {1: 0, 2: 0}


def test_text_is_no_mark_of_a_crowd(run, content):
    for entry in content['annotations']:
        entry['iscrowd'] = '0'
    config = run()
    with pytest.raises(InputError, match="annotation 11 has '0' for iscrowd; expected 0 or 1"):
        check_annotations(config, 'train')
    assert count(load(config)) == {1: 0, 2: 0}
    for entry in content['annotations']:
        entry['iscrowd'] = None
    check_annotations(run(), 'train')


def test_classes_without_annotation(run, content, lines, tmp_path):
    content['annotations'] = content['annotations'][::2]
    check_annotations(run(), 'train')
    assert lines == [f'{tmp_path}/few.json: no annotation is of class dog, so none of it is learnt here']
    check_annotations(run(scored=True), 'val')
    assert len(lines) == 1


def test_corners_in_the_place_of_sizes(run, content, lines):
    for entry in content['annotations'][:3]:
        entry['bbox'] = [20, 15, 38, 28]
    check_annotations(run(), 'train')
    assert len(lines) == 1 and lines[0].endswith('if they are x1, y1, x2, y2, write x, y, width, height')


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
    (put('annotations', 2, area='64'), "and area '64'; expected four numbers x, y, width, height, and one"),
    (put('annotations', 2, bbox=[4, 4, 8, 10**400]), 'has bbox .4, 4, 8, 1000.* expected four numbers x, y'),
    (put('annotations', 2, id=11), 'annotation id 11 is there twice'),
    (put('annotations', 2, category_id=0), 'annotation 21 has category_id 0, but categories lists 1, 2'),
    (put('annotations', 2, id=[21]), r'annotations\[2\] has \[21\] for id; expected a whole number or a name'),
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


def test_ids_as_text_and_as_numbers(run, content):
    content['annotations'][0]['category_id'] = '1'
    refused(run(), "annotation 11 has category_id '1', which is text, but the list has 1, which is a number; write")
    content['annotations'][0].update(category_id=1, image_id='1')
    refused(run(), "annotation 11 has image_id '1', which is text, but the list has 1, which is a number; write both")


@pytest.mark.parametrize('name', ['dog ', unicodedata.normalize('NFD', 'dög')])
def test_names_that_look_the_same(run, content, name):
    content['categories'][1]['name'] = name
    seen = 'dög' if 'g' == name[-1] else 'dog'
    told = f"categories 'cat', {ascii(name)}, but not {ascii(seen)} of"
    refused(run(classes=('cat', seen)), f'{re.escape(told)} .* differ in spaces, case')


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
