"""tools/infer.py on made images and videos, with small models of every task and random weights."""

import json
import re
import warnings
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample
from PIL import Image
from pycocotools import mask as coco_mask

from mmcyclemlp.config import load_config
from mmcyclemlp.errors import InputError
from mmcyclemlp.inference import failures, fonts, media
from mmcyclemlp.inference.prediction import Style
from mmcyclemlp.inference.predictor import Predictor

from .helpers import REPO

BACKBONE = """dict(_delete_=True, type='CycleMLP', out_indices=(0, 1, 2, 3),
    arch=dict(depths=(1, 1, 1, 1), embed_dims=(8, 8, 16, 16), mlp_ratios=(2, 2, 2, 2)))"""
RUN = """
custom_imports = dict(imports=['mmcyclemlp'], allow_failed_imports=False)
backbone = {backbone}
"""
DETECTION = (
    RUN
    + """
default_scope = 'mmdet'
test_dataloader = dict(dataset=dict(
    type='CocoDataset', test_mode=True, ann_file='few.json', data_prefix=dict(img=''),
    metainfo=dict(classes=('ant', 'bee', 'cat'), palette=[(255, 0, 0), (0, 255, 0), (0, 0, 255)]),
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(96, 64), keep_ratio=True),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]))
"""
)
CONFIGS = dict(
    retinanet="_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'"
    + DETECTION
    + """
model = dict(
    backbone=backbone,
    neck=dict(in_channels=[8, 8, 16, 16], out_channels=16),
    bbox_head=dict(num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1),
    test_cfg=dict(score_thr=0.0, max_per_img=7))
""",
    maskrcnn="_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'"
    + DETECTION
    + """
model = dict(
    backbone=backbone,
    neck=dict(in_channels=[8, 8, 16, 16], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(num_classes=3, in_channels=16, fc_out_channels=16),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(num_classes=3, num_convs=1, in_channels=16, conv_out_channels=16)),
    test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=5)))
""",
    segmentor="_base_ = 'mmseg::_base_/models/fpn_r50.py'"
    + RUN
    + """
default_scope = 'mmseg'
model = dict(
    pretrained=None,
    backbone=backbone,
    neck=dict(in_channels=[8, 8, 16, 16], out_channels=16),
    decode_head=dict(num_classes=3, in_channels=[16, 16, 16, 16], channels=8))
test_dataloader = dict(dataset=dict(
    type='BaseSegDataset', test_mode=True, data_prefix=dict(img_path='photos'), img_suffix='.png',
    metainfo=dict(classes=('sky', 'tree', 'house'), palette=[(0, 0, 200), (0, 200, 0), (200, 0, 0)]),
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(96, 64), keep_ratio=True),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs')]))
""",
    classifier=f"""
_base_ = '{REPO}/configs/cyclemlp/digits_b1.py'
model = dict(
    backbone=dict(arch=dict(_delete_=True, depths=(1, 1), embed_dims=(8, 16), mlp_ratios=(2, 2)), out_indices=(1, )),
    head=dict(in_channels=16))
""",
)
SIZES = ((60, 90), (60, 90), (90, 60), (60, 90))  # height, width


