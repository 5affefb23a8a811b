"""Configs and --cfg-options: what is taken, what is refused and how."""

import os
import shutil
from pathlib import Path

import pytest
from mmengine.registry import MODELS

from mmcyclemlp.config import load_config
from mmcyclemlp.config.keys import arguments_of
from mmcyclemlp.config.options import Typed, meaning
from mmcyclemlp.errors import InputError

from .helpers import REPO

CONFIG = REPO / 'configs' / 'cyclemlp' / 'cifar10_b1.py'


def value_at(config, key):
    for part in key.split('.'):
        config = config[int(part)] if part.isdigit() else config[part]
    return config


@pytest.mark.parametrize(
    'key, value',
    [
        ('train_cfg.max_epochs', 5),  # in the config
        ('param_scheduler.0.by_epoch', False),
        ('val_evaluator.0.topk', (1, 5)),
        ('train_cfg.val_begin', 3),  # arguments of what the section builds, though not in the config
        ('val_cfg.fp16', True),
        ('model.backbone.kernel_size', 5),
        ('model.head.init_cfg', None),  # ClsHead's, reached through LinearClsHead's **kwargs
        ('param_scheduler.0.T_max', 100),
        ('optim_wrapper.accumulative_counts', 2),
        ('optim_wrapper.optimizer.betas', (0.9, 0.95)),
        ('train_dataloader.dataset.indices', 100),
        ('train_dataloader.pin_memory', True),
        ('data_preprocessor.pad_size_divisor', 4),
        ('default_hooks.checkpoint.by_epoch', True),
        ('default_hooks.logger.priority', 'LOW'),  # taken out by mmengine before the class is built
        ('optim_wrapper.paramwise_cfg.norm_decay_mult', 0.0),
        ('param_scheduler.0.convert_to_iter_based', True),
        ('optim_wrapper.clip_grad.max_norm', 1.0),  # below a new key, anything
        ('model.backbone.init_cfg.checkpoint', 'b1.pth'),
        ('model.train_cfg.augments.alpha', 0.8),
        ('randomness.diff_rank_seed', True),  # read by mmengine itself
        ('env_cfg.resource_limit', 8192),
        ('auto_scale_lr.enable', True),
        ('log_processor.window_size', 20),
        ('experiment_name', 'first'),
        ('find_unused_parameters', True),
        ('load_from', 'b1.pth'),
        ('default_hooks.ema.type', 'EMAHook'),
        ('model.backbone.type', 'mmpretrain.ResNet'),
        ('randomness', None),
    ],
)
def test_legitimate_keys_are_set(key, value):
    assert value_at(load_config(CONFIG, {key: value}), key) == value


