"""Configs that name what is not there get a sentence that says where, in every command."""

import pytest
from PIL import Image

from mmcyclemlp.cli import train
from mmcyclemlp.engine import ConsoleRunner

from .helpers import REPO

DIGITS = REPO / 'configs/cyclemlp/digits_nano.py'


@pytest.fixture
def told(tmp_path, tool):
    """What a command says of a config, of which it makes nothing."""

    def run(text, name='train.py', *args):
        config = tmp_path / 'wrong.py'
        config.write_text(f"_base_ = '{DIGITS}'\n{text}\n")
        code, _, error = tool(tmp_path, name, config, *args)
        assert code == 2
        return error.splitlines()[-1]

    return run


@pytest.mark.parametrize(
    'text, sentence',
    [
        (
            "model = dict(head=dict(type='LinearClsHed'))",
            'model.head.type=LinearClsHed is no registered class; did you ',
        ),
        (
            'model = dict(backbone=dict(archh=1))',
            'model.backbone.archh is unknown to CycleMLP; did you mean model.backb',
        ),
        (
            "train_dataloader = dict(dataset=dict(type='Digts'))",
            'train_dataloader.dataset.type=Digts is no registered ',
        ),
        (
            "train_dataloader = dict(dataset=dict(pipeline=[dict(type='RandomCrop', crop_sise=8)]))",
            'train_dataloader.dataset.pipeline.0.crop_sise is unknown to RandomCrop; did you mean train_dataloader.da',
        ),
        (
            'train_dataloader = dict(batchsize=8)',
            'train_dataloader.batchsize is unknown to train_dataloader; did you m',
        ),
        (
            "optim_wrapper = dict(optimizer=dict(type='Adam7'))",
            'optim_wrapper.optimizer.type=Adam7 is no registered cl',
        ),
        (
            'optim_wrapper = dict(optimizer=dict(lrr=1))',
            'optim_wrapper.optimizer.lrr is unknown to AdamW; did you mean',
        ),
        ("custom_hooks = [dict(type='Mine')]", 'custom_hooks.0.type=Mine is no registered class; correct it, or impor'),
        (
            "param_scheduler = [dict(type='StepLR', gama=1)]",
            'param_scheduler.0.gama is unknown to StepLR; did you mean',
        ),
        ("param_scheduler = [dict(type='StepLR')]", "param_scheduler.0 needs 'step_size'; add it"),
        ('train_cfg = dict(max_epoch=3)', 'train_cfg.max_epoch is unknown to train_cfg; did you mean train_cfg.max_ep'),
        ('model = dict(_delete_=True, a=1)', "a section of the config has no type: {'a': 1"),
        ("default_scope = 'mmfoo'", "default_scope is 'mmfoo'; expected mmpretrain, mmdet or mmseg"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(told, text, sentence):
    assert told(text).startswith(f'error: {sentence}')


@pytest.mark.parametrize('name', ['test.py', 'infer.py'])
def test_other_commands_say_it_too(told, tmp_path, name):
    weights = REPO / 'mmcyclemlp/checkpoints/weights/digits_nano-646e2451.safetensors'
    Image.new('RGB', (32, 32)).save(tmp_path / 'a.png')
    images = [tmp_path / 'a.png'] if name == 'infer.py' else []
    assert 'model.neck.kernel is unknown to' in told('model = dict(neck=dict(kernel=3))', name, weights, *images)


@pytest.mark.parametrize(
    'text, sentence',
    [
        ("optim_wrapper = dict(optimizer=dict(lr='1e-3'))", "optim_wrapper.optimizer cannot be built (TypeError: '<='"),
        ('default_hooks = dict(logger=dict(interval=0))', 'default_hooks.logger cannot be built (ValueError: interval'),
        ('optim_wrapper = dict(clip_grad=5)', 'optim_wrapper cannot be built (AssertionError: If `clip_grad` is not'),
        (
            "custom_hooks = [dict(type='EMAHook', momentum=5)]",
            'the config cannot be built (AssertionError: momentum must',
        ),
        (
            'train_dataloader = dict(num_workers=-1)',
            'the config cannot be built (ValueError: num_workers option should',
        ),
        ('train_dataloader = dict(dataset=dict(indices=0))', 'train_dataloader.dataset cannot be built (ValueError'),
        (
            "data = dict(_delete_=True, type='MultiTaskDataset', ann_file='a.json', data_root='.')\n"
            'train_dataloader = dict(dataset=data)',
            'train_dataloader.dataset cannot be built (FileNotFoundError: [Errno 2] No such file or directory: ',
        ),
        (
            "param_scheduler = [dict(type='CosineAnnealingLR', begin=20)]\ntrain_cfg = dict(max_epochs=1)",
            'param_scheduler.0 cannot be built (ValueError: end should be larger than begin, but got begin=20, end=1); '
            'lower begin, or train for longer',
        ),
        (
            "optim_wrapper = dict(constructor='mmseg.LearningRateDecayOptimizerConstructor', paramwise_cfg=dict("
            "num_layers=4, decay_rate=0.9, decay_type='layer_wise'))",
            'optim_wrapper.constructor cannot be built (NotImplementedError); it is for other backbones; take LayerDec',
        ),
        ("randomness = dict(seed='x')", 'the config cannot be built (TypeError: Cannot cast'),
        (
            'train_dataloader = dict(batch_size=5000, drop_last=True)',
            'expected batches to train on, but of 1,438 images there is none, with batch_size=5000 and drop_last=True',
        ),
    ],
)
def test_values_that_libraries_refuse(told, text, sentence):
    assert told(text).startswith(f'error: {sentence}')


def test_code_of_the_users_own_keeps_its_traceback(tmp_path, monkeypatch):
    (tmp_path / 'own_hook.py').write_text(
        'from mmengine.hooks import Hook\nfrom mmengine.registry import HOOKS\n\n\n@HOOKS.register_module()\n'
        "class Own(Hook):\n    def __init__(self):\n        raise ValueError('of its own')\n"
    )
    (tmp_path / 'own.py').write_text(
        f"_base_ = '{DIGITS}'\ncustom_imports = dict(imports=['mmcyclemlp.engine', 'own_hook'])\n"
        "custom_hooks = [dict(type='Own')]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match='of its own'):
        train.main(['own.py'])


def test_other_errors_keep_their_traceback(tmp_path, monkeypatch):
    def fail(self):
        raise KeyError('of the program')

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ConsoleRunner, 'train', fail)
    with pytest.raises(KeyError, match='of the program'):
        train.main([str(DIGITS)])


def test_a_slip_in_a_top_level_key_is_told(tmp_path, tool, monkeypatch):
    lines = []
    monkeypatch.setattr('mmcyclemlp.checks.common.print_log', lambda line, *args: lines.append(line))
    monkeypatch.setattr(ConsoleRunner, 'train', lambda self: None)
    (tmp_path / 'slip.py').write_text(f"_base_ = '{DIGITS}'\ntrain_dataloadr = dict(batch_size=3)\nrate = 3\n")
    assert tool(tmp_path, 'train.py', tmp_path / 'slip.py')[0] == 0
    assert lines == ['train_dataloadr of the config is read by nothing; did you mean train_dataloader?']
