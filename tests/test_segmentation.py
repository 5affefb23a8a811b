"""The segmentation configs train and test, at any size and scale, and so do mmseg's own with CycleMLP inside."""
import csv
import re
import runpy
import sys
from copy import deepcopy

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import DATASETS
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer
from PIL import Image

from mmcyclemlp.checkpoints import check_fits
from mmcyclemlp.engine import load_config
from mmcyclemlp.engine.processes import _wrap_without_devices
from mmcyclemlp.engine.scales import add_flip, scale_input
from mmcyclemlp.engine.segmentation import check_masks
from mmcyclemlp.errors import InputError

from .conftest import NEEDS_OPERATORS, REPO

CONFIGS = REPO / 'configs'
PAGE = REPO / 'docs/segmentation.md'
DIMS = (8, 16, 24, 32)
TINY = dict(depths=(1, 1, 1, 1), embed_dims=DIMS, mlp_ratios=(2, 2, 2, 2))
KINDS = ['cyclemlp/ade20k_fpn_b1', 'cyclemlp/ade20k_upernet_b2', 'cyclemlp/cityscapes_fpn_b2', 'cyclemlp/camvid_fpn_b1',
         'cyclemlp/digit-scenes_fpn_b1', 'baselines/camvid_fpn_r18']


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def tiny(name):
    """A config with a small backbone, and small heads."""
    config = load_config(CONFIGS / f'{name}.py')
    model = config.model
    if model.backbone.type == 'CycleMLP':
        model.backbone.update(arch=TINY, init_cfg=None)
        dims = DIMS[:len(model.backbone.out_indices)]
    else:
        model.backbone.base_channels = 8
        dims = (8, 16, 32, 64)
    if 'neck' in model:
        model.neck.update(in_channels=list(dims), out_channels=32)
        dims = (32, ) * len(dims)
    model.decode_head.update(in_channels=list(dims), channels=16)
    if 'auxiliary_head' in model:
        model.auxiliary_head.update(in_channels=dims[2], channels=8)
    return config


def model_of(config):
    """The model of a config as one process has it."""
    return revert_sync_batchnorm(MODELS.build(config.model))


def batch_of(shapes, num_classes, ignored=255):
    """Images with masks as a data loader gives them."""
    random = torch.Generator().manual_seed(0)
    samples = []
    for shape in shapes:
        labels = torch.randint(num_classes, (1, *shape), generator=random)
        labels[0, 0, 0] = ignored
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=labels),
                                     metainfo=dict(img_shape=shape, ori_shape=shape)))
    return dict(inputs=[torch.randint(256, (3, *shape), generator=random, dtype=torch.uint8) for shape in shapes],
                data_samples=samples)


# The configs.


@pytest.mark.parametrize('name', KINDS)
def test_one_step_trains_and_the_result_infers(name):
    config = tiny(name)
    config.model.data_preprocessor.size = (64, 64)
    model = model_of(config)
    model.init_weights()
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    head = config.model.decode_head
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    losses = model.train().train_step(
        batch_of([(64, 64), (50, 61)], head.num_classes, head.get('ignore_index', 255)), wrapper)
    assert losses['loss'].isfinite() and losses['decode.acc_seg'] >= 0
    assert all(not torch.equal(before[name], parameter) for name, parameter in model.named_parameters()
               if 'backbone.stages' in name and 'weight' in name)
    with torch.no_grad():
        sample, = model.eval().test_step(batch_of([(45, 70)], head.num_classes))
    assert sample.pred_sem_seg.data.shape == (1, 45, 70)
    assert sample.seg_logits.data.shape == (head.num_classes, 45, 70)


@pytest.mark.parametrize('name', ['cyclemlp/ade20k_fpn_b1', 'cyclemlp/ade20k_upernet_b2', 'cyclemlp/camvid_fpn_b1'])
def test_norms_and_biases_do_not_decay(name):
    config = tiny(name)
    model = model_of(config)
    groups = build_optim_wrapper(model, config.optim_wrapper).optimizer.param_groups
    decay = {id(parameter): group['weight_decay'] for group in groups for parameter in group['params']}
    assert len(decay) == len(list(model.parameters()))
    expected = config.optim_wrapper.optimizer.weight_decay
    for name, parameter in model.named_parameters():
        assert decay[id(parameter)] == (0 if parameter.dim() == 1 else expected), name


