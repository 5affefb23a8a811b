"""Parts of a config that do not fit each other get a sentence that says where, when the first batch reaches them."""

import json
import os
import re
import signal

import pytest
import torch
from PIL import Image
from torch import nn

from mmcyclemlp import CycleMLP
from mmcyclemlp.cli import train
from mmcyclemlp.config.first_batch import PACKING
from mmcyclemlp.engine import ConsoleRunner

from .helpers import NEEDS_OPERATORS, REPO
from .pictures import labels_of, photo, save

DIGITS = REPO / 'configs/cyclemlp/digits_nano.py'
WEIGHTS = REPO / 'mmcyclemlp/checkpoints/weights/digits_nano-646e2451.safetensors'
LOAD = "dict(type='LoadImageFromFile')"
NOTHING = "dict(type='LoadAnnotations', with_bbox=False, with_label=False)"  # in the file of the other
PACK = "dict(type='PackInputs')"
SEG = "dict(type='PackSegInputs')"
SEGMENTATION = f"""
_base_ = '{REPO}/configs/cyclemlp/digit-scenes_fpn_nano.py'
data = dict(_delete_=True, batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='BaseSegDataset', metainfo=dict(classes=tuple('abcde')), data_prefix=dict(
        img_path='images', seg_map_path='masks'), pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]))
train_dataloader = data
val_dataloader = data
test_dataloader = data
load_from = None
model = dict(backbone=dict(init_cfg=None), decode_head=dict(num_classes=5, loss_decode=dict(class_weight=None)))
"""


@pytest.fixture
def told(tmp_path, tool):
    """What a command says of a changed config, and the traceback that it keeps in a file."""

    def run(text, base=f"_base_ = '{DIGITS}'", name='train.py', *args):
        (tmp_path / 'wrong.py').write_text(f'{base}\n{text}\n')
        code, _, error = tool(tmp_path, name, 'wrong.py', '--work-dir', tmp_path / 'run', *args)
        assert code == 2 and 'Traceback' not in error, error
        sentence, found, file = error.splitlines()[-1].rpartition('; the traceback is in ')
        assert found, error
        assert (tmp_path / file).read_text().startswith('Traceback')
        return sentence.removeprefix('error: ')

    return run


def pipeline(steps, loader='train', workers=0):
    settings = f'num_workers={workers}, persistent_workers={workers > 0}'
    return f'{loader}_dataloader = dict({settings}, dataset=dict(pipeline=[{steps}]))'


@pytest.mark.parametrize(
    'text, sentence',
    [
        (
            'model = dict(head=dict(in_channels=100))',
            'model.head.fc cannot take what it gets (RuntimeError: mat1 and mat2 shapes cannot be multiplied (64x160 '
            'and 100x10)); model.head gets maps of 160 channels: correct its settings, such as in_channels',
        ),
        (
            pipeline(f"dict(type='Resize', scale=8), {PACK}")
            + "\nmodel = dict(backbone=dict(_delete_=True, type='AlexNet'))",
            'model.backbone.features.2 cannot take what it gets (RuntimeError: Given input size: (64x1x1). Calculated '
            'output size: (64x0x0). Output size is too small); take larger images, for its maps are too small',
        ),
        (
            "model = dict(backbone=dict(_delete_=True, type='MlpMixer', arch='s', img_size=64, patch_size=8))",
            "model.backbone cannot take what it gets (AssertionError: The MLP-Mixer doesn't support dynamic input "
            'shape. Please input images with shape (64, 64)); correct its settings of sizes, or the sizes of the '
            'images',
        ),
        (
            pipeline("dict(type='Resize', scale=8)"),
            f"model.data_preprocessor cannot take the first batch (KeyError: 'inputs'); let the pipeline end with "
            f'{PACKING}',
        ),
        (
            pipeline(f'{NOTHING}, {LOAD}, {PACK}'),
            "train_dataloader.dataset.pipeline.1 (LoadImageFromFile) cannot take what it gets (KeyError: 'img_path'); "
            'correct it, or the steps before it',
        ),
        (
            pipeline(f"dict(type='torchvision/Pad', padding=1), {LOAD}, {PACK}", 'val', workers=1)
            + '\ntrain_cfg = dict(val_interval=1)',
            'val_dataloader cannot load its data (TypeError: img should be PIL Image. Got ',
        ),
        (
            pipeline(f"dict(type='RandomChoiceResize', scales=[(8, 8), (9, 9)]), {PACK}")
            + "\ntrain_dataloader['collate_fn'] = dict(type='default_collate')",
            'train_dataloader cannot make a batch (RuntimeError: stack expects each tensor to be equal size, ',
        ),
    ],
)
def test_parts_that_do_not_fit(told, text, sentence):
    assert told(text).startswith(sentence)


