"""The backbone: parity with the original, every promise of its contract, and its errors."""

import copy
import json
import re

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmcyclemlp.checkpoints import convert, create_model
from mmcyclemlp.checkpoints.zoo import ZOO
from mmcyclemlp.models import ARCHS, CycleBlock, CycleFC, CycleMLP, CycleMLPClassifier, OverlapPatchEmbed
from mmcyclemlp.ops import use_backend

SIZES = ['2x3x64x96', '1x3x75x51']
AUTHORS = ('b1', 'b2', 'b3', 'b4', 'b5')  # those with reference outputs
# 1000 classes / features only; of the authors' archs, as computed from the original code.
PARAMETERS = {
    'nano': (1276040, 1115488),
    'b1': (15155400, 14643424),
    'b2': (26802504, 26290528),
    'b3': (38385720, 37873744),
    'b4': (51796552, 51284576),
    'b5': (75747280, 74979624),
}
TINY = dict(depths=(1, 2, 1), embed_dims=(8, 12, 16), mlp_ratios=(2, 2, 4))


def tiny(**kwargs):
    return CycleMLP(**{**dict(arch=TINY, out_indices=(0, 1, 2)), **kwargs})


@pytest.fixture(scope='module')
def original(golden, formula):
    """``original(arch, form)``: the state dict the reference outputs were computed with."""
    shapes = json.loads((golden / 'official_keys.json').read_text())

    def load(arch, form):
        state = formula.state_dict(shapes[arch][form])
        return {name: torch.from_numpy(value) for name, value in state.items()}

    return load


def classifier(arch, original):
    model = CycleMLPClassifier(CycleMLP(arch), 1000).eval()
    model.load_state_dict(convert(original(arch, 'classifier')).state_dict)
    return model


def assert_round_off(value, expected):
    """Float32 summed in another order: 2.1e-6 of the largest value at most was measured, over b1 to b5.

    The bound is four times that. A LayerNorm of eps 1e-6 instead of 1e-5 gives 1.5e-5, the shifts along the wrong
    axis or the reweighting reshaped to (B, 3, C) 0.6, a kernel of 7 instead of 3 more than 1.
    """
    expected = torch.from_numpy(np.asarray(expected))
    error = (value.detach() - expected).abs().max() / expected.abs().max()
    assert error < 8e-6, f'largest difference {error:.1e} of the largest value'


@pytest.mark.slow
@pytest.mark.parametrize('arch', AUTHORS)
def test_parity_with_the_original(arch, original, reference, formula, tmp_path, monkeypatch):
    features = CycleMLP(arch, out_indices=(0, 1, 2, 3)).eval()
    state = convert(original(arch, 'features')).state_dict
    features.load_state_dict({k.removeprefix('backbone.'): v for k, v in state.items()})
    torch.save(dict(model=original(arch, 'classifier')), tmp_path / f'CycleMLP_{arch}.pth')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.setitem(ZOO, arch, ZOO[arch]._replace(url=(tmp_path / f'CycleMLP_{arch}.pth').as_uri()))
    logits = create_model(f'cyclemlp_{arch}', pretrained=True).eval()
    step = 1 if arch == 'b1' else 16
    for size in SIZES:
        x = torch.from_numpy(formula.tensor(f'input-{size}', tuple(map(int, size.split('x')))))
        with torch.no_grad():
            assert_round_off(logits(x), reference[f'{arch}/logits/{size}'])
            for i, out in enumerate(features(x)):
                assert_round_off(out[:, ::step], reference[f'{arch}/stage{i}/{size}'])


def test_gradients_of_the_original(original, reference, formula):
    model = classifier('b1', original)
    x = torch.from_numpy(formula.tensor(f'input-{SIZES[0]}', (2, 3, 64, 96)))
    loss = model(x).square().mean()
    loss.backward()
    assert loss.item() == pytest.approx(float(reference['b1/loss']), rel=1e-5)
    gradients = {name: p.grad for name, p in model.named_parameters()}
    for name in original('b1', 'classifier'):
        value = gradients.pop(our_name(name)).norm().item()
        assert value == pytest.approx(float(reference[f'b1/gradnorm/{name}']), rel=1e-4), name
    assert not gradients


def our_name(name):
    """An original parameter's name in `CycleMLPClassifier`, without the converter under test elsewhere."""
    stage = re.match(r'network\.([0246])\.', name)
    if stage:
        name = f'stages.{int(stage[1]) // 2}.{name[len(stage[0]) :]}'
    name = re.sub(r'^network\.([135])', lambda m: f'downsamples.{int(m[1]) // 2}', name)
    name = name.replace('attn.sfc_h', 'mixer.shift_w').replace('attn.sfc_w', 'mixer.shift_h')
    name = name.replace('attn.mlp_c', 'mixer.channel').replace('attn.', 'mixer.')
    name = re.sub(r'^norm\.', 'norm3.', name)
    return re.sub(r'^head\.', 'head.fc.', name) if name.startswith('head') else f'backbone.{name}'