def pixels(rng, height, width):
    """An image uint8 [H, W, 3] with smooth structure."""
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.BICUBIC))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Configs and checkpoints by name, four images in photos/ with few.json, and six frames in walk.avi."""
    folder = tmp_path_factory.mktemp('infer')
    rng = np.random.default_rng(0)
    (folder / 'photos').mkdir()
    for i, size in enumerate(SIZES):
        Image.fromarray(pixels(rng, *size)).save(folder / f'photos/{i}.png')
    images = [dict(id=i + 1, file_name=f'photos/{i}.png', height=h, width=w) for i, (h, w) in enumerate(SIZES)]
    categories = [dict(id=i, name=name) for i, name in enumerate(('ant', 'bee', 'cat'))]
    (folder / 'few.json').write_text(json.dumps(dict(images=images, annotations=[], categories=categories)))
    writer = cv2.VideoWriter(str(folder / 'walk.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (90, 60))
    for _ in range(6):
        writer.write(pixels(rng, 60, 90))
    writer.release()
    for name, text in CONFIGS.items():
        (folder / f'{name}.py').write_text(text.replace('{backbone}', BACKBONE))
        config = load_config(folder / f'{name}.py')
        torch.manual_seed(0)
        save(folder / f'{name}.pth', build(config))
    return folder


def build(config):
    init_default_scope(config.default_scope)
    settings = config.model.copy()
    if 'data_preprocessor' in config:
        settings.setdefault('data_preprocessor', config.data_preprocessor)
    model = MODELS.build(settings)
    for parameter in model.parameters():
        if parameter.dim() > 1:  # far from a head's all-but-constant start
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model


def save(path, model):
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)


@pytest.fixture
def infer(folder, tool):
    return lambda name, *args: tool(folder, 'infer.py', f'{name}.py', f'{name}.pth', *args)


def of_dataset(folder, name, monkeypatch):
    """Samples of a model on photos/ through its config's dataset, as tools/test.py does it."""
    monkeypatch.chdir(folder)
    config = load_config(folder / f'{name}.py')
    init_default_scope(config.default_scope)
    section = config.test_dataloader.dataset
    section.pipeline = [step for step in section.pipeline if step.type != 'LoadAnnotations']
    dataset = DATASETS.build(section)
    model = build(config)
    model.load_state_dict(torch.load(folder / f'{name}.pth')['state_dict'])
    with torch.no_grad():
        for i in range(len(dataset)):
            item = dataset[i]
            yield model.eval().test_step(dict(inputs=[item['inputs']], data_samples=[item['data_samples']]))[0]


@pytest.mark.parametrize('name', ['retinanet', 'maskrcnn'])
@pytest.mark.slow
def test_detections_are_those_of_a_test(folder, name, infer, tmp_path, monkeypatch):
    code, output, _ = infer(name, 'photos', '--out', tmp_path, '--batch-size', 3)
    assert code == 0 and f'Wrote the predictions on 4 images to {tmp_path}' in output
    content = json.loads((tmp_path / 'predictions.json').read_text())
    assert content['classes'] == ['ant', 'bee', 'cat']
    for i, sample in enumerate(of_dataset(folder, name, monkeypatch)):
        record = content['predictions'][i]
        assert record == json.loads((tmp_path / f'preds/{i}.json').read_text())
        assert record['image'] == f'photos/{i}.png'
        expected = sample.pred_instances
        assert len(expected) > 2 and record['labels'] == expected.labels.tolist()
        np.testing.assert_allclose(record['bboxes'], expected.bboxes, atol=1e-2)
        np.testing.assert_allclose(record['scores'], expected.scores, atol=1e-4)
        if name == 'maskrcnn':
            masks = coco_mask.decode(record['masks']).transpose(2, 0, 1)
            assert masks.shape[1:] == SIZES[i]
            assert (masks != expected.masks.numpy()).mean() < 1e-3
        drawn, image = mmcv.imread(tmp_path / f'vis/{i}.png'), mmcv.imread(folder / f'photos/{i}.png')
        assert drawn.shape == image.shape


def test_only_detections_above_the_score_are_drawn(folder, infer, tmp_path):
    image = mmcv.imread(folder / 'photos/0.png')
    for score, same in ((0, False), (1, True)):
        assert infer('retinanet', 'photos/0.png', '--out', tmp_path, '--score', score)[0] == 0
        assert np.array_equal(mmcv.imread(tmp_path / 'vis/0.png'), image) == same
    assert len(json.loads((tmp_path / 'preds/0.json').read_text())['labels']) == 7


