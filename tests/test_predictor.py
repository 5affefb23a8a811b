"""The Predictor on paths, arrays, images, folders and videos."""

import json
import subprocess
import sys
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.dataset import Compose, pseudo_collate
from mmpretrain.models import ImageClassifier
from PIL import Image

from mmcyclemlp.config import load_config
from mmcyclemlp.errors import InputError
from mmcyclemlp.export.graph import prepared
from mmcyclemlp.inference.predictor import Predictor

from . import small_models
from .small_models import build, of_dataset, save

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


@pytest.mark.parametrize('channels', [1, 3])
def test_grey_images_where_the_training_has_grey_images(folder, channels):
    config = load_config(folder / 'segmentor.py')
    steps = config.test_dataloader.dataset.pipeline
    steps[0].update(color_type='grayscale', to_float32=True)
    if channels == 1:
        config.model.backbone.in_channels = 1
        config.model.data_preprocessor.update(mean=[110.0], std=[57.0], bgr_to_rgb=False)
    torch.manual_seed(0)
    model = build(config)
    save(folder / 'grey.pth', model)
    predictor = Predictor(config, folder / 'grey.pth', device='cpu')
    load = Compose([step for step in steps if step.type != 'LoadAnnotations'])
    read = [load(dict(img_path=str(folder / f'photos/{i}.png')))['inputs'] for i in range(4)]
    ours = [predictor._prepare(mmcv.imread(folder / f'photos/{i}.png'))['inputs'] for i in range(4)]
    assert {(*each.shape[:1], each.dtype) for each in read + ours} == {(1, torch.float32)}
    assert all(torch.allclose(*pair, atol=1) for pair in zip(read, ours))  # OpenCV's readers round differently
    Image.open(folder / 'photos/0.png').convert('L').save(folder / 'grey.png')
    (found,) = predictor(folder / 'grey.png')
    with torch.inference_mode():
        (expected,) = predictor.model.test_step(pseudo_collate([load(dict(img_path=str(folder / 'grey.png')))]))
    assert torch.equal(found.pred_sem_seg.data, expected.pred_sem_seg.data)
    assert prepared(predictor)['channels'] == 'grey'  # of an exported file


@pytest.mark.parametrize(
    'steps, sentence',
    [
        ("[dict(type='TestTimeAug', transforms=[])]", 'but got RetinaNet; wrap it as docs/segmentation.md shows, or'),
        ("[dict(type='LoadImageFromFile', color_type='unchanged')]", 'color or grayscale of LoadImageFromFile .* unch'),
        ("[dict(type='LoadMultiChannelImageFromFiles')]", 'LoadImageFromFile, but got LoadMultiChannelImageFromFiles'),
    ],
)
def test_pipelines_that_read_otherwise_are_refused(folder, steps, sentence):
    config = load_config(folder / 'retinanet.py')
    config.test_dataloader.dataset.pipeline = eval(steps)
    with pytest.raises(InputError, match=sentence):
        Predictor(config, folder / 'retinanet.pth')


@pytest.mark.parametrize('batch_size', [1, 2])
def test_test_time_augmentation(folder, batch_size):
    config = load_config(folder / 'segmentor.py')
    read, resize, annotate, pack = config.test_dataloader.dataset.pipeline
    flips = [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)]
    views = dict(type='TestTimeAug', transforms=[[resize], flips, [annotate], [pack]])
    plain = Predictor(config, folder / 'segmentor.pth', 'cpu')
    averaged = config.copy()
    averaged.test_dataloader = dict(dataset={**config.test_dataloader.dataset, 'pipeline': [read, views]})
    averaged.model = dict(type='SegTTAModel', module=config.model)
    averaged = Predictor(averaged, folder / 'segmentor.pth', 'cpu', batch_size)
    images = [folder / f'photos/{i}.png' for i in (0, 1, 2)]
    for path, one, both in zip(images, plain(images), averaged(images)):
        mirrored = plain._prepare(np.ascontiguousarray(mmcv.imread(path)[:, ::-1]))
        (other,) = plain.model.test_step(pseudo_collate([mirrored]))
        mean = one.seg_logits.data.softmax(0) + other.seg_logits.data.flip(2).softmax(0)
        assert torch.equal(both.pred_sem_seg.data[0], mean.argmax(0)), path


def test_what_a_pipeline_lacks_is_told(folder, monkeypatch):
    predictor = Predictor(load_config(folder / 'retinanet.py'), folder / 'retinanet.pth')
    predictor.pipeline.transforms[-1].meta_keys = ('img_id', 'scale_factor')
    with pytest.raises(InputError, match=r"png \(KeyError: 'img_shape'\); let the test pipeline give .* meta_keys"):
        predictor(folder / 'photos/0.png')
    monkeypatch.setattr(predictor.model, 'predict', lambda *args: {}['own'])
    with pytest.raises(KeyError, match='own'):
        predictor(folder / 'photos/0.png')