@pytest.mark.parametrize(
    'options, sentence',
    [
        (
            {'train_cfg.max_epoch': 5},
            r'train_cfg.max_epoch is unknown to train_cfg; did you mean train_cfg.max_epochs\?',
        ),
        ({'train_cfg.max_iters': 5}, r'train_cfg.max_iters is unknown to train_cfg'),
        ({'model.backbone.kernelsize': 5}, r'unknown to CycleMLP; did you mean model.backbone.kernel_size\?'),
        ({'model.head.num_class': 5}, r'unknown to LinearClsHead; did you mean model.head.num_classes\?'),
        (
            {'model.head.foo': 5},
            r'unknown to LinearClsHead; it takes cal_acc, in_channels, init_cfg, loss, num_classes',
        ),
        ({'optim_wrapper.optimizer.momentum': 0.9}, r'unknown to AdamW; it takes amsgrad, betas'),
        (
            {'optim_wrapper.optimzer.lr': 0.1},
            r'optimzer is unknown to OptimWrapper; did you mean optim_wrapper.optimizer\?',
        ),
        ({'param_scheduler.0.Tmax': 5}, r'unknown to CosineAnnealingLR; did you mean param_scheduler.0.T_max\?'),
        ({'train_dataloader.batchsize': 5}, r'did you mean train_dataloader.batch_size\?'),
        ({'train_dataloader.dataset.indice': 5}, r'unknown to CIFAR10Auto; did you mean .*.indices\?'),
        ({'default_hooks.checkpoint.interwal': 5}, r'unknown to CheckpointHook; did you mean .*.interval\?'),
        ({'env_cfg.cudnn_bench': True}, r'did you mean env_cfg.cudnn_benchmark\?'),
        ({'load_form': 'x'}, r'load_form is unknown to the runner; did you mean load_from\?'),
        ({'lr': 0.1}, r'lr is unknown to the runner; did you mean optim_wrapper.optimizer.lr\?'),
        ({'param_scheduler.1.T_max': 5}, r'param_scheduler, which is a list of 1; expected an index from 0 to 0'),
        ({'val_evaluator.topk': 5}, r"leads into val_evaluator, which is a list of 2; .* got 'topk'"),
        ({'load_from.x': 5}, r'leads into load_from, which is None and has no keys'),
        ({'train_cfg..x': 5}, r"expects dotted keys such as train_cfg.max_epochs, but got 'train_cfg..x'"),
        ({'model': 5}, r'model is a section, but got 5; set a key of it, such as model.type'),
        ({'train_cfg.max_epochs': 'five'}, r"train_cfg.max_epochs expects a number such as 100, but got 'five'"),
        ({'train_cfg.by_epoch': 'yes'}, r"train_cfg.by_epoch expects True or False, but got 'yes'"),
        ({'model.backbone.type': 'CycleMPL'}, r'type=CycleMPL is no registered class; did you mean CycleMLP\?'),
        ({'model.backbone.arch': 'b2', 'train_cfg.max_epoch': 5}, r'train_cfg.max_epoch is unknown'),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence) as error:
        load_config(CONFIG, options)
    assert str(error.value).startswith('--cfg-options ') and '\n' not in str(error.value)


def test_a_new_type_decides_what_its_section_takes():
    new = {'optim_wrapper.optimizer.type': 'SGD', 'optim_wrapper.optimizer.momentum': 0.9}
    assert load_config(CONFIG, new).optim_wrapper.optimizer.momentum == 0.9
    with pytest.raises(InputError, match='betas is unknown to SGD'):
        load_config(CONFIG, {**new, 'optim_wrapper.optimizer.betas': (0.9, 0.95)})


def test_delete_starts_a_section_anew():
    options = {'train_cfg._delete_': True, 'train_cfg.by_epoch': False, 'train_cfg.max_iters': 50}
    assert load_config(CONFIG, options).train_cfg == dict(by_epoch=False, max_iters=50)


def test_a_variable_of_the_file_is_no_setting(tmp_path):
    path = tmp_path / 'variable.py'
    path.write_text(
        f"_base_ = '{CONFIG}'\ndata_root = 'data/cifar10'\ntrain_dataloader = dict(dataset=dict(data_root=data_root))\n"
    )
    with pytest.raises(InputError, match='data_root would change nothing, .*; set train_dataloader.dataset.data_root'):
        load_config(path, {'data_root': '/elsewhere'})


@pytest.mark.parametrize(
    'key, instead',
    [
        ('norm_cfg.type', 'model.decode_head.norm_cfg.type'),
        ('train_pipeline.2.scale', 'train_dataloader.dataset.pipeline.2.scale'),
        ('crop_size', 'train_dataloader.dataset.pipeline.3.crop_size'),
        ('data_preprocessor.size', 'model.data_preprocessor.size'),
    ],
)
def test_a_part_of_a_variable_is_no_setting_either(tmp_path, key, instead):
    pytest.importorskip('mmseg')
    path = tmp_path / 'fpn.py'
    path.write_text("_base_ = 'mmseg::sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py'\n")
    with pytest.raises(InputError, match='would change nothing') as error:
        load_config(path, {key: Typed('(64, 64)')})
    advice = str(error.value).partition('; set ')[2]
    assert instead in advice and 'train_pipeline.' not in advice
    place = advice.split(' and ')[0].removesuffix(' instead')
    load_config(path, {place: (64, 64)})  # what is advised is taken


@pytest.mark.parametrize(
    'text, present, value',
    [
        ('data/my flowers', 'data/flowers', 'data/my flowers'),
        ('data/a, b (old)', 'data', 'data/a, b (old)'),
        ('2017', 'train', '2017'),
        ('2017', None, 2017),
        ('"2017"', None, '2017'),
        ('None', 'b1.pth', None),
        ('True', False, True),
        ("('traffic light', 'car')", None, ('traffic light', 'car')),
        ('(traffic light, car)', ('a', 'b', 'c'), ('traffic light', 'car')),
        ("'traffic light','car'", ['a'], ['traffic light', 'car']),
        ('(2017, 2018)', ('a', 'b'), ('2017', '2018')),
        ("('leaf', )", ('a', 'b'), ('leaf',)),
        ("('a, b', \"it's\")", None, ('a, b', "it's")),
        ('[bbox,segm]', 'bbox', ['bbox', 'segm']),
        ('1,5', (1,), (1, 5)),
        ('0.9,0.95', None, [0.9, 0.95]),
        ('[(1, 2), [a b, 3]]', None, [(1, 2), ['a b', 3]]),
        ('data/a,b.pth', None, 'data/a,b.pth'),
        ('1e-4', 0.1, 1e-4),
        ('[]', [1], []),
    ],
)
def test_what_a_typed_value_means(text, present, value):
    found = meaning(text, present, f'key={text}')
    assert found == value and type(found) is type(value)


def test_typed_values_replace_what_is_there():
    given = {'train_dataloader.dataset.data_root': '2017 b', 'train_dataloader.batch_size': '8'}
    config = load_config(CONFIG, {key: Typed(value) for key, value in given.items()})
    assert (config.train_dataloader.dataset.data_root, config.train_dataloader.batch_size) == ('2017 b', 8)
    with pytest.raises(InputError, match=r'got train_dataloader.batch_size=\[1,2; close its brackets'):
        load_config(CONFIG, {'train_dataloader.batch_size': Typed('[1,2')})


def test_no_workers_need_no_worker_settings():
    options = {'train_dataloader.num_workers': 0, 'train_dataloader.prefetch_factor': 4}
    loader = load_config(CONFIG, options).train_dataloader
    assert 'persistent_workers' not in loader and 'prefetch_factor' not in loader
    assert load_config(CONFIG).train_dataloader.persistent_workers


def test_data_beside_the_config_is_found_from_any_folder(tmp_path, monkeypatch):
    shutil.copytree(REPO / 'configs', tmp_path / 'repo' / 'configs')
    (tmp_path / 'repo' / 'data' / 'cifar10').mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    config = load_config(Path('repo', *CONFIG.parts[-3:]))
    assert config.train_dataloader.dataset.data_root == str(tmp_path / 'repo' / 'data' / 'cifar10')
    (tmp_path / 'data' / 'cifar10').mkdir(parents=True)
    assert load_config(Path('repo', *CONFIG.parts[-3:])).train_dataloader.dataset.data_root == 'data/cifar10'


@pytest.mark.parametrize(
    'name, text, sentence',
    [
        ('broken.py', 'a = 1\nb = = 2\n', r'broken.py is not valid Python \(invalid syntax, line 2\)'),
        ('heir.py', "_base_ = 'base.py'\n", r'base.py is not valid Python \(.*, line 3\)'),
        ('orphan.py', "_base_ = 'nowhere.py'\n", r'orphan.py inherits from .*nowhere.py, which does not exist'),
        ('no_suffix.py', "_base_ = './nowhere'\n", r'no_suffix.py inherits from \S*nowhere, which does not exist'),
        (
            'other_kind.py',
            "_base_ = 'importing.py'\n",
            r'cannot be read \(RuntimeError: The configuration file type in the inheritance chain must match',
        ),
        ('name.py', 'a = b\n', r"name.py cannot be read \(NameError: name 'b' is not defined\)"),
        ('twice.py', f"_base_ = ['{CONFIG}', '{CONFIG}']\n", r'twice.py cannot be read \(KeyError: .*Duplicate keys'),
        (
            'module.py',
            "custom_imports = dict(imports=['no_such_module'])\n",
            r"module.py needs a module that cannot be imported \(No module named 'no_such_module'\)",
        ),
    ],
)
def test_a_wrong_config_is_refused_in_a_sentence(tmp_path, name, text, sentence):
    (tmp_path / 'base.py').write_text('a = 1\n\nb = (\n')
    (tmp_path / 'importing.py').write_text('from torch import nn\n')
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=sentence) as error:
        load_config(tmp_path / name)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'path, sentence',
    [
        ('cyclemlp/digit_b1.py', r'digit_b1.py does not exist; did you mean .*/cyclemlp/digits_b1.py'),
        ('cyclemlp/digits_b1', r'digits_b1 does not exist; did you mean .*/cyclemlp/digits_b1.py'),
        ('cyclemlp/~', r'~ does not exist; check the path'),
        ('cycle/digits_b1.py', r'the folder .*/cycle of .* does not exist'),
        ('cyclemlp', r'cyclemlp is a folder; did you mean .*/cyclemlp/.*\.py'),
    ],
)
def test_a_missing_config_has_near_names(path, sentence):
    with pytest.raises(InputError, match=sentence):
        load_config(REPO / 'configs' / path)