def test_the_recipes():
    fpn, upernet, cityscapes = (load_config(CONFIGS / f'{name}.py') for name in KINDS[:3])
    assert fpn.optim_wrapper.optimizer == dict(type='AdamW', lr=2e-4, weight_decay=1e-4)
    assert fpn.param_scheduler == [dict(type='PolyLR', power=0.9, by_epoch=False)]
    assert (fpn.train_cfg.max_iters, fpn.train_dataloader.batch_size, fpn.auto_scale_lr) == (
        40000, 4, dict(enable=True, base_batch_size=32))
    assert upernet.optim_wrapper.optimizer == dict(type='AdamW', lr=6e-5, weight_decay=0.01)
    assert upernet.param_scheduler == [dict(type='LinearLR', start_factor=1e-6, by_epoch=False, end=1500),
                                       dict(type='PolyLR', power=1.0, by_epoch=False)]
    assert (upernet.train_cfg.max_iters, upernet.train_dataloader.batch_size, upernet.auto_scale_lr) == (
        160000, 2, dict(enable=True, base_batch_size=16))
    assert cityscapes.train_cfg.max_iters == 80000 and cityscapes.model.decode_head.num_classes == 19
    for config, size in ((fpn, (512, 512)), (upernet, (512, 512)), (cityscapes, (512, 1024))):
        pipeline = {step.type: step for step in config.train_dataloader.dataset.pipeline}
        assert config.model.data_preprocessor.size == pipeline['RandomCrop'].crop_size == size
        assert config.model.pretrained is None


@pytest.mark.parametrize('family, archs', [('ade20k_fpn', '12345'), ('ade20k_upernet', '235')])
def test_a_family_differs_by_arch_and_channels_alone(family, archs):
    first, *others = (load_config(CONFIGS / f'cyclemlp/{family}_b{arch}.py') for arch in archs)
    for arch, config in zip(archs[1:], others):
        dims = [96, 192, 384, 768] if arch == '5' else [64, 128, 320, 512]
        backbone = config.model.backbone
        assert backbone.arch == f'b{arch}' and backbone.init_cfg == dict(
            type='Pretrained', checkpoint=f'checkpoints/cyclemlp_b{arch}.pth', prefix='backbone.')
        heads = [config.model.neck] if 'neck' in config.model else [config.model.decode_head]
        if 'auxiliary_head' in config.model:
            assert config.model.auxiliary_head.in_channels == dims[2]
            config.model.auxiliary_head.in_channels = first.model.auxiliary_head.in_channels
        for head in heads:
            assert head.in_channels == dims
            head.in_channels = [64, 128, 320, 512]
        backbone.arch, backbone.init_cfg = first.model.backbone.arch, first.model.backbone.init_cfg
        assert config.to_dict()['model'] == first.to_dict()['model']
        assert {**config.to_dict(), 'model': None} == {**first.to_dict(), 'model': None}


@pytest.mark.parametrize('name', KINDS)
def test_sync_batch_norm_is_for_several_gpus(name):
    config = tiny(name)
    assert config.model.decode_head.norm_cfg.type == 'SyncBN'
    _wrap_without_devices(config)  # what several processes without GPUs do
    model = MODELS.build(config.model)
    assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in model.modules())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())


# Sizes and scales.