def test_a_label_beyond_the_classes(tmp_path, told):
    Image.new('RGB', (32, 32)).save(tmp_path / 'a.png')
    images = [dict(img_path='a.png', gt_label=[0, 3])] * 2
    (tmp_path / 'labels.json').write_text(json.dumps(dict(metainfo=dict(classes=['a', 'b', 'c']), data_list=images)))
    data = f"type='MultiLabelDataset', ann_file='labels.json', pipeline=[{LOAD}, {PACK}]"
    sentence = told(
        f'train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(_delete_=True, {data}))\n'
        "model = dict(head=dict(_delete_=True, type='MultiLabelLinearClsHead', num_classes=3, in_channels=160))\n"
        'val_cfg = val_dataloader = val_evaluator = None\n'
        "custom_hooks = [dict(type='CurvesHook')]\ndefault_hooks = dict(checkpoint=dict(save_best=None))"
    )
    assert sentence.startswith('model.head cannot') and sentence.endswith('; correct the labels, or its num_classes')


class Wrapped(nn.DataParallel):
    """Holds a model as DistributedDataParallel does."""

    def __init__(self, model):
        super().__init__(model)
        self.train_step, self.val_step = model.train_step, model.val_step


def test_parts_of_a_distributed_model(told, monkeypatch):
    monkeypatch.setattr(ConsoleRunner, 'wrap_model', lambda self, cfg, model: Wrapped(model))
    sentence = told('model = dict(head=dict(in_channels=100))')
    assert sentence.startswith('model.head.fc cannot') and 'model.head gets maps of 160 channels' in sentence


@pytest.fixture
def masks(tmp_path):
    (tmp_path / 'base.py').write_text(SEGMENTATION)
    for i in range(8):
        photo(tmp_path / f'images/{i}.jpg')
        save(tmp_path / f'masks/{i}.png', labels_of())


@pytest.mark.parametrize(
    'text, sentence',
    [
        (
            'model = dict(neck=dict(in_channels=[32, 64, 120]))',
            r'model\.neck\.lateral_convs\.2\.conv cannot .*; model\.neck gets maps of 32, 64, 128 channels: correct',
        ),
        (
            pipeline("dict(type='LoadImageFromFile'), dict(type='PackSegInputs')"),
            r'model\.decode_head cannot take .*_gt_sem_seg.*; let the pipeline load it by LoadAnnotations',
        ),
        (
            'model = dict(decode_head=dict(in_index=[0, 1, 5]))',
            r'model\.decode_head cannot take what it gets \(IndexError: .* gets maps of (64|32), ',
        ),
        (
            'model = dict(decode_head=dict(loss_decode=dict(class_weight=[1.] * 5, avg_non_ignore=True)))',
            r'model\.decode_head\.loss_decode cannot take what it gets \(IndexError: .*\); correct its settings$',
        ),
        (
            'model = dict(data_preprocessor=dict(size=None, size_divisor=None))',
            r'model\.data_preprocessor cannot .* \(AssertionError: only one of size and .*\); correct its settings, or',
        ),
        (
            pipeline(f"{LOAD}, dict(type='LoadAnnotations'), dict(type='Resize', scale=(32, 32)), {SEG}", 'val')
            + '\ntrain_cfg = dict(max_iters=1, val_interval=1)',
            r'val_evaluator \(IoUMetric\) cannot compare the predictions with the annotations \(.*shape.*\); let '
            'LoadAnnotations follow what resizes',
        ),
        (
            pipeline(f"{LOAD}, dict(type='RandomResize', scale=(64, 64), ratio_range=(0.5, 2.0)), {SEG}", 'val')
            + "\nval_dataloader['batch_size'] = 8\ntrain_cfg = dict(max_iters=1, val_interval=1)",
            r'model\.data_preprocessor cannot .* set val_dataloader\.batch_size=1, or let the pipeline give one size',
        ),
        (
            "model = dict(test_cfg=dict(mode='windows'))\ntrain_cfg = dict(max_iters=1, val_interval=1)",
            r'the model cannot take the first batch \(AssertionError: Only .* but got windows\.\); correct its',
        ),
    ],
)
def test_parts_of_a_segmentor(told, masks, text, sentence):
    assert re.match(sentence, told(text, "_base_ = 'base.py'"))


