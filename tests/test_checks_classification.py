"""Class folders and lists of images that do not agree, or cannot be read, are told before a run."""

import shutil
from copy import deepcopy

import numpy as np
import pytest
from mmengine import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS
from PIL import Image

from mmcyclemlp.checks import check_data, common
from mmcyclemlp.errors import InputError
from mmcyclemlp.untrusted import guard_libraries

CLASSES = ('daisy', 'iris', 'lily')


@pytest.fixture
def lines(monkeypatch):
    """What is told."""
    lines = []
    monkeypatch.setattr(common, 'print_log', lambda line, logger, level: lines.append(line))
    return lines


@pytest.fixture
def config(tmp_path):
    for split in ('train', 'val'):
        for name in CLASSES:
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(2):
                Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / split / name / f'{i}.jpg')
    loaders = {
        f'{split}_dataloader': dict(
            batch_size=2, dataset=dict(type='CustomDataset', data_root=str(tmp_path), data_prefix=folder, pipeline=[])
        )
        for split, folder in (('train', 'train'), ('val', 'val'), ('test', 'val'))
    }
    model = dict(type='ImageClassifier', head=dict(type='LinearClsHead', num_classes=3))
    return Config(dict(default_scope='mmpretrain', model=model, data_preprocessor=dict(num_classes=3), **loaders))


def refused(config, match, *splits, **more):
    with pytest.raises(InputError, match=match) as error:
        check_data(config, *(splits or ('train', 'val')), **more)
    assert '\n' not in str(error.value)


def test_agreeing_folders_pass_in_silence(config, lines):
    classes = dict(meta=dict(dataset_meta=dict(classes=list(CLASSES))))
    check_data(config, 'train', 'val')
    check_data(config, 'test', checkpoint=classes)
    check_data(config, 'test', checkpoint=dict(meta=None))
    assert not lines


@pytest.mark.parametrize('change', ['lacks', 'renames', 'adds'])
def test_classes_of_another_split_are_refused(config, tmp_path, change):
    iris = tmp_path / 'val/iris'
    if change == 'lacks':
        shutil.rmtree(iris)
    elif change == 'renames':
        iris.rename(iris.with_name('rose'))
    else:
        (tmp_path / 'val/rose').mkdir()
    other = {'lacks': 'daisy, lily', 'renames': 'daisy, lily, rose', 'adds': 'daisy, iris, lily, rose'}[change]
    refused(
        config, rf'classes of train_dataloader.dataset \(.*/train\), daisy, iris, lily, but val_.* has {other}, and'
    )
    refused(config, f'but test_dataloader.dataset .* has {other}, and', 'test')
    shutil.rmtree(tmp_path / 'train')  # where a checkpoint is tested, training data may be elsewhere
    classes = dict(meta=dict(dataset_meta=dict(classes=list(CLASSES))))
    refused(config, f'of the checkpoint, daisy, iris, lily, but .* has {other}, and', 'test', checkpoint=classes)


def test_names_that_look_the_same(config, tmp_path):
    (tmp_path / 'train/lily').rename(tmp_path / 'train/café')
    (tmp_path / 'val/lily').rename(tmp_path / 'val/cafe\u0301')
    refused(
        config,
        r"'caf\\xe9', 'daisy', .* has 'cafe\\u0301', 'daisy', 'iris' \(they differ in spaces, case or their Unicode",
    )


def test_images_beside_the_class_folders_are_told(config, tmp_path, lines):
    (tmp_path / 'train/lily/0.jpg').rename(tmp_path / 'train/0.jpg')
    (tmp_path / 'train/notes.txt').touch()
    check_data(config, 'train', 'val')
    assert lines == [f'{tmp_path}/train: 1 images lie beside the class folders, and are not read: 0.jpg']