@pytest.fixture(params=['cyclemlp/ade20k_fpn_b1', 'cyclemlp/ade20k_upernet_b2'], ids=['fpn', 'upernet'], scope='module')
def network(request):
    """A network with weights that let all of the image matter, in evaluation mode."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        config = tiny(request.param)
        config.model.decode_head.num_classes = 5
        torch.manual_seed(0)
        model = model_of(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel()**-0.5)
    return model


@torch.no_grad()
def logits(model, batch):
    return model.test_step(deepcopy(batch))[0].seg_logits.data


@pytest.mark.parametrize('shape', [(64, 64), (33, 47), (101, 30), (3, 3), (3, 90), (90, 3), (5, 31)])
def test_whole_images_of_any_size(network, shape):
    network.test_cfg = Config(dict(mode='whole'))
    out = logits(network, batch_of([shape], 5))
    assert out.shape == (5, *shape) and out.isfinite().all()


@pytest.mark.parametrize('shape', [(64, 64), (33, 47), (101, 30), (3, 90), (40, 41)])
@pytest.mark.parametrize('crop, stride', [((32, 32), (21, 21)), ((33, 47), (32, 46)), ((40, 24), (40, 24))])
def test_sliding_windows_at_any_size(network, shape, crop, stride):
    batch = batch_of([shape], 5)
    network.test_cfg = Config(dict(mode='slide', crop_size=crop, stride=stride))
    out = logits(network, batch)
    assert out.shape == (5, *shape) and out.isfinite().all()
    # One window around all of the image is the image.
    network.test_cfg = Config(dict(mode='slide', crop_size=(128, 128), stride=(85, 85)))
    one = logits(network, batch)
    network.test_cfg = Config(dict(mode='whole'))
    torch.testing.assert_close(one, logits(network, batch))
    if any(side > window for side, window in zip(shape, crop)):
        assert not torch.allclose(one, out)


@pytest.mark.parametrize('shape', [(1, 40), (40, 1), (2, 2), (1, 1)])
def test_what_is_smaller_than_three_pixels_is_padded_where_the_config_says_so(network, shape):
    batch = batch_of([shape], 5)
    network.test_cfg = Config(dict(mode='whole'))
    with pytest.raises(ValueError, match='H and W at least 3'):
        logits(network, batch)
    network.data_preprocessor.test_cfg = dict(size_divisor=32)
    try:
        out = logits(network, batch)
        assert out.shape == (5, *shape) and out.isfinite().all()
        # The padding is cut off again.
        larger = batch_of([(32, 64) if shape[1] > 32 else (64, 32) if shape[0] > 32 else (32, 32)], 5)
        assert logits(network, larger).shape[1:] == larger['inputs'][0].shape[1:]
    finally:
        network.data_preprocessor.test_cfg = None


def scaled(image, labels, factor, flip):
    """An image [3, H, W] with its mask as TestTimeAug gives them."""
    size = [max(3, round(side * factor)) for side in image.shape[1:]]
    view = torch.nn.functional.interpolate(image[None].float(), size, mode='bilinear', align_corners=False)[0]
    view = (view.flip(2) if flip else view).round().to(torch.uint8)
    sample = SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=dict(
        img_path='image', img_shape=tuple(size), ori_shape=tuple(image.shape[1:]), flip=flip,
        flip_direction='horizontal' if flip else None))
    return view, sample


@pytest.mark.parametrize('shape', [(33, 47), (64, 40), (3, 50), (50, 3)])
def test_several_scales_and_mirror_images_are_averaged(network, shape):
    network.test_cfg = Config(dict(mode='whole'))
    merged = MODELS.build(dict(type='SegTTAModel', module=network))
    batch = batch_of([shape], 5)
    image, labels = batch['inputs'][0], batch['data_samples'][0].gt_sem_seg.data

    def predict(image, labels):
        views = [scaled(image, labels, factor, flip) for factor in (0.5, 1., 1.7) for flip in (False, True)]
        with torch.no_grad():
            sample, = merged.test_step(dict(inputs=[[view] for view, _ in views],
                                            data_samples=[[sample] for _, sample in views]))
        return sample.pred_sem_seg.data[0]

    out = predict(image, labels)
    assert out.shape == shape
    # The mean of both ways is the same for the mirror image, but for rounded ties.
    mirrored = predict(image.flip(2), labels.flip(2)).flip(1)
    assert (out == mirrored).float().mean() > 0.97


# Whole runs on made data.


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A folder with made scenes in CamVid's form, a small config of theirs, and the work dir of its run."""
    folder = tmp_path_factory.mktemp('run')
    random = np.random.default_rng(0)
    for split, count in (('train', 8), ('val', 3)):
        for part in ('img_dir', 'ann_dir'):
            (folder / 'camvid' / part / split).mkdir(parents=True)
        for i in range(count):
            mask = np.full((36 + i, 48), 11, dtype=np.uint8)
            mask[:20], mask[20:] = random.integers(0, 6), random.integers(6, 11)
            mask[5:9, 5:9] = 11
            image = np.stack([20 * mask, 255 - 20 * mask, 0 * mask], axis=-1).astype(np.uint8)
            Image.fromarray(image).save(folder / 'camvid/img_dir' / split / f'{i}.jpg')
            Image.fromarray(mask).save(folder / 'camvid/ann_dir' / split / f'{i}.png')
    (folder / 'small.py').write_text(SMALL.format(config=CONFIGS / 'cyclemlp/camvid_fpn_b1.py', root=folder / 'camvid',
                                                  tiny=TINY, dims=list(DIMS)))
    with pytest.MonkeyPatch.context() as patch:
        assert call(patch, folder, 'train.py', 'small.py') == 0
    return folder