def test_the_visualizer_of_the_config_draws(folder, infer, tmp_path):
    drawn = {}
    for width in (1, 9):
        (folder / 'drawn.py').write_text(
            f"_base_ = 'retinanet.py'\nvisualizer = dict(type='DetLocalVisualizer', "
            f"vis_backends=[dict(type='LocalVisBackend')], line_width={width})\n"
        )
        (folder / 'drawn.pth').write_bytes((folder / 'retinanet.pth').read_bytes())
        assert infer('drawn', 'photos/0.png', '--out', tmp_path, '--score', 0)[0] == 0
        drawn[width] = mmcv.imread(tmp_path / 'vis/0.png')
    assert not np.array_equal(drawn[1], drawn[9])
    (folder / 'drawn.py').write_text("_base_ = 'retinanet.py'\nvisualizer = dict(type='DetLocalVisualiser')\n")
    code, _, error = infer('drawn', 'photos/0.png', '--out', tmp_path)
    assert code == 2 and 'visualizer.type=DetLocalVisualiser is not registered' in error


def test_the_best_detection_is_drawn_last():
    from mmcyclemlp.inference.detection import Detections

    box = [[8.0, 8.0, 40.0, 40.0]]
    instances = InstanceData(bboxes=torch.tensor(box * 2), labels=torch.tensor([0, 1]), scores=torch.tensor([0.9, 0.8]))
    style = Style(('ant', 'bee'), ((255, 0, 0), (0, 255, 0)))
    sample, image = DetDataSample(pred_instances=instances), np.zeros((48, 48, 3), np.uint8)
    found = Detections.of(sample, image, None, None, style)
    assert found.to_dict()['scores'] == pytest.approx([0.9, 0.8])
    red, green, _ = found.plot()[40, 24].astype(int)  # of the edge that both share
    assert red > 2 * green


def test_options_change_the_config(infer, tmp_path):
    args = 'photos/0.png', '--out', tmp_path, '--cfg-options'
    assert infer('retinanet', *args, 'model.test_cfg.max_per_img=2')[0] == 0
    assert len(json.loads((tmp_path / 'preds/0.json').read_text())['labels']) == 2
    code, _, error = infer('retinanet', *args, 'model.test_cfg.max_per_im=2')
    assert code == 2 and 'did you mean model.test_cfg.max_per_img?' in error


def test_masks_hold_indices_and_the_drawing_a_legend(folder, infer, tmp_path, monkeypatch):
    assert infer('segmentor', 'photos', '--out', tmp_path, '--batch-size', 2)[0] == 0
    for i, sample in enumerate(of_dataset(folder, 'segmentor', monkeypatch)):
        mask = np.asarray(Image.open(tmp_path / f'masks/{i}.png'))
        expected = sample.pred_sem_seg.data[0].numpy()
        assert mask.dtype == np.uint8 and (mask != expected).mean() < 1e-3
        record = json.loads((tmp_path / f'preds/{i}.json').read_text())
        assert record['mask'] == f'masks/{i}.png'
        names = ('sky', 'tree', 'house')
        shares = {name: (mask == k).mean() for k, name in enumerate(names) if (mask == k).any()}
        assert record['shares'] == pytest.approx(shares)
        assert list(record['shares'].values()) == sorted(shares.values(), reverse=True)
        image, drawn = (
            mmcv.imread(path, channel_order='rgb').astype(int)
            for path in (folder / f'photos/{i}.png', tmp_path / f'vis/{i}.png')
        )
        height, width = image.shape[:2]
        colours = np.array([(0, 0, 200), (0, 200, 0), (200, 0, 0)])
        assert abs(drawn[:height, :width] - (image + colours[mask]) / 2).max() <= 0.5
        legend = drawn[:, width:].reshape(-1, 3)
        for k in range(3):
            assert (legend == colours[k]).all(axis=1).any() == bool((mask == k).any())


def test_a_legend_that_is_too_long_says_so():
    from mmcyclemlp.inference.segmentation import _legend

    names, palette = [f'class {i}' for i in range(40)], np.array([(i, i, i) for i in range(40)])
    few, many = (
        _legend(names, palette, fonts.drawable(tuple(names)).font, list(range(count)), 100) for count in (3, 40)
    )
    assert few.shape == many.shape == (12 * 18, few.shape[1], 3)
    swatch = [tuple(many[18 * row + 9, 10]) for row in range(12)]
    assert swatch == [*((i, i, i) for i in range(11)), (255, 255, 255)]  # the last line is "29 more"


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