def test_an_empty_folder_keeps_the_labels(config, tmp_path, lines):
    shutil.rmtree(tmp_path / 'val/iris')
    (tmp_path / 'val/iris').mkdir()
    check_data(config, 'train', 'val')
    assert lines == [f'{tmp_path}/val: 1 of 3 classes have no image: iris']


def test_hidden_folders_are_no_classes(config, tmp_path, lines):
    guard_libraries()
    shutil.copytree(tmp_path / 'train/iris', tmp_path / 'train/.ipynb_checkpoints')
    shutil.copytree(tmp_path / 'train/iris', tmp_path / 'train/lily/.ipynb_checkpoints')
    check_data(config, 'train', 'val')
    with DefaultScope.overwrite_default_scope('mmpretrain'):  # an earlier test may have set another
        dataset = DATASETS.build(deepcopy(config.train_dataloader.dataset))
    assert dataset.CLASSES == CLASSES and [item['gt_label'] for item in dataset] == [0, 0, 1, 1, 2, 2]
    assert not lines


@pytest.mark.parametrize('number', [2, 5])
def test_the_head_fits_the_folders(config, number):
    config.model.head.num_classes = number
    refused(
        config, rf'of model.head as of .*/val\), but they have {number} and 3 \(daisy, iris, lily\); set model.head'
    )
    config.model.head.num_classes = 3
    config.data_preprocessor.num_classes = number
    refused(config, rf'of data_preprocessor as of .*, but they have {number} and 3')


def test_suffixes_that_are_passed_over_are_told(config, tmp_path, lines):
    for split in ('train', 'val'):
        (tmp_path / split / 'iris/0.jpg').rename(tmp_path / split / 'iris/0.webp')
    check_data(config, 'train', 'val')
    assert len(lines) == 2 and lines[0].startswith(
        f'{tmp_path}/train: 1 of 6 files are of a kind that is not read, .webp (1 in iris; the first is '
    )
    for path in list(tmp_path.rglob('*.jpg')):
        path.rename(path.with_suffix('.gif'))
    refused(config, 'of 6 files none is of .*; convert them, or set train_dataloader.dataset.extensions')


def test_missing_and_flat_folders(config, tmp_path):
    config.val_dataloader.dataset.data_prefix = 'validation'
    refused(
        config, r'expected class folders in .*/validation, which does not exist; .* val_dataloader.dataset.data_root'
    )
    config.val_dataloader.dataset.data_prefix = 'train/iris'
    refused(config, 'a folder of images for each class in .*/train/iris, but it holds none')
    config.val_dataloader.dataset.data_prefix = 'my\\val'
    refused(config, r'and write / for \\')


def test_names_in_another_order_than_the_folders(config):
    config.train_dataloader.dataset.classes = ('iris', 'daisy', 'lily')
    refused(config, 'in the order of their folders, daisy, iris, lily, .* but got iris, daisy, lily')


@pytest.mark.parametrize(
    'line, reason',
    [
        ('iris/0.jpg,1', "line 2 of .*train.txt is 'iris/0.jpg,1'"),
        ('iris/0.jpg iris', "line 2 of .*train.txt is 'iris/0.jpg iris'"),
        ('', "line 2 of .*train.txt is ''"),
        ('iris/0.jpg 3', 'line 2 of .*train.txt has class 3, and there are 3, numbered from 0'),
        ('iris/9.jpg 1', "line 2 of .*train.txt names '.*/train/iris/9.jpg', which does not exist"),
    ],
)
def test_a_wrong_line_of_a_list_is_named_by_number(config, tmp_path, line, reason):
    path = tmp_path / 'train.txt'
    config.train_dataloader.dataset.ann_file = 'train.txt'
    refused(config, r'list of images in .*train.txt, which does not exist; .* train_dataloader.dataset.ann_file')
    path.write_text('daisy/0.jpg 0\niris/0.jpg 1\n', encoding='utf-16')
    check_data(config, 'train')
    path.write_text(f'daisy/0.jpg 0\n{line}\nlily/0.jpg 2\n')
    refused(config, reason)
