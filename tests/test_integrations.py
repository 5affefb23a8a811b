"""CycleMLP in the APIs of timm, torch.hub and mmpretrain, with the weights of the reference outputs behind them."""

import json
import pickle
import runpy
import subprocess
import sys
from functools import partial

import mmcv
import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.registry import init_default_scope

from mmcyclemlp import Predictor, create_model, list_models
from mmcyclemlp.checkpoints import zoo
from mmcyclemlp.datasets.digit_scenes import digit_scene
from mmcyclemlp.errors import InputError
from mmcyclemlp.models import ARCHS

from .harm import Evil
from .helpers import NEEDS_OPERATORS, REPO
from .originals import add_offsets, save_original

timm = pytest.importorskip('timm')
from timm.models import PretrainedCfg, save_for_hf  # noqa: E402

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


def by_config(arch):
    """A classifier as a config makes it."""
    from mmpretrain.registry import MODELS

    head = dict(type='LinearClsHead', num_classes=1000, in_channels=ARCHS[arch]['embed_dims'][-1])
    parts = dict(backbone=dict(type='CycleMLP', arch=arch), neck=dict(type='GlobalAveragePooling'), head=head)
    init_cfg = dict(type='Pretrained', checkpoint=f'cyclemlp://{arch}')
    model = MODELS.build(dict(type='ImageClassifier', init_cfg=init_cfg, **parts))
    model.init_weights()
    return model


