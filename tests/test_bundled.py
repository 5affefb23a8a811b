"""The small weights that come with the package: what they say of data they have not seen."""

import hashlib

import numpy as np
import pytest
import torch
from torchvision.ops import box_convert, box_iou

from mmcyclemlp import Predictor, create_model
from mmcyclemlp.checkpoints import zoo
from mmcyclemlp.config import load_config
from mmcyclemlp.datasets.digit_scenes import digit_scene, semantic_mask
from mmcyclemlp.datasets.digits import Digits

from .helpers import NEEDS_OPERATORS, REPO, read_table

BUNDLED = {name: weights for name, weights in zoo.ZOO.items() if '://' not in weights.url}
SCENES = [digit_scene(index, 'val') for index in range(8)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Nothing is read from the current folder, and nothing downloaded."""
    monkeypatch.chdir(tmp_path)


def predictor(name):
    return Predictor(REPO / f'configs/cyclemlp/{name}_nano.py', f'cyclemlp://{name}')


def test_small_enough_and_whole():
    assert {weights.task for weights in BUNDLED.values()} == {'classification', 'detection', 'segmentation'}
    for weights in BUNDLED.values():
        content = zoo.fetch(weights).read_bytes()
        assert len(content) <= 3e6 and hashlib.sha256(content).hexdigest() == weights.sha256
    assert {path.name for path in zoo.BUNDLED.iterdir()} == {weights.url for weights in BUNDLED.values()}


def test_digits():
    weights = zoo.ZOO['digits']
    model = create_model('cyclemlp_digits', pretrained=True).eval()
    items = Digits('test').load_data_list()
    images = torch.tensor(np.stack([item['img'] for item in items]), dtype=torch.float32).permute(0, 3, 1, 2)
    images = torch.nn.functional.interpolate(images, weights.input_size, mode='bilinear')
    with torch.no_grad():
        found = model((images - weights.mean[0]) / weights.std[0]).argmax(dim=1).tolist()
    assert sum(label == item['gt_label'] for label, item in zip(found, items)) >= 355  # of 359
    prediction = predictor('digits')(items[7]['img'])[0]
    assert prediction.to_dict()['pred_class'] == str(items[7]['gt_label'])


def test_digits_at_other_scales(tool, tmp_path):
    config, weights = REPO / 'configs/cyclemlp/digits_nano.py', zoo.BUNDLED / zoo.ZOO['digits'].url
    assert tool(tmp_path, 'analysis/scales.py', config, weights, '--scales', 0.5, 1, '--work-dir', 'out')[0] == 0
    half, whole = read_table(tmp_path / 'out/scales.csv')
    assert float(whole['accuracy/top1']) == pytest.approx(99.44, abs=0.3)
    assert float(half['accuracy/top1']) < float(whole['accuracy/top1'])


@NEEDS_OPERATORS
def test_detection():
    detect, right = predictor('digit-scenes_retinanet'), 0
    for scene in SCENES:
        (prediction,) = detect(np.ascontiguousarray(scene.image[..., ::-1]))
        boxes = prediction.pred_instances[prediction.pred_instances.scores > 0.4]
        truth = torch.tensor([instance.box for instance in scene.instances], dtype=torch.float32)  # x, y, w, h
        overlaps = box_iou(box_convert(truth, 'xywh', 'xyxy'), boxes.bboxes)
        for instance, row in zip(scene.instances, overlaps):
            right += int(row.max() > 0.5 and boxes.labels[row.argmax()] == instance.label)
    assert right >= 0.9 * sum(len(scene.instances) for scene in SCENES)


def test_segmentation():
    predictions = predictor('digit-scenes_fpn')([np.ascontiguousarray(scene.image[..., ::-1]) for scene in SCENES])
    right = [np.mean(p.masks == semantic_mask(scene)) for p, scene in zip(predictions, SCENES)]
    assert np.mean(right) > 0.96


def test_configs_start_from_them():
    config = load_config(REPO / 'configs/cyclemlp/digit-scenes_retinanet_nano.py')
    assert config.model.backbone.init_cfg.checkpoint == 'cyclemlp://digits'