def test_a_checkpoint_is_no_config(tmp_path):
    (tmp_path / 'epoch_1.pth').write_bytes(b'PK')
    with pytest.raises(InputError, match=r'expected a config \(.py, .json, .yaml, .yml\), got .*epoch_1.pth'):
        load_config(tmp_path / 'epoch_1.pth')


def test_kwargs_that_do_not_go_up_take_anything():

    class Base:
        def __init__(self, a, b=1):
            pass

    class Handing(Base):
        def __init__(self, c, **kwargs):
            super().__init__(**kwargs)

    class Taking(Base):
        def __init__(self, d, **kwargs):
            self.kwargs = kwargs

    assert arguments_of(Base) == ({'a', 'b'}, False)
    assert arguments_of(Handing) == ({'a', 'b', 'c'}, False)
    assert arguments_of(Taking) == ({'d'}, True)
    assert 'kernel_size' in arguments_of(MODELS.get('CycleMLP'))[0]


def test_configs_of_mmseg_can_be_inherited(tmp_path):
    pytest.importorskip('mmseg')
    (tmp_path / 'seg.py').write_text("_base_ = 'mmseg::_base_/models/fpn_r50.py'\n")
    assert load_config(tmp_path / 'seg.py').model.decode_head.type == 'FPNHead'