@pytest.mark.slow
@pytest.mark.parametrize('arch', ['b1', 'b2', 'b5'])  # all five by our own function: test_cyclemlp.py
def test_every_api_gives_the_reference(original, release, reference, formula, arch):
    release(arch, original(arch))
    init_default_scope('mmpretrain')  # another test may have left that of another library
    apis = pytest.importorskip('mmpretrain.apis')
    name, file = f'cyclemlp_{arch}', str(original(arch))
    models = [timm.create_model(name, pretrained=True), apis.get_model(f'cyclemlp-{arch}_imagenet', pretrained=True)]
    if arch in ('b1', 'b2'):  # the others take long to make; what differs among them is compared above
        models += [
            create_model(name, pretrained=True),
            timm.create_model(name, pretrained=True, pretrained_cfg_overlay=dict(file=file)),
            torch.hub.load(str(REPO), name, source='local', trust_repo=True, pretrained=True),
            by_config(arch),
        ]
    image = torch.from_numpy(formula.tensor('input-1x3x75x51', SIZE))
    expected = torch.from_numpy(reference[f'{arch}/logits/1x3x75x51'])
    with torch.inference_mode():
        for model in models:
            # Another order of summation in float32: a few 1e-6 of the largest logit.
            assert (model.eval()(image) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_timm_loads_the_weights_that_it_is_given(tmp_path, monkeypatch):
    mine = timm.create_model('cyclemlp_digits', num_classes=3)
    save_for_hf(mine, tmp_path / 'mine', safe_serialization=True)
    save_for_hf(mine, tmp_path / 'pickled', safe_serialization=False)
    file = str(tmp_path / 'mine/model.safetensors')
    asked, load = [], partial(create_model, 'cyclemlp_digits', file, 3)
    cfg = dict(num_classes=3)
    for arguments in (
        dict(model_name=f'local-dir:{tmp_path / "mine"}'),
        dict(model_name=f'local-dir:{tmp_path / "pickled"}'),
        dict(pretrained_cfg={**cfg, 'file': file}),
        dict(pretrained_cfg_overlay={**cfg, 'file': file}),
        dict(pretrained_cfg=PretrainedCfg(**cfg, file=file)),
    ):
        back = timm.create_model(**{'model_name': 'cyclemlp_digits', **arguments}, pretrained=True)
        torch.testing.assert_close(back.state_dict(), mine.state_dict(), rtol=0, atol=0)
    with monkeypatch.context() as patch:
        patch.setattr(
            'mmcyclemlp.timm_models.create_model', lambda name, source, *_, **__: asked.append(source) or load()
        )
        for given in (dict(url='https://a.example/b.pth'), dict(hf_hub_id='me/mine'), dict(hf_hub_id='me/mine@v1')):
            timm.create_model('cyclemlp_digits', pretrained=True, pretrained_cfg_overlay={**cfg, **given})
    hub = 'https://huggingface.co/me/mine/resolve/'
    assert asked == ['https://a.example/b.pth', f'{hub}main/model.safetensors', f'{hub}v1/model.safetensors']
    with pytest.raises(InputError, match='but got a state_dict; create the model without pretrained'):
        timm.create_model('cyclemlp_digits', pretrained=True, pretrained_cfg_overlay=dict(state_dict=mine.state_dict()))


def test_mmpretrain_loads_the_weights_of_the_package():
    model = pytest.importorskip('mmpretrain.apis').get_model('cyclemlp-nano_digits', pretrained=True)
    torch.testing.assert_close(model.state_dict(), create_model('cyclemlp_digits', pretrained=True).state_dict())


@pytest.mark.slow
def test_mmpretrains_functions_take_the_names(original, release):
    release('b1', original('b1'))
    init_default_scope('mmpretrain')
    apis = pytest.importorskip('mmpretrain.apis')
    assert {f'cyclemlp-b{n}_imagenet' for n in range(1, 6)} <= set(apis.list_models('cyclemlp*'))
    picture = (np.arange(64 * 80 * 3) % 251).astype(np.uint8).reshape(64, 80, 3)
    result = apis.inference_model('cyclemlp-b1_imagenet', picture, pretrained=True)
    assert len(result['pred_scores']) == 1000 and result['pred_class']
    inferencer = apis.ImageClassificationInferencer('cyclemlp-b1_imagenet', pretrained=True)
    np.testing.assert_array_equal(inferencer(picture)[0]['pred_scores'], result['pred_scores'])
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
    with pytest.raises((RuntimeError, pickle.UnpicklingError), match='(?i)weights'):  # timm allows tensors only
        timm.create_model('cyclemlp_b1', checkpoint_path=overlay['file'])
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


@pytest.mark.slow
@NEEDS_OPERATORS
def test_the_libraries_inferencers_take_our_configs(tmp_path):
    code = """
import sys
import mmcv, numpy, torch
from mmdet.apis import DetInferencer
from mmseg.apis import MMSegInferencer
assert 'mmcyclemlp' not in sys.modules
configs, picture = sys.argv[1:]
image, other = mmcv.imread(picture), mmcv.imread(picture)[:90]
detect = DetInferencer(f'{configs}/digit-scenes_retinanet_nano.py', 'cyclemlp://digit-scenes_retinanet', 'cpu')
for inputs in (picture, image, [other, image]):
    found = detect(inputs)['predictions'][-1]
boxes = torch.tensor(found['bboxes']), torch.tensor(found['scores']), torch.tensor(found['labels'])
segment = MMSegInferencer(f'{configs}/digit-scenes_fpn_nano.py', 'cyclemlp://digit-scenes_fpn', device='cpu')
maps = [segment(inputs)['predictions'] for inputs in (picture, image, [other, image])]
assert list(detect.model.dataset_meta['classes']) == list('0123456789'), detect.model.dataset_meta
assert segment.model.dataset_meta['classes'][:2] == ['background', '0'], segment.model.dataset_meta
torch.save((*boxes, [torch.tensor(each[-1] if isinstance(each, list) else each) for each in maps]), 'found.pth')
"""
    picture = np.ascontiguousarray(digit_scene(3, 'val').image[..., ::-1])
    mmcv.imwrite(picture, str(tmp_path / 'scene.png'))
    command = [sys.executable, '-c', code, REPO / 'configs/cyclemlp', tmp_path / 'scene.png']
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    *found, maps = torch.load(tmp_path / 'found.pth')
    boxes, labels = (
        Predictor(REPO / f'configs/cyclemlp/{name}_nano.py', f'cyclemlp://{name}')(picture)[0]
        for name in ('digit-scenes_retinanet', 'digit-scenes_fpn')
    )
    expected = boxes.pred_instances
    assert len(found[0]) and (expected.scores > 0.4).any()
    for ours, theirs in zip((expected.bboxes, expected.scores, expected.labels), found):
        torch.testing.assert_close(ours, theirs, check_dtype=False)
    assert all(torch.equal(each, labels.pred_sem_seg.data[0]) for each in maps)


def test_no_base_needs_our_import_first():
    # mmengine finds no base in mmseg until mmcyclemlp is imported, and mmseg's own tools import it last.
    for path in (REPO / 'configs').rglob('*.py'):
        assert 'mmseg::' not in path.read_text(), path


def test_configs_are_bases_by_name(tmp_path):
    (tmp_path / 'mine.py').write_text("_base_ = 'mmcyclemlp::cyclemlp/digits_b1.py'\ntrain_cfg = dict(max_epochs=3)\n")
    config = Config.fromfile(tmp_path / 'mine.py')
    assert config.train_cfg.max_epochs == 3 and config.model.backbone.type == 'CycleMLP'


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
    assert model.no_weight_decay() == set()
    from timm.models import group_parameters

    stages = group_parameters(model, model.group_matcher(coarse=True))
    group = {name: number for number, names in stages.items() for name in names}
    with_stage = [('downsamples.0.proj', 'stages.1.0.norm1'), ('downsamples.2.proj', 'stages.3.0.norm1')]
    assert all(group[f'backbone.{a}.weight'] == group[f'backbone.{b}.weight'] for a, b in with_stage)
    assert group['backbone.stages.0.0.norm1.weight'] < group['backbone.downsamples.0.proj.weight']


def test_timm_places_and_names_the_bundled_weights():
    model = timm.create_model('cyclemlp_digits', pretrained=True, device='cpu', dtype=torch.float64).eval()
    cfg = model.default_cfg
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert (cfg['tag'], cfg['num_classes'], cfg['input_size']) == ('digits', 10, (3, 32, 32))
    image = torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
    expected = create_model('cyclemlp_digits', pretrained=True).eval()(image)
    torch.testing.assert_close(model(image.double()).float(), expected)


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
    for indices in ([4], [-5], [], 0, -1, 5):  # as timm's own models refuse them
        with pytest.raises(
            InputError, match='expected numbers of stages from 0 to 3 .* or how many of the last, 1 to 4'
        ):
            model.forward_intermediates(image, indices=indices)
    with pytest.raises(InputError, match=r'takes images \[B, 3, H, W\] with H and W at least 3, got \[1, 3, 2, 64\]'):
        model.forward_intermediates(image[:, :, :2])
    with pytest.raises(InputError, match='expected output_fmt NCHW'):
        model.forward_intermediates(image, output_fmt='NLC')
    assert model.prune_intermediate_layers([1]) == [1] and len(model.backbone.stages) == 2
    torch.testing.assert_close(model.forward_intermediates(image, [0], intermediates_only=True)[0], maps[0])
    last, found = model.forward_intermediates(image)
    for features in (last, found[1], model(image), model.forward_features(image)):  # of the last stage that is left
        torch.testing.assert_close(features, maps[1])
    assert model.num_features == maps[1].shape[1] and len(model.feature_info) == 2


def test_torch_hub_offers_the_models_alone():
    names = [name for name, value in runpy.run_path(str(REPO / 'hubconf.py')).items() if callable(value)]
    assert [name for name in names if not name.startswith('_')] == list(list_models())