@NEEDS_OPERATORS
def test_a_layer_for_other_devices(told, masks, monkeypatch):
    monkeypatch.setattr('mmengine.runner.runner.get_device', lambda: 'cpu')
    neck = "type='mmdet.FPN_CARAFE', in_channels=[32, 64, 128], out_channels=32, num_outs=3"
    sentence = told(f'model = dict(neck=dict(_delete_=True, {neck}))', "_base_ = 'base.py'")
    assert re.fullmatch(
        r'model\.neck\.upsample_modules\.\d does not run on this device or in this precision \(RuntimeError: '
        r'carafe_forward_impl: implementation for device cpu not found\.\); take another layer, or a GPU',
        sentence,
    )


def test_other_commands_say_it_too(tmp_path, told, tool):
    assert told(pipeline('', 'test'), f"_base_ = '{DIGITS}'", 'test.py', WEIGHTS).endswith(PACKING)
    Image.new('RGB', (32, 32)).save(tmp_path / 'a.png')
    code, _, error = tool(tmp_path, 'infer.py', 'wrong.py', WEIGHTS, 'a.png')
    assert code == 2 and f'on a.png: the test pipeline gives no inputs; let it end with {PACKING}' in error


def test_a_lack_of_memory_says_what_helps(tmp_path, tool, monkeypatch):
    def forward(self, x):
        raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')

    monkeypatch.setattr(CycleMLP, 'forward', forward)
    code, _, error = tool(tmp_path, 'train.py', DIGITS)
    assert code == 2 and 'a batch of 64 images needs more memory than there is; lower batch_size' in error


def test_a_process_that_is_killed_as_it_loads_data_is_told(tmp_path, tool, monkeypatch):
    monkeypatch.setattr('mmpretrain.datasets.PackInputs.transform', lambda *args: os.kill(os.getpid(), signal.SIGKILL))
    error = tool(tmp_path, 'train.py', DIGITS, '--cfg-options', 'train_dataloader.num_workers=1')[2]
    assert 'error: a process that loads data has ended (RuntimeError: DataLoader worker ' in error


BY_ITERATIONS = "train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=4, val_interval=4)"


@pytest.mark.parametrize('fails_at, text', [(1, ''), (2, ''), (2, BY_ITERATIONS)])
def test_code_of_the_users_own_and_later_batches_keep_their_traceback(tmp_path, monkeypatch, fails_at, text):
    (tmp_path / 'own.py').write_text(f"_base_ = '{DIGITS}'\n{text}")
    forward, calls = CycleMLP.forward, []

    def own(self, x):
        calls.append(x)
        if len(calls) == fails_at == 1:
            raise KeyError('of its own')
        return tuple(y[:, : 100 if len(calls) == fails_at else None] for y in forward(self, x))

    monkeypatch.setattr(CycleMLP, 'forward', own)
    monkeypatch.chdir(tmp_path)
    with pytest.raises((KeyError, RuntimeError), match='of its own|shapes cannot be multiplied'):
        train.main(['own.py'])
    assert len(calls) == fails_at


def test_hooks_keep_their_traceback(tmp_path, monkeypatch):
    (tmp_path / 'own.py').write_text(f"_base_ = '{DIGITS}'\ncustom_hooks = [dict(type='DenseCLHook')]")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match='loss_lambda'):
        train.main(['own.py'])


def test_a_pipeline_of_text_is_refused(tmp_path, tool):
    options = ['--cfg-options', "train_dataloader.dataset.pipeline=[dict(type='PackInputs')]"]
    error = tool(tmp_path, 'train.py', DIGITS, *options)[2]
    assert "expected a transform such as dict(type='Resize') in train_dataloader.dataset.pipeline.0" in error