@pytest.mark.parametrize('arch', sorted(ARCHS))
def test_parameter_counts(arch):
    with torch.device('meta'):
        features, model = CycleMLP(arch, out_indices=range(4)), CycleMLPClassifier(CycleMLP(arch), 1000)
    count = [sum(p.numel() for p in m.parameters()) for m in (model, features)]
    assert tuple(count) == PARAMETERS[arch]


@pytest.mark.parametrize('size', [(3, 3), (3, 64), (7, 5), (33, 65), (224, 32)], ids=str)
@pytest.mark.parametrize('stem_stride', [4, 2, 1])
def test_any_size(size, stem_stride):
    model = tiny(stem_stride=stem_stride).eval()
    with torch.no_grad():
        outs = model(torch.randn(2, 3, *size))
    sides = [(s + 1) // 4 if stem_stride == 4 else -(-s // stem_stride) for s in size]
    for out, channels in zip(outs, (8, 12, 16)):
        assert out.shape == (2, channels, *sides) and out.is_contiguous() and out.isfinite().all()
        sides = [-(-s // 2) for s in sides]


def test_stage_sizes_of_the_original():
    model = tiny(out_indices=(0, 2))
    assert [o.shape[2] for o in model(torch.randn(1, 3, 224, 224))] == [56, 14]
    assert [o.shape[2] for o in model(torch.randn(1, 3, 32, 32))] == [8, 2]


def test_shapes_without_numbers():
    with torch.device('meta'):
        outs = tiny()(torch.zeros(2, 3, 160, 96))
    assert [tuple(out.shape) for out in outs] == [(2, 8, 40, 24), (2, 12, 20, 12), (2, 16, 10, 6)]
    assert all(out.is_meta for out in outs)


def test_batches_are_independent():
    model, x = tiny().eval(), torch.randn(3, 3, 40, 24)
    for whole, single in zip(model(x), model(x[1:2])):
        torch.testing.assert_close(whole[1:2], single, atol=1e-5, rtol=1e-5)
    assert [tuple(o.shape) for o in model(x[:0])] == [(0, 8, 10, 6), (0, 12, 5, 3), (0, 16, 3, 2)]


@pytest.mark.parametrize('out_indices', [(0,), (1, 2), (2,), (0, 1, 2)], ids=str)
def test_every_parameter_gets_a_gradient(out_indices):
    # What is built but never used would stop distributed training.
    model = tiny(out_indices=out_indices)
    assert len(model.stages) == max(out_indices) + 1
    outs = model(torch.randn(2, 3, 32, 32))
    assert len(outs) == len(out_indices)
    sum(out.square().sum() + out.sum() for out in outs).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_state_dict_keys():
    keys = set(tiny(out_indices=(1, 2)).state_dict())
    assert {key.split('.')[0] for key in keys} == {'patch_embed', 'stages', 'downsamples', 'norm1', 'norm2'}
    assert {key.removeprefix('stages.1.1.') for key in keys if key.startswith('stages.1.1.')} == {
        'norm1.weight',
        'norm1.bias',
        'mixer.shift_w.weight',
        'mixer.shift_w.bias',
        'mixer.shift_h.weight',
        'mixer.shift_h.bias',
        'mixer.channel.weight',
        'mixer.reweight.fc1.weight',
        'mixer.reweight.fc1.bias',
        'mixer.reweight.fc2.weight',
        'mixer.reweight.fc2.bias',
        'mixer.proj.weight',
        'mixer.proj.bias',
        'norm2.weight',
        'norm2.bias',
        'mlp.fc1.weight',
        'mlp.fc1.bias',
        'mlp.fc2.weight',
        'mlp.fc2.bias',
    }


def test_initial_values():
    model = CycleMLP(dict(depths=(1,), embed_dims=(64,), mlp_ratios=(4,)), out_indices=(0,))
    model.init_weights()
    for name, module in model.named_modules():
        if name.split('.')[-1] in ('shift_w', 'shift_h', 'channel', 'proj', 'fc1', 'fc2') and 'patch' not in name:
            assert 0.017 < module.weight.std() < 0.023, name
            assert module.bias is None or not module.bias.any(), name
        if isinstance(module, nn.LayerNorm):
            assert module.eps == 1e-5 and module.weight.eq(1).all() and not module.bias.any()
    bound = (3 * 7 * 7) ** -0.5  # PyTorch's default for a convolution
    assert 0.9 * bound < model.patch_embed.proj.weight.abs().max() <= bound


@pytest.mark.parametrize(
    'frozen, expected',
    [
        (-1, set()),
        (0, {'patch_embed'}),
        (1, {'patch_embed', 'stages.0', 'norm0'}),
        (2, {'patch_embed', 'stages.0', 'norm0', 'downsamples.0', 'stages.1', 'norm1'}),
    ],
)
def test_frozen_stages(frozen, expected):
    model = tiny(frozen_stages=frozen, drop_path_rate=0.5)
    assert model.train() is model and model.eval() is model and model.train().training
    is_frozen = {}
    for name, parameter in model.named_parameters():
        part = '.'.join(name.split('.')[: 2 if name.startswith(('stages', 'downsamples')) else 1])
        is_frozen.setdefault(part, set()).add(not parameter.requires_grad)
    assert {part for part, values in is_frozen.items() if values == {True}} == expected
    assert all(len(values) == 1 for values in is_frozen.values())
    for part in expected:
        assert not any(m.training for m in model.get_submodule(part).modules())
    sum(out.sum() for out in model(torch.randn(2, 3, 32, 32))).backward()
    assert all((p.grad is None) != p.requires_grad for p in model.parameters())


def test_frozen_stages_beyond_the_last_output():
    model = tiny(out_indices=(0,), frozen_stages=3)
    assert not any(p.requires_grad for p in model.parameters())


def test_checkpointing_changes_memory_not_numbers():
    plain = tiny(drop_path_rate=0.3)
    saving = tiny(drop_path_rate=0.3, with_cp=True)
    saving.load_state_dict(plain.state_dict())
    x, saved = torch.randn(4, 3, 32, 32), []

    def run(model):
        torch.manual_seed(1)
        count = [0]

        def pack(tensor):
            count[0] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = sum(out.square().mean() for out in model(x))
        saved.append(count[0])
        loss.backward()
        return loss, [p.grad for p in model.parameters()]

    torch.testing.assert_close(run(plain), run(saving))
    assert saved[1] < saved[0] / 2


def test_drop_path_rises_over_all_blocks():
    def rates(model):
        return [getattr(m.drop_path, 'drop_prob', 0.0) for m in model.modules() if isinstance(m, CycleBlock)]

    assert rates(tiny(drop_path_rate=0.3)) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert rates(tiny(drop_path_rate=0.3, out_indices=(1,))) == pytest.approx([0, 0.1, 0.2])
    model, x = tiny(drop_path_rate=0.9), torch.randn(2, 3, 32, 32)
    assert not torch.equal(model(x)[-1], model(x)[-1])
    assert torch.equal(model.eval()(x)[-1], model(x)[-1])


@pytest.mark.parametrize('kernel_size', [1, 5, 9])
def test_kernel_size(kernel_size):
    model, x = tiny(kernel_size=kernel_size).eval(), torch.randn(1, 3, 40, 40)
    outs = model(x)
    with use_backend('deform_conv'):
        for out, expected in zip(outs, model(x)):
            torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    assert {m.kernel_size for m in model.modules() if isinstance(m, CycleFC)} == {(1, kernel_size), (kernel_size, 1)}


def test_backend_reaches_every_layer():
    layers = [m for m in tiny(backend='deform_conv').modules() if hasattr(m, 'backend')]
    assert len(layers) == 12 and {m.backend for m in layers} == {'deform_conv'}


def test_found_by_every_library_without_a_scope():
    import mmdet.registry
    import mmpretrain.registry
    import mmseg.registry

    cfg = dict(type='CycleMLP', arch=TINY, out_indices=(0, 2))
    before = copy.deepcopy(cfg)
    for registry in (MODELS, mmpretrain.registry.MODELS, mmdet.registry.MODELS, mmseg.registry.MODELS):
        assert type(registry.build(cfg)) is CycleMLP
    assert cfg == before


@pytest.mark.slow
def test_trace_export_and_compile():
    model = CycleMLP(dict(depths=(1, 1), embed_dims=(8, 12), mlp_ratios=(2, 2)), out_indices=(0, 1)).eval()
    first, second = torch.randn(2, 3, 48, 40), torch.randn(1, 3, 35, 70)
    with torch.no_grad():
        expected = model(second)
        traced = torch.jit.trace(model, first)
        torch.testing.assert_close(traced(second), expected, atol=1e-5, rtol=1e-5)
        compiled = torch.compile(model, backend='aot_eager', fullgraph=True, dynamic=False)
        torch.testing.assert_close(compiled(second), expected, atol=1e-5, rtol=1e-5)
        from torch.export import Dim, export

        dims = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
        program = export(model, (first,), dynamic_shapes=(dims,))
        torch.testing.assert_close(program.module()(second), expected, atol=1e-5, rtol=1e-5)


def test_autocast():
    model, x = tiny().eval(), torch.randn(2, 3, 40, 40)
    exact = model(x)[-1]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        low = model(x)[-1]
    # bfloat16 keeps 8 bits: a few 1e-3 an operation, over a dozen of them; normed maps are of size 1.
    assert (low.float() - exact).abs().mean() < 0.03


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(arch='b6'), r"arch must be one of \['b1', 'b2', 'b3', 'b4', 'b5', 'nano'\] or a dict .* got 'b6'"),
        (dict(arch=dict(depths=(1,))), r"exactly \['depths', 'embed_dims', 'mlp_ratios'\], got \['depths'\]"),
        (dict(arch=3), 'or a dict with .* got 3'),
        (dict(arch={**TINY, 'depths': (1, 2)}), 'equally long, 1 to 4 stages'),
        (dict(arch={**TINY, 'depths': (1, 0, 1)}), 'at least 1 block'),
        (dict(arch={**TINY, 'depths': 2}), r'depths must be a sequence of whole numbers, got 2'),
        (dict(arch={**TINY, 'depths': (2.0, 1, 1)}), r'depths must be a sequence of whole numbers, got \(2.0, 1, 1\)'),
        (dict(arch={**TINY, 'embed_dims': 'abc'}), r"embed_dims must be a sequence of whole numbers, got 'abc'"),
        (
            dict(arch={**TINY, 'mlp_ratios': (1, 'a', 1)}),
            r"mlp_ratios must be a sequence of numbers, got \(1, 'a', 1\)",
        ),
        (dict(out_indices=([1],)), r'rising stage numbers .* got \(\[1\],\)'),
        (dict(backend='fast'), r"backend must be 'auto' or one of .* got 'fast'"),
        (dict(kernel_size=4), r'kernel_size must be .* odd positive integer, got \(1, 4\)'),
        (dict(kernel_size=(3, 3)), r'one odd number for both directions, got \(3, 3\)'),
        (dict(out_indices=(3,)), r'rising stage numbers from 0 to 2, such as \(0, 1, 2\), got \(3,\)'),
        (dict(out_indices=(1, 0)), r'rising stage numbers .* got \(1, 0\)'),
        (dict(out_indices=(1, 1)), r'rising stage numbers .* got \(1, 1\)'),
        (dict(out_indices=(-1,)), r'rising stage numbers .* got \(-1,\)'),
        (dict(out_indices=()), r'rising stage numbers .* got \(\)'),
        (dict(out_indices=2), r'rising stage numbers .* got 2'),
        (dict(frozen_stages=4), 'frozen_stages must be -1 .* up to 3, got 4'),
        (dict(stem_stride=3), r'stem_stride must be one of \[1, 2, 4\], got 3'),
        (dict(stem_stride=[4]), r'stem_stride must be one of \[1, 2, 4\], got \[4\]'),
        (dict(drop_path_rate=1.0), r'drop_path_rate must lie in \[0, 1\), got 1.0'),
        (dict(drop_path_rate='a'), r"drop_path_rate must lie in \[0, 1\), got 'a'"),
        (dict(in_channels='3'), "in_channels must be a whole number from 1 up, got '3'"),
        (dict(in_channels=0), 'in_channels must be a whole number from 1 up, got 0'),
        (dict(arch={**TINY, 'mlp_ratios': (2, 0.01, 2)}), '1 hidden unit'),
    ],
    ids=str,
)
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        tiny(**kwargs)


@pytest.mark.parametrize(
    'shape, remedy',
    [
        ((1, 3, 2, 8), 'resize the image'),
        ((1, 3, 8, 1), 'resize the image'),
        ((1, 1, 8, 8), 'set in_channels'),
        ((3, 8, 8), 'give a batch'),
    ],
    ids=str,
)
def test_wrong_image(shape, remedy):
    with pytest.raises(ValueError, match=rf'takes images \[B, 3, H, W\] with H and W at least 3, got \[.*; {remedy}$'):
        tiny()(torch.zeros(shape))


def test_small_stems_keep_the_map():
    assert OverlapPatchEmbed(3, 8, 1)(torch.zeros(1, 3, 32, 32)).shape == (1, 32, 32, 8)
    assert OverlapPatchEmbed(3, 8, 2)(torch.zeros(1, 3, 32, 32)).shape == (1, 16, 16, 8)