@pytest.mark.parametrize('name', ['retinanet', 'segmentor', 'classifier'])
def test_a_video_becomes_a_video(infer, name, tmp_path):
    code, output, error = infer(name, 'walk.avi', '--out', tmp_path, '--batch-size', 4)
    assert code == 0, error
    assert f'Wrote {tmp_path}/walk.mp4 and {tmp_path}/walk.jsonl\n' in output
    video = mmcv.VideoReader(str(tmp_path / 'walk.mp4'))
    assert len([frame for frame in video]) == 6 and video.fps == pytest.approx(10)
    if name == 'retinanet':
        assert video.resolution == (90, 60)
    lines = [json.loads(line) for line in (tmp_path / 'walk.jsonl').read_text().splitlines()]
    assert [line['frame'] for line in lines] == list(range(6))
    assert {'retinanet': 'bboxes', 'segmentor': 'shares', 'classifier': 'pred_class'}[name] in lines[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ['walk.jsonl', 'walk.mp4']


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


def test_what_the_model_cannot_take_is_named_and_the_rest_is_done(folder, infer, tmp_path):
    photos = folder / 'mixed'
    photos.mkdir(exist_ok=True)
    for name in 'az':
        (photos / f'{name}.png').write_bytes((folder / 'photos/0.png').read_bytes())
    Image.new('RGB', (1, 1)).save(photos / 'b.png')
    Image.new('RGB', (6000, 6000)).save(photos / 'm.png')
    keep = 'test_dataloader.dataset.pipeline.1.scale_factor=1.0', 'test_dataloader.dataset.pipeline.1.scale=None'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failures, '_free_memory', lambda: failures.SPARE + (64 << 20))
        code, output, error = infer(
            'segmentor', 'mixed', '--out', tmp_path, '--batch-size', 2, '--device', 'cpu', '--cfg-options', *keep
        )
    small, large = sorted(line for line in error.splitlines() if line.startswith('error: '))
    assert code == 2 and 'Wrote the predictions on 2 images' in output
    assert re.search('could not predict on mixed/b.png: CycleMLP takes images .* got', small)
    assert 'could not predict on mixed/m.png: it needs more memory than this machine has left' in large
    content = json.loads((tmp_path / 'predictions.json').read_text())
    assert [record['image'] for record in content['predictions']] == ['mixed/a.png', 'mixed/z.png']


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


@pytest.mark.parametrize('name', ['classifier', 'segmentor'])
def test_a_model_that_gives_nan_is_told(folder, infer, name, tmp_path):
    checkpoint = torch.load(folder / f'{name}.pth')
    key = next(key for key in checkpoint['state_dict'] if key.endswith(('fc.bias', 'conv_seg.bias')))
    checkpoint['state_dict'][key][0] = float('nan')
    (folder / 'broken.py').write_text(f"_base_ = '{name}.py'\n")
    torch.save(checkpoint, folder / 'broken.pth')
    code, _, error = infer('broken', 'photos/0.png', '--out', tmp_path)
    assert code == 2 and 'could not predict on photos/0.png: expected numbers from the model, but it gives NaN' in error
    assert json.loads((tmp_path / 'predictions.json').read_text())['predictions'] == []


def test_what_a_folder_leaves_out_is_told(folder, infer, tmp_path, monkeypatch):
    photos = folder / 'various'
    (photos / 'more').mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (40, 40)).save(photos / 'a.PNG')
    for name in ('b.jfif', 'c.gif'):
        Image.new('RGB', (40, 40)).save(photos / name)
    (photos / 'walk.avi').write_bytes((folder / 'walk.avi').read_bytes())
    (photos / '._a.png').write_bytes(b'\0\5\26\7')  # as macOS puts beside each file on other disks
    told = []
    monkeypatch.setattr(media, 'print_log', lambda message, *args: told.append(message))
    code, output, _ = infer('classifier', 'various', 'various/b.jfif', '--out', tmp_path)
    assert code == 0 and 'Wrote the predictions on 2 images' in output
    assert len(told) == 1 and 'Passed over in various: b.jfif, c.gif, more/, walk.avi. A folder stands for' in told[0]
    (photos / 'a.PNG').unlink()
    code, _, error = infer('classifier', 'various', '--out', tmp_path)
    assert code == 2 and 'only b.jfif, c.gif, more/, walk.avi; give their folder itself, or name the files' in error


