"""Converting the authors' checkpoints."""

import importlib.util
import os

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint

from mmcyclemlp.checkpoints import check_fits, convert, read_checkpoint
from mmcyclemlp.errors import InputError

from . import originals
from .helpers import REPO
from .originals import add_offsets, original_name, save_original

TOOL = REPO / 'tools' / 'convert_checkpoint.py'
FORMS = ('classifier', 'features')
keys, original_b1 = originals.keys, originals.original_b1  # fixtures


@pytest.fixture(scope='session')
def convert_tool():
    """The tool's ``main``."""
    spec = importlib.util.spec_from_file_location('convert_checkpoint', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


class Detector(BaseModule):
    """What mmdet's and mmseg's models do with a backbone."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = MODELS.build(backbone)


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('arch', ['b1', 'b2', 'b3', 'b4', 'b5'])
@pytest.mark.slow
def test_converts_every_arch(keys, arch, form):
    # A number of its own for each entry, broadcast so that nothing is allocated.
    state_dict = {key: torch.tensor(float(i)).expand(shape) for i, (key, shape) in enumerate(keys[arch][form].items())}
    result = convert(add_offsets(dict(state_dict)))
    assert (result.arch, result.form) == (arch, 'classifier' if form == 'classifier' else 'dense')
    assert result.out_indices == ((3,) if form == 'classifier' else (0, 1, 2, 3))
    assert result.num_classes == (1000 if form == 'classifier' else None)

    names = {key: original_name(key) for key in result.state_dict}
    if form == 'classifier':
        names.update({f'backbone.norm3.{kind}': f'norm.{kind}' for kind in ('weight', 'bias')})
    assert sorted(names.values()) == sorted(state_dict)  # each key used once
    for key, value in result.state_dict.items():
        source = state_dict[names[key]]
        assert value.flatten()[0] == source.flatten()[0], key
        assert value.numel() == source.numel(), key


def test_dense_form_without_first_norm(keys):
    # What the original writes for detectors that start at stage 1.
    state_dict = {
        key: torch.zeros(()).expand(shape)
        for key, shape in keys['b1']['features'].items()
        if not key.startswith('norm0.')
    }
    result = convert(state_dict)
    assert (result.form, result.out_indices) == ('dense', (1, 2, 3))
    assert 'backbone.norm0.weight' not in result.state_dict


@pytest.mark.slow
def test_converted_classifier_has_reference_logits(original_b1, reference, formula, tmp_path, convert_tool, capsys):
    pytest.importorskip('mmpretrain', reason='mmpretrain builds the classifier')
    from mmpretrain.models import ImageClassifier

    source, target = save_original(original_b1, tmp_path / 'b1.pth'), tmp_path / 'out' / 'b1.pth'
    target.parent.mkdir()
    assert convert_tool([str(source), str(target)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == ['recognised CycleMLP b1, classifier of 1000 classes, 15,155,400 parameters', f'wrote {target}']
    assert f"init_cfg=dict(type='Pretrained', checkpoint='{target}', prefix='backbone.')" in out[2]
    assert f"load_from='{target}'" in out[3]
    assert os.listdir(target.parent) == ['b1.pth']

    checkpoint = read_checkpoint(target)
    assert checkpoint['meta']['arch'] == 'b1' and checkpoint['meta']['num_classes'] == 1000
    init_default_scope('mmpretrain')
    model = ImageClassifier(
        backbone=dict(type='CycleMLP', arch='b1'),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=1000, in_channels=512),
    )
    check_fits(model, checkpoint, target)
    load_checkpoint(model, str(target), strict=True)
    model.eval()
    for size in ((2, 3, 64, 96), (1, 3, 75, 51)):
        name = 'x'.join(map(str, size))
        with torch.no_grad():
            logits = model(torch.from_numpy(formula.tensor(f'input-{name}', size)))
        expected = torch.from_numpy(reference[f'b1/logits/{name}'])
        # Another order of summation in float32: a few 1e-6 of the largest logit.
        assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_backbone_through_init_cfg(original_b1, tmp_path, convert_tool):
    target = tmp_path / 'b1.pth'
    assert convert_tool([str(save_original(original_b1, tmp_path / 'original.pth')), str(target)]) == 0
    model = Detector(
        dict(
            type='CycleMLP',
            arch='b1',
            out_indices=(1, 2, 3),
            init_cfg=dict(type='Pretrained', checkpoint=str(target), prefix='backbone.'),
        )
    )
    model.init_weights()
    torch.testing.assert_close(
        model.backbone.stages[2][3].mixer.shift_w.weight.detach(),
        original_b1['network.4.3.attn.sfc_h.weight'][..., 0, 0],
        rtol=0,
        atol=0,
    )
    torch.testing.assert_close(model.backbone.norm3.bias.detach(), original_b1['norm.bias'], rtol=0, atol=0)
    assert torch.equal(model.backbone.norm1.weight, torch.ones(128))  # a classifier has no norm for it


def test_tool_takes_url_bare_state_dict_and_existing_target(original_b1, tmp_path, tool):
    source, target = tmp_path / 'source.pth', tmp_path / 'target.pth'
    torch.save({key: value for key, value in original_b1.items() if not key.endswith('offset')}, source)
    target.write_text('older')
    code, output, error = tool(tmp_path, 'convert_checkpoint.py', source.as_uri(), target)
    assert (code, error) == (0, '')
    assert 'CycleMLP b1' in output
    assert sorted(os.listdir(tmp_path)) == ['source.pth', 'target.pth']
    assert read_checkpoint(target)['meta']['source'] == source.as_uri()


def test_saves_no_more_than_the_views(original_b1, tmp_path, convert_tool):
    # A state dict cut out of one large tensor, as some tools save it.
    pool = torch.zeros(4_000_000)
    state_dict = {
        key: pool[: value.numel()].view(value.shape) for key, value in original_b1.items() if not key.endswith('offset')
    }
    source = save_original(state_dict, tmp_path / 'a.pth')
    assert convert_tool([str(source), str(tmp_path / 'b.pth')]) == 0
    loaded = read_checkpoint(tmp_path / 'b.pth')['state_dict']
    assert all(value.untyped_storage().nbytes() == 4 * value.numel() for value in loaded.values())


def drop(key):
    return lambda state_dict: state_dict.pop(key)


def put(key, value):
    return lambda state_dict: state_dict.__setitem__(key, value)


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda s: add_offsets(s, 7), r'offsets of kernel size 3, but .*sfc_.\.offset\) are of kernel size 7'),
        (put('network.2.1.attn.sfc_w.offset', torch.full((1, 256, 1, 1), 5.0)), 'are of none that CycleFC makes'),
        # dy and dx swapped: the staircase of the other direction.
        (
            lambda s: s.update({'network.0.0.attn.sfc_h.offset': s['network.0.0.attn.sfc_w.offset']}),
            r'\(network\.0\.0\.attn\.sfc_h\.offset\) are of none',
        ),
        (put('network.0.9.attn.sfc_w.offset', torch.zeros(1, 128, 1, 1)), 'network.0.9.attn.sfc_w.offset alone'),
        (drop('network.0.0.attn.proj.bias'), r'missing backbone\.stages\.0\.0\.mixer\.proj\.bias;'),
        (drop('head.weight'), r'missing head\.fc\.weight;'),
        (drop('network.6.1.mlp.fc1.weight'), r'stages of \(2, 2, 4, 1\) blocks'),
        (put('network.0.0.attn.extra.weight', torch.zeros(2)), r'but b1 holds network\.0\.0\.attn\.extra\.weight;'),
        (put('network.0.0.norm1.weight.more', torch.zeros(2)), r'network\.0\.0\.norm1\.weight\.more'),
        (put('norm.weight', torch.zeros(511)), r'norm3\.weight \[511\] instead of \[512\]'),
        (put('network.0.0.attn.sfc_h.weight', torch.zeros(64, 64, 3, 1)), r'shift_w\.weight \[64, 64, 3, 1\] instead'),
        (put('norm6.weight', torch.zeros(512)), 'mixes both'),
        (put('norm.bias', torch.zeros(512, dtype=torch.int64)), r'dense floating-point tensors, .*norm\.bias'),
        (put('norm.bias', torch.zeros(512).to_sparse()), r'dense floating-point tensors, .*norm\.bias'),
        (put('norm.bias', [0.0] * 512), r'state dict of tensors, but b1 holds something else under norm\.bias;'),
    ],
    ids=[
        'k7',
        'wrong offset',
        'swapped',
        'offset alone',
        'missing',
        'no head',
        'missing block',
        'unknown',
        'longer key',
        'shape',
        'kernel shape',
        'mixed forms',
        'integer',
        'sparse',
        'list',
    ],
)
def test_refuses_changed_state_dict(original_b1, change, message):
    state_dict = dict(original_b1)
    change(state_dict)
    with pytest.raises(InputError, match=message):
        convert(state_dict, 'b1')


def test_refuses_converted_weights(original_b1):
    converted = convert(original_b1).state_dict
    with pytest.raises(InputError, match='CycleMLP b1 under the names of mmcyclemlp'):
        convert(converted, 'ours')


def test_bad_targets(original_b1, tmp_path, convert_tool, capsys):
    source = save_original(original_b1, tmp_path / 'b1.pth')
    before = source.read_bytes()
    for target, message in (
        (tmp_path, 'is a folder'),
        (tmp_path / 'no' / 'b1.pth', 'existing folder'),
        (source, 'both are'),
        (tmp_path / ('x' * 300), 'could not write'),
    ):
        assert convert_tool([str(source), str(target)]) == 2
        assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == ['b1.pth'] and source.read_bytes() == before


def test_failed_write_keeps_older_target(original_b1, tmp_path, convert_tool, capsys, short_of_space):
    source, target = save_original(original_b1, tmp_path / 'b1.pth'), tmp_path / 'target.pth'
    target.write_text('older')
    with short_of_space():
        assert convert_tool([str(source), str(target)]) == 2
    assert 'target.pth (File too large); check the permissions and the free space' in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ['b1.pth', 'target.pth'] and target.read_text() == 'older'