DETECTION = """
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'
default_scope = 'mmdet'
"""


@pytest.mark.parametrize(
    'missing, message',
    [
        (
            'mmcv._ext',
            'needs mmdet, but mmcv was installed without its compiled operators; compile them with `make ops`',
        ),
        ('mmdet', "needs mmdet, but it is not installed; run `pip install 'onedl-mmdetection>="),
    ],
)
def test_a_library_that_cannot_be_imported(tmp_path, monkeypatch, missing, message):

    def absent(name):
        raise ModuleNotFoundError(f'No module named {missing!r}', name=missing)

    monkeypatch.setattr('mmcyclemlp.config.libraries.import_module', absent)
    (tmp_path / 'detection.py').write_text(DETECTION)
    with pytest.raises(InputError, match=message):
        load_config(tmp_path / 'detection.py')


def test_a_base_of_a_library_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr('mmengine.config.config.is_installed', lambda name: False)
    monkeypatch.setattr('mmcyclemlp.dependencies.installed_version', lambda name: '')
    (tmp_path / 'detection.py').write_text(DETECTION)
    with pytest.raises(InputError, match="needs mmdet, which is not installed; run `pip install 'onedl-mmdetection>="):
        load_config(tmp_path / 'detection.py')


def test_a_base_of_a_library_is_found_without_parsing_its_metafiles(monkeypatch):
    monkeypatch.setattr('mmengine.config.utils.load', lambda path: pytest.fail(f'parsed {path}'))
    assert load_config(REPO / 'configs/cyclemlp/camvid_fpn_b1.py').model.decode_head.type == 'FPNHead'


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
@pytest.mark.parametrize('name', ['a.py', 'a.yaml'])
def test_a_config_with_a_byte_order_mark_is_read(tmp_path, name, encoding):
    text = "work_dir = '~/é'\n" if name == 'a.py' else 'work_dir: ~/é\n'
    (tmp_path / name).write_text(text, encoding=encoding)
    (tmp_path / 'heir.py').write_text(f"_base_ = '{name}'\n", encoding=encoding)
    for path in (tmp_path / name, tmp_path / 'heir.py'):
        assert load_config(path).work_dir == os.path.expanduser('~/é')