def test_a_video_that_ends_early_says_so(folder, infer, tmp_path):
    whole = (folder / 'walk.avi').read_bytes()
    (folder / 'cut.avi').write_bytes(whole[: whole.rfind(b'00dc', 0, whole.rfind(b'idx1')) - 2000])
    code, output, error = infer('classifier', 'cut.avi', '--out', tmp_path)
    count = len((tmp_path / 'cut.jsonl').read_text().splitlines())
    assert code == 2 and 0 < count < 5
    assert re.search(rf'error: expected 6 frames, but cut.avi ends after {count}, which were used', error)
    assert len([frame for frame in mmcv.VideoReader(str(tmp_path / 'cut.mp4'))]) == count


def test_names_in_any_script_are_drawn(folder, infer, tmp_path, monkeypatch):
    from mmcyclemlp.inference.segmentation import _legend

    names = 'érable', 'Straße', '地面', 'дом'
    own = next(fonts._fonts())
    monkeypatch.setattr(fonts, '_fonts', lambda: iter([own]))  # whatever this machine has
    fonts.drawable.cache_clear()
    assert fonts.drawable(names) == (['érable', 'Straße', '2', 'дом'], own)
    legends = [_legend([name], np.zeros((1, 3), np.uint8), own, [0], 20) for name in ('é', 'e', '?')]
    assert not any(np.array_equal(legends[0], other) for other in legends[1:])
    for name, kind in (('segmentor', 'seg'), ('retinanet', 'det'), ('classifier', 'cls')):
        (folder / f'{kind}.py').write_text(f"_base_ = '{name}.py'\n")
        checkpoint = torch.load(folder / f'{name}.pth')
        count = 10 if kind == 'cls' else 3
        checkpoint['meta']['dataset_meta'] = dict(classes=('地面', 'érable', 'Straße', *'3456789')[:count])
        torch.save(checkpoint, folder / f'{kind}.pth')
        with warnings.catch_warnings():
            warnings.filterwarnings('error', 'Glyph')  # of matplotlib, which draws a box then
            assert infer(kind, 'photos/0.png', '--out', tmp_path / kind, '--score', 0)[0] == 0
        content = json.loads((tmp_path / kind / 'predictions.json').read_text())
        assert content['drawn_as'] == {'地面': '0'} and content['classes'][0] == '地面'
    fonts.drawable.cache_clear()


