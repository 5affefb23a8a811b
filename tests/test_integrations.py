"""CycleMLP in the APIs of timm, torch.hub and mmpretrain, with the weights of the reference outputs behind them."""

import json
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch

from mmcyclemlp import create_model, list_models
from mmcyclemlp.checkpoints import zoo
from mmcyclemlp.errors import InputError

from .helpers import REPO
from .test_checkpoints import Evil, add_offsets, save_original

timm = pytest.importorskip('timm')
SIZE = (1, 3, 75, 51)
SMALL = dict(depths=(1, 1, 2, 1), embed_dims=(8, 8, 16, 16), mlp_ratios=(1, 1, 1, 1))


@pytest.fixture(scope='module')
def original(golden, formula, tmp_path_factory):
    """Makes the authors' file of an arch, with the weights of the reference outputs."""
    keys, folder = json.loads((golden / 'official_keys.json').read_text()), tmp_path_factory.mktemp('release')

    def make(arch):
        path = folder / f'CycleMLP_{arch.upper()}.pth'
        if not path.exists():
            weights = formula.state_dict(keys[arch]['classifier'])
            save_original(add_offsets({key: torch.from_numpy(value) for key, value in weights.items()}), path)
        return path

    return make


@pytest.fixture
def release(tmp_path, monkeypatch):
    """Puts a file behind the name of an arch; the cache is empty."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))

    def put(arch, path):
        monkeypatch.setitem(zoo.ZOO, arch, zoo.ZOO[arch]._replace(url=path.as_uri()))

    return put


@pytest.fixture
def small(monkeypatch):
    """timm's ``cyclemlp_b1`` with few channels."""
    monkeypatch.setitem(zoo.ZOO, 'b1', zoo.ZOO['b1']._replace(arch=SMALL))
    return lambda **kwargs: timm.create_model('cyclemlp_b1', **kwargs).eval()


def check_logits(found, arch, reference):
    expected = torch.from_numpy(reference[f'{arch}/logits/1x3x75x51'])
    # Another order of summation in float32: a few 1e-6 of the largest logit.
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize('arch', ['b2', 'b3', 'b4', 'b5'])
def test_names_give_the_reference(original, release, reference, formula, arch):
    release(arch, original(arch))
    image = torch.from_numpy(formula.tensor('input-1x3x75x51', SIZE))
    with torch.inference_mode():
        check_logits(create_model(f'cyclemlp_{arch}', pretrained=True).eval()(image), arch, reference)


@pytest.mark.slow
def test_every_api_gives_the_reference(original, release, reference, formula):
    release('b1', original('b1'))
    apis = pytest.importorskip('mmpretrain.apis')
    assert {f'cyclemlp-b{n}_imagenet' for n in range(1, 6)} <= set(apis.list_models('cyclemlp*'))
    hub = dict(source='local', trust_repo=True, pretrained=True)
    models = [
        create_model('cyclemlp_b1', pretrained=True),
        timm.create_model('cyclemlp_b1', pretrained=True),
        timm.create_model('cyclemlp_b1', pretrained=True, pretrained_cfg_overlay=dict(file=str(original('b1')))),
        torch.hub.load(str(REPO), 'cyclemlp_b1', **hub),
        apis.get_model('cyclemlp-b1_imagenet', pretrained=True),
    ]
    image = torch.from_numpy(formula.tensor('input-1x3x75x51', SIZE))
    for model in models:
        with torch.inference_mode():
            check_logits(model.eval()(image), 'b1', reference)
    picture = (np.arange(64 * 80 * 3) % 251).astype(np.uint8).reshape(64, 80, 3)
    result = apis.inference_model(models[-1], picture)
    assert len(result['pred_scores']) == 1000 and result['pred_class']
    assert (
        apis.ImageClassificationInferencer('cyclemlp-b1_imagenet', pretrained=True)(picture)[0]['pred_label']
        == (result['pred_label'])
    )
    features = apis.FeatureExtractor('cyclemlp-b1_imagenet', pretrained=True)(picture, stage='backbone')[0]
    assert [tuple(each.shape) for each in features] == [(512, 7, 7)]


def test_a_hostile_file_runs_nothing_behind_any_api(release, tmp_path):
    torch.save(dict(model=Evil(f'touch {tmp_path / "RAN"}')), tmp_path / 'CycleMLP_B1.pth')
    release('b1', tmp_path / 'CycleMLP_B1.pth')
    apis = pytest.importorskip('mmpretrain.apis')
    overlay = dict(file=str(tmp_path / 'CycleMLP_B1.pth'))
    for load in (
        lambda: timm.create_model('cyclemlp_b1', pretrained=True),
        lambda: timm.create_model('cyclemlp_b1', pretrained=True, pretrained_cfg_overlay=overlay),
        lambda: torch.hub.load(str(REPO), 'cyclemlp_b1', source='local', pretrained=True),
        lambda: apis.get_model('cyclemlp-b1_imagenet', pretrained=True),
    ):
        with pytest.raises(InputError, match='asks to run'):
            load()
    assert not (tmp_path / 'RAN').exists()


