"""Layers of the backbone, and learning rates that decay over them in all three libraries."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmcyclemlp.checkpoints import read_checkpoint
from mmcyclemlp.checks.start import _check_holds
from mmcyclemlp.engine import LayerDecayOptimWrapperConstructor
from mmcyclemlp.errors import InputError
from mmcyclemlp.models import CycleMLP

from .helpers import NEEDS_OPERATORS

SMALL = dict(depths=(1, 2), embed_dims=(8, 16), mlp_ratios=(1, 1))
LAYERS = {  # of SMALL with both outputs; 5 in all
    'patch_embed.proj.weight': 0,
    'stages.0.0.norm1.weight': 1,
    'downsamples.0.proj.bias': 2,
    'stages.1.0.mixer.shift_w.weight': 2,
    'stages.1.1.mlp.fc2.bias': 3,
    'norm0.weight': 4,
    'norm1.bias': 4,
}
OPTIMIZER = dict(
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.5, norm_decay_mult=0.0),
)


def small(**kwargs):
    return {**dict(type='CycleMLP', arch=SMALL, out_indices=(0, 1)), **kwargs}


def settings(model, **changes):
    """Learning rate and weight decay by the name of each parameter."""
    wrapper = build_optim_wrapper(model, {**OPTIMIZER, **changes})
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: (g['lr'], g['weight_decay']) for g in wrapper.optimizer.param_groups for p in g['params']}


def test_every_parameter_has_a_layer():
    model = CycleMLP(SMALL, out_indices=(0, 1))
    found = {name: model.get_layer_depth(f'backbone.{name}', 'backbone.') for name, _ in model.named_parameters()}
    assert {name: found[name] for name in LAYERS} == {name: (layer, 5) for name, layer in LAYERS.items()}
    assert {layer for layer, _ in found.values()} == set(range(5))
    assert model.get_layer_depth('head.fc.weight', 'backbone.') == (4, 5)


def classifier():
    head = dict(type='LinearClsHead', num_classes=2, in_channels=16)
    return dict(
        type='ImageClassifier', backbone=small(out_indices=(1,)), neck=dict(type='GlobalAveragePooling'), head=head
    )


def segmentor():
    head = dict(type='FCNHead', in_channels=16, channels=4, num_classes=2, num_convs=1, norm_cfg=dict(type='BN'))
    return dict(type='EncoderDecoder', backbone=small(), decode_head=head)


def detector():
    neck = dict(type='FPN', in_channels=[8, 16], out_channels=8, num_outs=2)
    anchors = dict(type='AnchorGenerator', scales=[8], ratios=[1.0], strides=[4, 8])
    head = dict(type='RetinaHead', num_classes=2, in_channels=8, stacked_convs=1, feat_channels=8)
    return dict(type='RetinaNet', backbone=small(), neck=neck, bbox_head=dict(head, anchor_generator=anchors))


@pytest.mark.parametrize(
    'scope, config',
    [('mmpretrain', classifier), ('mmseg', segmentor), pytest.param('mmdet', detector, marks=NEEDS_OPERATORS)],
)
def test_rates_decay_in_every_library(scope, config):
    pytest.importorskip(f'{scope}.models')
    init_default_scope(scope)
    config = config()
    if scope == 'mmpretrain':
        config['backbone'] = dict(type='CycleMLP', arch=SMALL, out_indices=(1,))
    found = settings(MODELS.build(config))
    for name, layer in LAYERS.items():
        if f'backbone.{name}' in found:
            decay = 0.0 if 'norm' in name else 0.05
            assert found[f'backbone.{name}'] == pytest.approx((1e-3 * 0.5 ** (4 - layer), decay)), name
    others = {rate for name, (rate, _) in found.items() if not name.startswith('backbone.')}
    assert others == {1e-3}
    if scope == 'mmpretrain':  # its own constructor gives the same rates
        own = settings(MODELS.build(config), constructor='LearningRateDecayOptimWrapperConstructor')
        assert {name: pytest.approx(rate) for name, (rate, _) in found.items()} == {n: r for n, (r, _) in own.items()}


def test_other_settings_stay_in_force():
    model = nn.ModuleDict(dict(backbone=CycleMLP(SMALL, out_indices=(0, 1), frozen_stages=1), head=nn.Linear(16, 2)))
    paramwise = dict(layer_decay_rate=0.5, bias_lr_mult=2.0, custom_keys=dict(head=dict(lr_mult=10.0)))
    found = settings(model, paramwise_cfg=paramwise)
    assert found['head.weight'][0] == pytest.approx(1e-2)
    assert found['backbone.stages.1.1.mlp.fc2.bias'][0] == pytest.approx(1e-3)  # 2 * 0.5
    assert not any(name.startswith(('backbone.patch_embed', 'backbone.stages.0')) for name in found)
    bare = settings(CycleMLP(SMALL, out_indices=(0, 1)))
    assert bare['patch_embed.proj.weight'][0] == pytest.approx(1e-3 / 16)


def test_wrong_settings_are_refused():
    for rate in (None, 0, 1.5, 'x'):
        with pytest.raises(InputError, match=r'layer_decay_rate above 0 and at most 1'):
            settings(CycleMLP(SMALL, out_indices=(1,)), paramwise_cfg=dict(layer_decay_rate=rate))
    with pytest.raises(InputError, match='but Linear has none'):
        settings(nn.Linear(2, 2))
    assert LayerDecayOptimWrapperConstructor.__name__ == OPTIMIZER['constructor']


def test_feature_info_and_checkpointing_tell_what_the_network_does():
    model = CycleMLP(SMALL, out_indices=(0, 1), stem_stride=2)
    image = torch.zeros(1, 3, 32, 32, requires_grad=True)
    maps = model(image)
    assert [(i['num_chs'], 32 // i['reduction']) for i in model.feature_info] == [m.shape[1:3] for m in maps]
    assert all(model.get_submodule(info['module']) is model.stages[i] for i, info in enumerate(model.feature_info))
    assert model.no_weight_decay() == set()
    calls = []
    model.stages[1][1].mixer.register_forward_hook(lambda *args: calls.append(0))
    for enable, forwards in ((True, 2), (False, 1)):
        calls.clear()
        model.set_grad_checkpointing(enable)
        model(image)[-1].sum().backward()
        assert len(calls) == forwards


@pytest.mark.parametrize('channels', [1, 2, 4, 6])
def test_an_init_cfg_for_rgb_fits_other_channels(tmp_path, channels):
    rgb = CycleMLP(SMALL, out_indices=(0, 1)).eval()
    path = str(tmp_path / 'rgb.pth')
    torch.save(dict(state_dict={f'backbone.{key}': value for key, value in rgb.state_dict().items()}), path)
    init_cfg = dict(type='Pretrained', checkpoint=path, prefix='backbone.')
    section = small(in_channels=channels, init_cfg=init_cfg)
    _check_holds('model.backbone', section, init_cfg, read_checkpoint(path)['state_dict'])
    model = MODELS.build(section)
    model.init_weights()
    grey = torch.randn(1, 1, 32, 32)
    for found, expected in zip(model.eval()(grey.expand(-1, channels, -1, -1)), rgb(grey.expand(-1, 3, -1, -1))):
        torch.testing.assert_close(found, expected)