def test_masks_hold_more_than_256_classes(tmp_path):
    from mmcyclemlp.inference.segmentation import Segmentation

    indices = torch.tensor([[[0, 255], [256, 299]]])
    sample = SegDataSample(pred_sem_seg=PixelData(data=indices))
    style = Style(tuple(f'class {i}' for i in range(300)), tuple((i % 256, i // 256, 0) for i in range(300)))
    found = Segmentation.of(sample, np.zeros((2, 2, 3), np.uint8), None, None, style)
    media.write_image(tmp_path / 'mask.png', found.masks)
    assert np.array_equal(Image.open(tmp_path / 'mask.png'), indices[0])
    assert found.to_dict()['shares'] == {f'class {i}': 0.25 for i in (0, 255, 256, 299)}
    assert found.plot()[1, 1].tolist() == [22, 0, 0]  # half of class 299's colour


def test_without_a_codec_for_mp4_it_becomes_avi(infer, tmp_path, monkeypatch):
    monkeypatch.setattr(media, 'CODECS', (('.mp4', 'none'), ('.avi', 'MJPG')))
    code, output, _ = infer('classifier', 'walk.avi', '--out', tmp_path)
    assert code == 0 and f'Wrote {tmp_path}/walk.avi and {tmp_path}/walk.jsonl (this OpenCV cannot write MP4)' in output
    assert len([frame for frame in mmcv.VideoReader(str(tmp_path / 'walk.avi'))]) == 6
    monkeypatch.setattr(media, 'CODECS', (('.mp4', 'none'),))
    code, _, error = infer('classifier', 'walk.avi', '--out', tmp_path)
    assert code == 2 and 'this OpenCV has no codec for .mp4' in error


def test_what_cannot_be_read_is_named_and_the_rest_is_done(folder, infer, tmp_path):
    whole = (folder / 'photos/0.png').read_bytes()
    (folder / 'half.png').write_bytes(whole[: len(whole) // 2])
    (folder / 'text.jpg').write_text('no image')
    (folder / 'none.mp4').write_text('no video')
    code, output, error = infer(
        'classifier', 'half.png', 'photos/0.png', 'text.jpg', 'none.mp4', 'walk.avi', '--out', tmp_path
    )
    assert code == 2
    lines = [line for line in error.splitlines() if line.startswith('error: ')]
    assert [re.search(r'but (\S+)', line)[1] for line in lines] == ['half.png', 'text.jpg', 'none.mp4']
    assert 'Wrote the predictions on 1 images' in output and (tmp_path / 'walk.mp4').is_file()
    assert [path.name for path in (tmp_path / 'preds').iterdir()] == ['0.json']


def test_images_of_one_name_are_kept_apart(folder, infer, tmp_path):
    (folder / 'other').mkdir(exist_ok=True)
    Image.new('RGB', (40, 40)).save(folder / 'other/0.jpg')
    assert infer('classifier', 'photos', 'other/0.jpg', '--out', tmp_path)[0] == 0
    assert sorted(path.stem for path in (tmp_path / 'vis').iterdir()) == ['0', '0-2', '1', '2', '3']
    assert json.loads((tmp_path / 'preds/0-2.json').read_text())['image'] == 'other/0.jpg'


def test_results_go_to_the_work_dirs(folder, infer):
    before = {path: path.read_bytes() for path in (folder / 'photos').iterdir()}
    assert infer('classifier', 'photos')[0] == 0
    assert (folder / 'work_dirs/classifier/infer/predictions.json').is_file()
    assert {path: path.read_bytes() for path in (folder / 'photos').iterdir()} == before


@pytest.mark.parametrize(
    'args, sentence',
    [
        (['photos', '--out', 'photos'], 'another folder than that of the inputs, but both are photos'),
        (['photos', '--out', 'few.json'], r'few.json cannot be used \(File exists\)'),
        (['none.png'], 'none.png does not exist'),
        (['empty'], 'expected images in empty, but it holds no file'),
        (['photos', '--batch-size', 0], '--batch-size expects a number from 1 up, got 0'),
        (['photos', '--device', 'gpu'], "expected a device of this machine, such as .*, but got 'gpu'"),
    ],
)
def test_user_errors_print_one_line_and_exit_with_status_2(folder, infer, args, sentence):
    (folder / 'empty').mkdir(exist_ok=True)
    code, _, error = infer('classifier', *args)
    assert code == 2 and re.fullmatch(rf'error: .*{sentence}.*\n', error), error


def test_a_checkpoint_of_another_model_is_refused(folder, infer):
    (folder / 'wrong.py').write_text((folder / 'retinanet.py').read_text())
    (folder / 'wrong.pth').write_bytes((folder / 'maskrcnn.pth').read_bytes())
    code, _, error = infer('wrong', 'photos')
    assert code == 2 and re.fullmatch('error: wrong.pth does not fit the model of the config.*\n', error)


def test_a_config_without_a_test_is_refused(folder, infer):
    (folder / 'untested.py').write_text((folder / 'classifier.py').read_text() + 'test_dataloader = None\n')
    (folder / 'untested.pth').write_bytes((folder / 'classifier.pth').read_bytes())
    code, _, error = infer('untested', 'photos')
    assert code == 2 and "default_scope='mmpretrain' and no test_dataloader" in error
