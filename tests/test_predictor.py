"""The Predictor on paths, arrays, images, folders and videos."""

import json
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from PIL import Image

from mmcyclemlp.config import load_config
from mmcyclemlp.errors import InputError
from mmcyclemlp.inference.predictor import Predictor

from . import small_models
from .small_models import of_dataset

folder, infer = small_models.folder, small_models.infer  # fixtures


def test_classes_are_those_of_the_digits(folder, infer, tmp_path, monkeypatch):
    from mmcyclemlp.datasets.digits import Digits

    item = Digits(split='test')[0]
    Image.fromarray(item['img']).save(folder / 'digit.png')
    code, _, error = infer('classifier', 'digit.png', 'photos', '--out', tmp_path)
    assert code == 0, error
    record = json.loads((tmp_path / 'preds/digit.json').read_text())
    expected = next(of_dataset(folder, 'classifier', monkeypatch))
    np.testing.assert_allclose(record['pred_scores'], expected.pred_score, atol=1e-5)
    assert record['pred_label'] == int(expected.pred_score.argmax()) and record['pred_class'] in '0123456789'
    assert record['pred_score'] == max(record['pred_scores'])
    assert min(mmcv.imread(tmp_path / 'vis/digit.png').shape[:2]) >= 256  # room for the caption


@pytest.mark.parametrize('loader, order', [('LoadImageFromFile', 'bgr'), ('LoadReadableImage', 'bgr'), (None, 'rgb')])
def test_channels_come_in_the_order_of_the_training(folder, loader, order):
    config = load_config(folder / 'classifier.py')
    config.test_dataloader.dataset.pipeline = [dict(type=loader)] * bool(loader) + [dict(type='PackInputs')]
    image = mmcv.imread(folder / 'photos/0.png')
    item = Predictor(config, folder / 'classifier.pth')._prepare(image)
    expected = mmcv.imread(folder / 'photos/0.png', channel_order=order)
    assert np.array_equal(item['inputs'].numpy().transpose(1, 2, 0), expected)


def test_the_checkpoint_knows_the_classes_best(folder):
    checkpoint = torch.load(folder / 'retinanet.pth')
    checkpoint['meta']['dataset_meta'] = dict(CLASSES=('dog', 'elk', 'fox'))
    torch.save(checkpoint, folder / 'named.pth')
    predictor = Predictor(load_config(folder / 'retinanet.py'), folder / 'named.pth')
    assert predictor.classes == ('dog', 'elk', 'fox')


def test_only_images_of_one_size_are_put_together(folder):
    predictor = Predictor(load_config(folder / 'retinanet.py'), folder / 'retinanet.pth', batch_size=2)
    batches = []
    test_step = predictor.model.test_step
    predictor.model.test_step = lambda data: batches.append(len(data['inputs'])) or test_step(data)
    found = predictor([folder / f'photos/{i}.png' for i in (0, 1, 3, 2, 0)])
    assert [Path(each.source).stem for each in found] == list('01320')
    assert batches == [2, 1, 1, 1]


def test_a_predictor_takes_paths_arrays_images_folders_and_videos(folder, monkeypatch):
    monkeypatch.chdir(folder)
    predictor = Predictor('retinanet.py', 'retinanet.pth', device='cpu', batch_size=2)
    path = 'photos/0.png'
    (found,) = predictor(path)
    assert isinstance(found, DetDataSample) and found.source == path and found.frame is None
    assert found.classes == ('ant', 'bee', 'cat') and len(found.pred_instances) == 7
    assert np.array_equal(found.image, mmcv.imread(path, channel_order='rgb'))
    assert found.plot(0).shape == (60, 90, 3) and not np.array_equal(found.plot(0), found.image)
    assert np.array_equal(found.plot(1), found.image) and np.array_equal(found.cpu().plot(0), found.plot(0))
    # The same image in every form, and images of another size beside it in one call.
    same = [Path(path), mmcv.imread(path), Image.open(path)]
    again = predictor([*same, 'photos/2.png'])
    for each in again[:3]:  # in batches of two, which round otherwise
        assert each.to_dict()['labels'] == found.to_dict()['labels']
        np.testing.assert_allclose(each.to_dict()['bboxes'], found.to_dict()['bboxes'], atol=1e-2)
    assert [each.source for each in again] == [path, None, None, 'photos/2.png']
    assert [each.image.shape[:2] for each in again] == [(60, 90)] * 3 + [(90, 60)]
    grey = np.full((60, 90), 90, np.uint8)
    assert np.array_equal(predictor(grey)[0].image, np.full((60, 90, 3), 90, np.uint8))
    deep = Image.fromarray(np.full((60, 90), 90 * 256 + 7, np.uint16))  # as files of 16 bits, by the upper byte
    assert np.array_equal(predictor(deep)[0].image, np.full((60, 90, 3), 90, np.uint8))
    assert [each.source for each in predictor('photos')] == [f'photos/{i}.png' for i in range(4)]
    frames = predictor.stream('walk.avi')
    assert [(each.source, each.frame) for each in frames] == [('walk.avi', i) for i in range(6)]


@pytest.mark.parametrize(
    'inputs, sentence',
    [
        ('none.png', 'none.png does not exist'),
        (np.zeros((3, 8, 8), np.uint8), r'or \[H, W\] in grey, got uint8 \[3, 8, 8\]'),
        (np.zeros((8, 8, 3), np.float32), r'got float32 \[8, 8, 3\]'),
        ([None], 'got a NoneType'),
    ],
)
def test_a_predictor_names_what_it_cannot_take(folder, monkeypatch, inputs, sentence):
    monkeypatch.chdir(folder)
    predictor = Predictor('classifier.py', 'classifier.pth')
    with pytest.raises(InputError, match=sentence):
        predictor(inputs)


def test_one_failure_does_not_fail_its_batch(folder):
    predictor = Predictor(load_config(folder / 'segmentor.py'), folder / 'segmentor.pth', batch_size=3)
    test_step = predictor.model.test_step

    def fails(data):
        if any(sample.get('fails') for sample in data['data_samples']):
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")
        return test_step(data)

    predictor.model.test_step = fails
    prepare = predictor._prepare

    def mark(image):
        item = prepare(image)
        item['data_samples'].set_metainfo(dict(fails=bool((image == 7).all())))
        return item

    predictor._prepare = mark
    images = [np.full((64, 96, 3), value, np.uint8) for value in (5, 7, 9)]
    errors = []
    assert [each.image[0, 0, 0] for each in predictor.stream(images, errors.append)] == [5, 9]
    assert [str(error).split(';')[0] for error in errors] == [
        'could not predict on an array: it needs more memory than this machine has left'
    ]