SMALL = """
_base_ = '{config}'
model = dict(
    data_preprocessor=dict(size=(32, 32)),
    backbone=dict(arch=dict(_delete_=True, **{tiny})),
    neck=dict(in_channels={dims}, out_channels=32),
    decode_head=dict(in_channels=[32, 32, 32, 32], channels=16))
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(data_root='{root}', pipeline=[
    dict(type='LoadReadableImage'),
    dict(type='LoadCheckedMask', num_classes=11, ignore_index=11),
    dict(type='RandomCrop', crop_size=(32, 32), ignore_index=11),
    dict(type='PackSegInputs')]))
val_dataloader = dict(num_workers=0, dataset=dict(data_root='{root}'))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=6, val_interval=3)
default_hooks = dict(checkpoint=dict(interval=3))
"""


def call(patch, folder, name, *args):
    """Run a tool in this process, which spares its start; returns its exit code."""
    patch.chdir(folder)
    for kind in (DefaultScope, MessageHub, MMLogger, SegLocalVisualizer):
        kind._instance_dict.clear()  # kept by the second of a run's start, as if one process were one run
    patch.setattr(sys, 'argv', [name, *map(str, args)])
    try:
        runpy.run_path(str(REPO / 'tools' / name), run_name='__main__')
    except SystemExit as stop:
        return stop.code
    return 0


@pytest.fixture
def tool(monkeypatch, capsys, run):
    """Run a tool in the folder of the run; returns exit code, stdout and stderr."""
    return lambda name, *args: (call(monkeypatch, run, name, *args), *capsys.readouterr())


