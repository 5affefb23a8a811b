"""The check of a detection config: its files, images, wrappers and metric."""

import json
import os
import tarfile

import pytest
import torch
from mmengine import Config
from PIL import Image

from mmcyclemlp.checks import check_annotations
from mmcyclemlp.checks import detection as annotations
from mmcyclemlp.datasets import digit_scenes
from mmcyclemlp.errors import InputError
from mmcyclemlp.untrusted import read_json

from . import coco_files
from .coco_files import HEIGHT, WIDTH, box, count, load, outside, refused, score
from .helpers import REPO

content, lines, run = coco_files.content, coco_files.lines, coco_files.run  # fixtures


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
        [
            'no annotation is of class fire hydrant, parking meter, sheep, cow, zebra and 9 more, so none of it is '
            'learnt here',
            '2 of 70 images have no annotation of the classes (the first is 000000000250.jpg): they count as '
            'background',
        ]
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