def test_a_config_object_reads_images_as_its_path_does(folder, tmp_path):
    pixels = (np.arange(40 * 30 * 3) % 251).astype(np.uint8).reshape(40, 30, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned, which OpenCV does not do for this format
    Image.fromarray(pixels).save(tmp_path / 'turned.webp', exif=exif, lossless=True)
    code = """
import sys
from mmengine import Config
from mmcyclemlp import Predictor
config, weights, image = sys.argv[1:]
found, = Predictor(Config.fromfile(config), weights, device='cpu')(image)
print(found.image.shape, found.image[0, -1])
"""
    args = folder / 'classifier.py', folder / 'classifier.pth', tmp_path / 'turned.webp'
    done = subprocess.run([sys.executable, '-c', code, *args], cwd=folder, capture_output=True, text=True)
    upright = np.rot90(pixels, -1)
    assert np.array_equal(Predictor(*args[:2], device='cpu')(args[2])[0].image, upright)
    assert done.stdout.splitlines()[-1:] == [f'{upright.shape} {upright[0, -1]}'], done.stderr


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
        ('n' * 300, 'nnn does not exist; check the path'),
        (np.zeros((3, 8, 8), np.uint8), r'or \[H, W\] in grey, got uint8 \[3, 8, 8\]'),
        (np.zeros((8, 8, 3), np.float32), r'got float32 \[8, 8, 3\]'),
        ([None], 'got a NoneType'),
        (None, 'got a NoneType'),  # as cv2.imread gives for no file
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

    def mark(image, source):
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


def test_names_that_are_too_long_do_not_exist(folder):
    with pytest.raises(InputError, match='expected an exported model, but .*nnn.onnx does not exist; check the path'):
        Predictor(folder / 'classifier.py', 'n' * 300 + '.onnx')


def test_a_segmentor_whose_classes_have_no_names_is_told(folder):
    config = load_config(folder / 'segmentor.py')
    config.test_dataloader.dataset.pop('metainfo')
    with pytest.raises(InputError, match='expected names of the classes .*; give test_dataloader.dataset.metainfo'):
        Predictor(config, folder / 'segmentor.pth')
    checkpoint = torch.load(folder / 'segmentor.pth')
    checkpoint['meta']['dataset_meta'] = dict(classes=('sky', 'tree', 'house'))
    torch.save(checkpoint, folder / 'named_segmentor.pth')
    (found,) = Predictor(config, folder / 'named_segmentor.pth')(folder / 'photos/0.png')
    assert set(found.to_dict()['shares']) <= {'sky', 'tree', 'house'} and found.plot().shape[0] >= 60


MULTI = """
_base_ = 'classifier.py'
model = dict(head=dict(_delete_=True, type='mmpretrain.{head}', num_classes=10, in_channels=16))
"""


def test_all_labels_of_a_multi_label_classifier_are_reported(folder, infer, tmp_path):
    (folder / 'multi.py').write_text(MULTI.format(head='MultiLabelLinearClsHead'))
    model = build(load_config(folder / 'multi.py'))
    torch.nn.init.zeros_(model.head.fc.weight)
    for wanted in ([2, 5, 6], [4], []):
        with torch.no_grad():
            model.head.fc.bias.fill_(-1.0)
            model.head.fc.bias[wanted] = torch.linspace(0.1, 0.3, 3)[: len(wanted)]
        save(folder / 'multi.pth', model)
        (found,) = Predictor(load_config(folder / 'multi.py'), folder / 'multi.pth')(folder / 'photos/0.png')
        record = found.to_dict()
        assert record['pred_label'] == wanted and record['pred_class'] == [str(label) for label in wanted]
        assert record['pred_score'] == [record['pred_scores'][label] for label in wanted]
        np.testing.assert_allclose(record['pred_scores'], model.head.fc.bias.sigmoid().detach(), atol=1e-6)
        assert found.plot().shape[2] == 3
    code, _, error = infer('multi', 'photos/0.png', '--out', tmp_path)
    assert code == 0 and json.loads((tmp_path / 'preds/0.json').read_text())['pred_label'] == [], error


def test_models_that_give_no_class_are_refused(folder, monkeypatch):
    config = load_config(folder / 'classifier.py')
    monkeypatch.setattr('mmcyclemlp.inference.classification.BaseRetriever', ImageClassifier)
    with pytest.raises(InputError, match='a model that gives classes, but the config has ImageClassifier'):
        Predictor(config, folder / 'classifier.pth')
    config.test_dataloader.dataset = dict(type='Own')
    with pytest.raises(InputError, match=r'expected a pipeline in test_dataloader.dataset, .* but found none; add it'):
        Predictor(config, folder / 'classifier.pth')


def test_several_tasks_are_no_classification(folder, tmp_path):
    (tmp_path / 'tasks.json').write_text(json.dumps(dict(metainfo=dict(tasks=['colour']), data_list=[])))
    config = load_config(folder / 'classifier.py')
    head = dict(type='LinearClsHead', num_classes=2)
    config.model.head = dict(type='MultiTaskHead', task_heads=dict(colour=head), in_channels=16)
    config.test_dataloader.dataset = dict(  # which takes no lazy_init
        type='MultiTaskDataset', ann_file='tasks.json', data_root=str(tmp_path), pipeline=[dict(type='PackInputs')]
    )
    save(folder / 'tasks.pth', build(config))
    with pytest.raises(
        InputError, match='a model that gives classes, but the config has MultiTaskHead; call its model'
    ):
        Predictor(config, folder / 'tasks.pth')


def test_a_regression_is_no_classification(folder):
    (folder / 'regression.py').write_text(MULTI.format(head='LinearRegressionHead'))
    save(folder / 'regression.pth', build(load_config(folder / 'regression.py')))
    with pytest.raises(
        InputError, match='expected a model that gives classes, but the config has LinearRegressionHead'
    ):
        Predictor(load_config(folder / 'regression.py'), folder / 'regression.pth')