@pytest.mark.slow
def test_importing_is_light_and_the_others_find_us_in_any_order():
    code = """
import sys, mmcyclemlp
print([name for name in ('timm', 'mmpretrain', 'mmdet', 'mmseg') if name in sys.modules])
from mmengine import Config
print(Config.fromfile('configs/cyclemlp/camvid_fpn_b1.py').default_scope)
import timm
print(timm.is_model('cyclemlp_b5'), timm.models.get_pretrained_cfg('cyclemlp_b5').crop_pct)
from mmpretrain import list_models
print('cyclemlp-b1_imagenet' in list_models('cyclemlp*'))
"""
    done = subprocess.run([sys.executable, '-c', code], cwd=REPO, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if 'OneDL' not in line]  # a notice of the libraries
    assert lines == ['[]', 'mmseg', 'True 0.875', 'True'], done.stdout + done.stderr


# What timm's own tests (tests/test_models.py) ask of each model.


def test_timm_classifier(small):
    model = small()
    image = torch.randn(1, 3, 224, 224)
    cfg = model.default_cfg
    state = model.state_dict()
    assert f'{cfg["first_conv"]}.weight' in state and f'{cfg["classifier"]}.weight' in state
    assert model(image).shape == (1, model.num_classes) == (1, 1000)
    features = model.forward_features(image)
    assert features.shape == (1, model.num_features, *cfg['pool_size'])
    assert model.forward_head(features, pre_logits=True).shape == (1, model.head_hidden_size)
    assert model.get_classifier() is model.head.fc and isinstance(model.get_classifier(), torch.nn.Linear)
    model.reset_classifier(0)
    assert model(image).shape == (1, model.num_features)
    model.reset_classifier(0, '')
    torch.testing.assert_close(model(image), features)
    model.reset_classifier(5, 'avg')
    assert model(image).shape == (1, 5)
    assert timm.create_model('cyclemlp_b1', num_classes=0, global_pool='').eval()(image).shape == features.shape
    with pytest.raises(InputError, match="global_pool='avg' for 5 classes"):
        model.reset_classifier(5, '')
    with pytest.raises(InputError, match="global_pool 'avg' or '', got 5 and 'max'"):
        model.reset_classifier(5, 'max')


def test_timm_trains(small):
    model = small(num_classes=42, drop_rate=0.1, drop_path_rate=0.1, in_chans=1).train()
    model.set_grad_checkpointing()
    model(torch.randn(2, 1, 64, 64)).mean().backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    from timm.optim import create_optimizer_v2

    groups = create_optimizer_v2(model, 'adamw', lr=1.0, weight_decay=0.05, layer_decay=0.5).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    scale = {names[id(p)]: group['lr_scale'] for group in groups for p in group['params']}
    order = [
        scale[f'backbone.{name}.weight']
        for name in ('patch_embed.proj', 'stages.0.0.norm1', 'downsamples.0.proj', 'stages.1.0.norm1', 'norm3')
    ]
    assert order == sorted(set(order)) and scale['head.fc.weight'] == 1
    assert model.no_weight_decay() == set() and set(model.group_matcher(coarse=True)) == {'stem', 'blocks'}


@pytest.mark.parametrize('indices', [None, (1, 3), (0, -2)])
def test_timm_features(small, indices):
    kwargs = {} if indices is None else dict(out_indices=indices)
    model = small(features_only=True, **kwargs)
    image = torch.randn(1, 3, 64, 96)
    maps = model(image)
    taken = [i % 4 for i in indices or range(4)]
    assert model.feature_info.channels() == [m.shape[1] for m in maps] == [(8, 8, 16, 16)[i] for i in taken]
    assert [(64 // r, 96 // r) for r in model.feature_info.reduction()] == [tuple(m.shape[2:]) for m in maps]
    assert not any('head' in name for name, _ in model.named_parameters())


def test_timm_intermediates(small):
    model, image = small(), torch.randn(1, 3, 64, 64)
    final, maps = model.forward_intermediates(image)
    torch.testing.assert_close(final, model.forward_features(image))
    torch.testing.assert_close(model.forward_head(final), model(image))
    only = model.forward_intermediates(image, indices=[1, 2], intermediates_only=True, stop_early=True)
    assert all(torch.equal(a, b) for a, b in zip(only, maps[1:3]))
    normed = model.forward_intermediates(image, indices=1, norm=True, intermediates_only=True)
    torch.testing.assert_close(normed[0], final)
    for indices in ([4], [-5], [], 0):
        with pytest.raises(InputError, match='expected numbers of stages from 0 to 3'):
            model.forward_intermediates(image, indices=indices)
    with pytest.raises(InputError, match='expected output_fmt NCHW'):
        model.forward_intermediates(image, output_fmt='NLC')
    assert model.prune_intermediate_layers([1]) == [1] and len(model.backbone.stages) == 2
    torch.testing.assert_close(model.forward_intermediates(image, [0], intermediates_only=True)[0], maps[0])


def test_torch_hub_offers_the_models_alone():
    names = [name for name, value in runpy.run_path(str(REPO / 'hubconf.py')).items() if callable(value)]
    assert [name for name in names if not name.startswith('_')] == list(list_models())
