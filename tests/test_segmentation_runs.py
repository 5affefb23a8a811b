"""Whole segmentation runs on made data, and their tests at other scales of the input."""

import re
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS
from PIL import Image

from mmcyclemlp.config import load_config
from mmcyclemlp.errors import InputError

from .helpers import REPO, call_tool, read_table
from .small_segmentation import CONFIGS, DIMS, TINY

sys.path.insert(0, str(REPO / 'tools' / 'analysis'))
try:
    from scales import add_flip, scale_input
finally:
    sys.path.pop(0)

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


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
    (folder / 'small.py').write_text(
        SMALL.format(config=CONFIGS / 'cyclemlp/camvid_fpn_b1.py', root=folder / 'camvid', tiny=TINY, dims=list(DIMS))
    )
    with pytest.MonkeyPatch.context() as patch:
        assert call_tool(patch, folder, 'train.py', 'small.py') == 0
    return folder


SMALL = """
_base_ = '{config}'
model = dict(
    data_preprocessor=dict(size=(32, 32)),
    backbone=dict(arch=dict(_delete_=True, **{tiny})),
    neck=dict(in_channels={dims}, out_channels=32),
    decode_head=dict(in_channels=[32, 32, 32, 32], channels=16))
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(data_root='{root}', pipeline=[
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', num_classes=11, ignore_index=11),
    dict(type='RandomCrop', crop_size=(32, 32), ignore_index=11),
    dict(type='PackSegInputs')]))
val_dataloader = dict(num_workers=0, dataset=dict(data_root='{root}'))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=6, val_interval=3)
default_hooks = dict(checkpoint=dict(interval=3))
"""


@pytest.fixture
def tool(tool, run):
    return lambda *args: tool(run, *args)


def test_a_run_validates_by_iterations_and_leaves_its_curves(run):
    rows = read_table(run / 'work_dirs/small/curves.csv')
    assert [row['iteration'] for row in rows] == ['3', '6']
    assert all(0 <= float(row['test mIoU']) <= 1 and float(row['train loss']) > 0 for row in rows)
    assert {'iter_3.pth', 'iter_6.pth'} <= {path.name for path in (run / 'work_dirs/small').iterdir()}


NO_CHECKPOINTS = ['--cfg-options', 'default_hooks.checkpoint=None']  # which a test needs as little as save_best


def test_scales_of_the_input_are_tabled(run, tool):
    code, output, _ = tool('analysis/scales.py', 'small.py', 'work_dirs/small/iter_6.pth', '--scales', 0.5, 1, 1.5)
    assert code == 0
    folder = run / 'work_dirs/small/scales'
    rows = read_table(folder / 'scales.csv')
    assert [row['scale'] for row in rows] == ['0.5', '1', '1.5'] and all(float(row['ms an image']) > 0 for row in rows)
    last = read_table(run / 'work_dirs/small/curves.csv')[-1]
    assert float(rows[1]['mIoU']) / 100 == pytest.approx(float(last['test mIoU']), abs=1e-6)
    assert (folder / 'scales.md').read_text().splitlines()[0].startswith('| scale | aAcc | mIoU | mAcc | ')
    assert '| 1.5 | ' in output and Image.open(folder / 'scales.png').size[0] > 500
    code, *_ = tool(
        'analysis/scales.py',
        'small.py',
        'work_dirs/small/iter_6.pth',
        '--scales',
        1,
        '--flip',
        '--work-dir',
        'flip',
        *NO_CHECKPOINTS,
    )
    assert code == 0 and len(read_table(run / 'flip/scales.csv')) == 1


def test_three_scales_and_their_mirror_images_are_averaged(run, tool):
    (run / 'averaged.py').write_text("""
_base_ = 'small.py'
test_dataloader = dict(dataset=dict(pipeline=_base_.tta_pipeline))
model = dict(_delete_=True, type='SegTTAModel', module=_base_.model)
""")
    views = DATASETS.build(load_config(run / 'averaged.py').test_dataloader.dataset)[0]['inputs']
    assert [tuple(view.shape[1:]) for view in views[::2]] == [(135, 180), (180, 240), (225, 300)]
    assert all(torch.equal(mirrored, view.flip(2)) for view, mirrored in zip(views[::2], views[1::2]))
    code, output, error = tool('test.py', 'averaged.py', 'work_dirs/small/iter_6.pth')
    assert code == 0, error
    assert 0 <= float(re.search(r'mIoU: *([0-9.]+)', output)[1]) <= 100


@pytest.mark.parametrize(
    'args, sentence',
    [
        (['none.py', 'work_dirs/small/iter_6.pth'], r'none.py does not exist'),
        (['small.py', 'none.pth'], r'none.pth does not exist'),
        (['small.py', 'work_dirs/small/iter_6.pth', '--scales', '-1'], r'factors above 0 and up to 100, but got -1'),
        ([CONFIGS / 'cyclemlp/digits_b1.py', 'work_dirs/small/iter_6.pth', '--flip'], r'how predictions are merged'),
        (
            ['small.py', 'work_dirs/small/iter_6.pth', '--cfg-options', 'test_evaluator.ignore_index=7'],
            r'expected one value for pixels of no class, but .*; set both to the same',
        ),
    ],
)
def test_a_wrong_call_of_scales_is_told_in_one_line(tool, args, sentence):
    code, _, error = tool('analysis/scales.py', *args)
    assert code == 2 and re.fullmatch(rf'error: .*{sentence}.*\n', error), error


def sizes(pipeline, shape=(40, 60, 3)):
    """The sizes of the images that a pipeline gives."""
    from mmcv.transforms import Compose

    results = Compose(pipeline)(dict(img=np.zeros(shape, dtype=np.uint8), img_shape=shape[:2], img_fields=['img']))
    return [item.shape[:2] for item in (results['img'] if isinstance(results['img'], list) else [results['img']])]


@pytest.mark.parametrize(
    'step, expected',
    [
        (dict(type='Resize', scale=(120, 80), keep_ratio=True), (120, 180)),
        (dict(type='Resize', scale_factor=2.0), (120, 180)),
        (dict(type='Resize', scale=(30, 50), keep_ratio=False), (75, 45)),
        (dict(type='mmpretrain.ResizeEdge', scale=20), (30, 45)),
        (None, (60, 90)),
    ],
)
def test_the_scale_of_any_pipeline_is_changed(step, expected):
    config = Config(
        dict(test_dataloader=dict(dataset=dict(type='ConcatDataset', dataset=dict(pipeline=[step] if step else []))))
    )
    scale_input(config, 1.5)
    assert sizes(config.test_dataloader.dataset.dataset.pipeline) == [expected]


def test_mirror_images_are_added_before_annotations_are_loaded():
    pack = dict(type='PackDetInputs', meta_keys=('img_id',))
    pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(60, 40)), dict(type='LoadAnnotations'), pack]
    config = Config(dict(tta_model=dict(type='DetTTAModel'), test_dataloader=dict(dataset=dict(pipeline=pipeline))))
    add_flip(config)
    *head, augmented = config.test_dataloader.dataset.pipeline
    assert head == pipeline[:2]
    flips, load, packs = augmented['transforms']
    assert [flip['prob'] for flip in flips] == [0, 1] and load == [pipeline[2]]
    assert packs[0]['meta_keys'] == ('img_id', 'flip', 'flip_direction') and pack['meta_keys'] == ('img_id',)
    with pytest.raises(InputError, match='has a pipeline, but found none'):
        scale_input(Config(dict(test_dataloader=None)), 2.0)