def rows_of(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def test_a_run_validates_by_iterations_and_leaves_its_curves(run):
    rows = rows_of(run / 'work_dirs/small/curves.csv')
    assert [row['iteration'] for row in rows] == ['3', '6']
    assert all(0 <= float(row['test mIoU']) <= 1 and float(row['train loss']) > 0 for row in rows)
    assert {'iter_3.pth', 'iter_6.pth'} <= {path.name for path in (run / 'work_dirs/small').iterdir()}


def test_scales_of_the_input_are_tabled(run, tool):
    code, output, _ = tool('analysis/scales.py', 'small.py', 'work_dirs/small/iter_6.pth', '--scales', 0.5, 1, 1.5)
    assert code == 0
    folder = run / 'work_dirs/small/scales'
    rows = rows_of(folder / 'scales.csv')
    assert [row['scale'] for row in rows] == ['0.5', '1', '1.5'] and all(float(row['ms an image']) > 0 for row in rows)
    last = rows_of(run / 'work_dirs/small/curves.csv')[-1]
    assert float(rows[1]['mIoU']) / 100 == pytest.approx(float(last['test mIoU']), abs=1e-6)
    assert (folder / 'scales.md').read_text().splitlines()[0].startswith('| scale | aAcc | mIoU | mAcc | ')
    assert '| 1.5 | ' in output and Image.open(folder / 'scales.png').size[0] > 500
    code, *_ = tool('analysis/scales.py', 'small.py', 'work_dirs/small/iter_6.pth', '--scales', 1, '--flip',
                    '--work-dir', 'flip')
    assert code == 0 and len(rows_of(run / 'flip/scales.csv')) == 1


def test_three_scales_and_their_mirror_images_are_averaged(run, tool):
    (run / 'averaged.py').write_text("""
_base_ = 'small.py'
test_dataloader = dict(dataset=dict(pipeline=_base_.tta_pipeline))
model = dict(_delete_=True, type='SegTTAModel', module=_base_.model)
""")
    views = DATASETS.build(load_config(run / 'averaged.py').test_dataloader.dataset)[0]['inputs']
    assert [tuple(view.shape[1:]) for view in views[::2]] == [(202, 269), (270, 360), (338, 450)]
    assert all(torch.equal(mirrored, view.flip(2)) for view, mirrored in zip(views[::2], views[1::2]))
    code, output, error = tool('test.py', 'averaged.py', 'work_dirs/small/iter_6.pth')
    assert code == 0, error
    assert 0 <= float(re.search(r'mIoU: *([0-9.]+)', output)[1]) <= 100


@pytest.mark.parametrize('args, sentence', [
    (['none.py', 'work_dirs/small/iter_6.pth'], r'none.py does not exist'),
    (['small.py', 'none.pth'], r'none.pth does not exist'),
    (['small.py', 'work_dirs/small/iter_6.pth', '--scales', '-1'], r'factors above 0, but got -1'),
    ([CONFIGS / 'cyclemlp/digits_b1.py', 'work_dirs/small/iter_6.pth', '--flip'], r'how predictions are merged'),
])
def test_a_wrong_call_of_scales_is_told_in_one_line(tool, args, sentence):
    code, _, error = tool('analysis/scales.py', *args)
    assert code == 2 and re.fullmatch(rf'error: .*{sentence}.*\n', error), error


def sizes(pipeline, shape=(40, 60, 3)):
    """The sizes of the images that a pipeline gives."""
    from mmcv.transforms import Compose
    results = Compose(pipeline)(dict(img=np.zeros(shape, dtype=np.uint8), img_shape=shape[:2], img_fields=['img']))
    return [item.shape[:2] for item in (results['img'] if isinstance(results['img'], list) else [results['img']])]


@pytest.mark.parametrize('step, expected', [
    (dict(type='Resize', scale=(120, 80), keep_ratio=True), (120, 180)),
    (dict(type='Resize', scale_factor=2.), (120, 180)),
    (dict(type='Resize', scale=(30, 50), keep_ratio=False), (75, 45)),
    (dict(type='mmpretrain.ResizeEdge', scale=20), (30, 45)),
    (None, (60, 90)),
])
def test_the_scale_of_any_pipeline_is_changed(step, expected):
    config = Config(dict(test_dataloader=dict(dataset=dict(type='ConcatDataset', dataset=dict(
        pipeline=[step] if step else [])))))
    scale_input(config, 1.5)
    assert sizes(config.test_dataloader.dataset.dataset.pipeline) == [expected]


def test_mirror_images_are_added_before_annotations_are_loaded():
    pack = dict(type='PackDetInputs', meta_keys=('img_id', ))
    pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(60, 40)), dict(type='LoadAnnotations'), pack]
    config = Config(dict(tta_model=dict(type='DetTTAModel'), test_dataloader=dict(dataset=dict(pipeline=pipeline))))
    add_flip(config)
    *head, augmented = config.test_dataloader.dataset.pipeline
    assert head == pipeline[:2]
    flips, load, packs = augmented['transforms']
    assert [flip['prob'] for flip in flips] == [0, 1] and load == [pipeline[2]]
    assert packs[0]['meta_keys'] == ('img_id', 'flip', 'flip_direction') and pack['meta_keys'] == ('img_id', )
    with pytest.raises(InputError, match='has a pipeline, but found none'):
        scale_input(Config(dict(test_dataloader=None)), 2.)


# The configs that the page shows.


