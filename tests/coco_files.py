"""A small file of COCO annotations, its images and its config, for the tests of the checks."""

import copy
import json

import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmdet.registry import DATASETS
from mmengine import Config
from mmengine.registry import init_default_scope
from PIL import Image

from mmcyclemlp.checks import check_annotations, common
from mmcyclemlp.errors import InputError

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
    monkeypatch.setattr(common, 'print_log', lambda line, logger, level: lines.append(line))
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


def outside(content):
    content['annotations'] += [box(31, 1, 1, (-20, 4, 8, 8)), box(32, 2, 1, (4, HEIGHT, 8, 8))]


def refused(config, match):
    with pytest.raises(InputError, match=match) as error:
        check_annotations(config, 'train', 'val')
    assert '\n' not in str(error.value)
