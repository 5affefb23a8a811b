"""tools/analysis/complexity.py: its numbers against independent ones, and what it does when a config fails."""

import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

from mmcyclemlp.config import load_config
from mmcyclemlp.errors import InputError

from .helpers import REPO, read_table

FOLDER = REPO / 'tools' / 'analysis'
sys.path.insert(0, str(FOLDER))
try:
    from cost import made_batch, measure, random_model
finally:
    sys.path.remove(str(FOLDER))

CONFIGS = REPO / 'configs' / 'cyclemlp'
# GMAC of the original's classifiers, computed from its code: of 1000 classes at 224, and of 10, which do not show in
# these digits, at 96.
GMACS = dict(b1=(2.122, 0.390), b3=(6.831, 1.257), b5=(12.232, 2.251))
PARAMETERS = dict(b1=15155400, b3=38385720, b5=75747280)
TINY = (
    "backbone=dict(_delete_=True, type='CycleMLP', out_indices=(0, 1), arch=dict(depths=(1, 1), "
    "embed_dims=(8, 8), mlp_ratios=(2, 2)), init_cfg=dict(type='Pretrained', checkpoint='absent.pth'))"
)
DETECTION = f"""
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', '{REPO}/configs/_base_/schedules/adamw_1x.py']
default_scope = 'mmdet'
model = dict(
    {TINY},
    neck=dict(in_channels=[8, 8], out_channels=8, start_level=0),
    bbox_head=dict(num_classes=1, in_channels=8, feat_channels=8))
"""
SEGMENTATION = f"""
_base_ = ['mmseg::_base_/models/fpn_r50.py', '{REPO}/configs/_base_/schedules/adamw_1x.py']
default_scope = 'mmseg'
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(64, 96)),
    {TINY},
    neck=dict(in_channels=[8, 8], out_channels=8, num_outs=4),
    decode_head=dict(in_channels=[8, 8, 8, 8], channels=8, num_classes=3))
"""


@pytest.fixture
def config(tmp_path):
    """Write a config."""

    def write(text, name='config.py'):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.mark.slow
@pytest.mark.parametrize('arch', GMACS)
def test_classifiers_cost_what_the_originals_do(config, arch):
    channels = 768 if arch == 'b5' else 512
    path = config(
        f"_base_ = '{CONFIGS}/digits_b1.py'\nmodel = dict(backbone=dict(arch='{arch}'), "
        f'head=dict(in_channels={channels}, num_classes=1000, topk=1))\n'
    )
    large, small = (measure(path, (side, side)) for side in (224, 96))
    assert (round(large.macs / 1e9, 3), round(small.backbone_macs / 1e9, 3)) == GMACS[arch]
    assert large.macs - large.backbone_macs == channels * 1000
    assert large.parameters == small.parameters == PARAMETERS[arch]
    assert large.parameters - large.backbone_parameters == (channels + 1) * 1000


def test_a_detector_costs_what_its_layers_do(config):
    path = config(DETECTION)
    cost = measure(path, (64, 96))
    model = random_model(load_config(path))
    counted = {'neck': 0, 'bbox_head': 0}

    def count(part, layer, inputs, output):
        counted[part] += output.numel() // output.shape[1] * layer.weight.numel()

    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d) and not name.startswith('backbone'):
            layer.register_forward_hook(partial(count, name.partition('.')[0]))
    with torch.no_grad():
        model.eval()(**model.data_preprocessor(made_batch('mmdet', 64, 96, 1), False), mode='tensor')
    assert all(counted.values()) and cost.macs - cost.backbone_macs == sum(counted.values())


@pytest.mark.parametrize('text, scope', [(DETECTION, 'mmdet'), (SEGMENTATION, 'mmseg')])
def test_a_step_is_taken_at_that_size(config, text, scope):
    path = config(text)
    cost = measure(path, (64, 96), train_step=True)
    assert (cost.height, cost.width) == (64, 96) and cost.macs > cost.backbone_macs > 0
    assert 0 < cost.loss < 100 and cost.train_s > 0 and cost.inference_s > 0
    assert cost.peak_bytes > 2**26
    twice = measure(path, (128, 96))
    assert twice.backbone_macs == pytest.approx(2 * cost.backbone_macs, rel=0.02)


def test_a_config_of_no_task_is_refused(config):
    with pytest.raises(InputError, match="default_scope mmpretrain, mmdet, mmseg, but .* has 'mmengine'"):
        measure(config("default_scope = 'mmengine'\n"))


@pytest.mark.slow
def test_a_config_that_fails_does_not_stop_the_others(config, tmp_path):
    config("_base_ = 'nowhere.py'\n", 'broken.py')
    config('import os\nos.kill(os.getpid(), 9)\n', 'killed.py')  # as a lack of memory ends a process
    config(f"_base_ = '{CONFIGS}/digits_b1.py'\nmodel = dict({TINY}, head=dict(in_channels=8))\n", 'good.py')
    options = '--shape', '32', '48', '--train-step', '--out', 'cost/table.csv'
    done = subprocess.run(
        [sys.executable, FOLDER / 'complexity.py', 'broken.py', 'killed.py', 'good.py', *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert 'error: broken.py: InputError: broken.py inherits' in done.stderr
    assert 'error: killed.py: its process was killed' in done.stderr
    assert done.stderr.endswith('error: 2 of 3 failed: broken.py, killed.py\n')
    header, _, row, *rest = done.stdout.splitlines()
    assert header.count('|') == row.count('|') == 11 and row.startswith('| good | 32x48 | ')
    assert rest[-1] == 'wrote cost/table.csv'
    broken, killed, good = read_table(tmp_path / 'cost/table.csv')
    assert broken['config'] == 'broken.py' and 'nowhere.py, which does not exist' in broken['status']
    assert killed['status'] != 'ok'
    assert good['status'] == 'ok' and float(good['loss']) > 0 and int(good['macs']) > 0
    assert [path.name for path in (tmp_path / 'cost').iterdir()] == ['table.csv']