def test_the_pages_dataset_of_ones_own(dataset):
    config = written(dataset, 'data/mine')
    assert [step.type for step in config.train_dataloader.dataset.pipeline] == [
        'LoadReadableImage', 'LoadCheckedMask', 'RandomResize', 'RandomCrop', 'RandomFlip', 'PhotoMetricDistortion',
        'PackSegInputs']
    check_masks(config, 'train', 'val')
    np.random.seed(0)  # the image is resized by chance, and might be smaller than the crop
    sample = DATASETS.build(config.train_dataloader.dataset)[0]
    assert sample['inputs'].shape == (3, 512, 512)
    assert config.model.decode_head.num_classes == 3 and config.model.backbone.arch == 'b2'


def test_the_pages_test_at_several_scales(dataset):
    config = written(dataset, 'SegTTAModel')
    check_masks(config)
    shown = load_config(CONFIGS / 'cyclemlp/ade20k_fpn_b2.py')
    assert config.model.module.to_dict() == shown.model.to_dict()
    # Six scales and their mirror images, of an image in ADE20K's folders.
    config.test_dataloader.dataset.update(data_root=str(dataset / 'data/mine'), data_prefix=dict(
        img_path='images/val', seg_map_path='masks/val'))
    item = DATASETS.build(config.test_dataloader.dataset)[0]
    assert [tuple(view.shape[1:]) for view in item['inputs'][::2]] == [
        (20, 30), (30, 45), (40, 60), (50, 75), (60, 90), (70, 105)] and len(item['inputs']) == 12
    config.model.module.update(backbone=dict(type='CycleMLP', arch=TINY, out_indices=(0, 1, 2, 3)),
                               neck=dict(type='FPN', in_channels=list(DIMS), out_channels=256, num_outs=4))
    model = model_of(config).eval()
    check_fits(model, model.module.state_dict(), 'weights')
    with torch.no_grad():
        sample, = model.test_step(pseudo_collate([item]))
    assert sample.pred_sem_seg.data.shape == (1, 40, 60)


@pytest.fixture
def dataset(tmp_path):
    """A folder with images and masks of three classes, as the page describes them."""
    for split in ('train', 'val'):
        for kind, suffix, shape in (('images', '.jpg', (40, 60, 3)), ('masks', '.png', (40, 60))):
            folder = tmp_path / 'data/mine' / kind / split
            folder.mkdir(parents=True)
            pixels = np.random.default_rng(0).integers(0, 3, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f'one{suffix}')
    return tmp_path


def written(folder, sign):
    """The config of the page that holds a sign, saved in a folder; its data is looked for there."""
    code, = (code for code in re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL) if sign in code)
    (folder / 'config.py').write_text(code.replace("'configs/", f"'{CONFIGS}/"))
    return load_config(folder / 'config.py')



def examples():
    """Those that inherit from mmseg's own, by its folder."""
    for code in re.findall(r"```python\n(_base_ = 'mmseg::.*?)```", PAGE.read_text(), re.DOTALL):
        name = re.search(r"'mmseg::(\w+)/", code)[1]
        marks = [NEEDS_OPERATORS] if 'mmdet' in code else []
        yield pytest.param(code, id=name, marks=marks)


def test_the_page_shows_configs():
    assert {example.id for example in examples()} >= {'sem_fpn', 'upernet', 'segformer', 'mask2former'}


@pytest.mark.parametrize('code', examples())
def test_mmsegs_own_configs_take_the_backbone(code, tmp_path):
    (tmp_path / 'config.py').write_text(code)
    assert len(code.splitlines()) <= 9
    config = load_config(tmp_path / 'config.py')
    # One block a stage builds faster, with the channels of b2.
    config.model.backbone.update(arch=dict(depths=(1, ) * 4, embed_dims=(64, 128, 320, 512), mlp_ratios=(1, ) * 4),
                                 init_cfg=None)
    model = model_of(config)
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    model.data_preprocessor.size = (64, 64)
    losses = model.train().train_step(batch_of([(64, 64), (64, 64)], 150), wrapper)
    assert losses['loss'].isfinite()
    out = logits(model.eval(), batch_of([(45, 70)], 150))
    assert out.shape == (150, 45, 70) and out.isfinite().all()
