"""Reading, converting and matching checkpoints: the authors', a Runner's, and files that are broken or mean harm."""

import argparse
import copy
import importlib.util
import io
import json
import multiprocessing
import os
import pickle
import re
import socket
import struct
import zipfile

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.model import BaseModel, BaseModule
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint
from mmengine.runner.checkpoint import get_torch_safe_globals
from torch import nn

from mmcyclemlp.checkpoints import arch_of, check_fits, convert, read_checkpoint, register_safe_loader
from mmcyclemlp.errors import InputError
from mmcyclemlp.models import CycleMLP

from .helpers import REPO

TOOL = REPO / 'tools' / 'convert_checkpoint.py'
FORMS = ('classifier', 'features')


@pytest.fixture(scope='session')
def keys(golden):
    """Original keys and shapes by arch and form."""
    return json.loads((golden / 'official_keys.json').read_text())


@pytest.fixture(scope='session')
def original_b1(keys, formula):
    """State dict of the original b1 classifier with the weights of the reference outputs and its offsets."""
    state_dict = {k: torch.from_numpy(v) for k, v in formula.state_dict(keys['b1']['classifier']).items()}
    return add_offsets(state_dict)


@pytest.fixture(scope='session')
def convert_tool():
    """The tool's ``main``."""
    spec = importlib.util.spec_from_file_location('convert_checkpoint', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def add_offsets(state_dict, k=3):
    """Add the buffers as the original makes them (``CycleFC.gen_offset``, written out for one dimension)."""
    for key in [key for key in state_dict if key.endswith(('sfc_h.weight', 'sfc_w.weight'))]:
        channels = state_dict[key].shape[1]
        offset = torch.zeros(1, 2 * channels, 1, 1)
        for c in range(channels):
            # sfc_h has the kernel (1, k) and moves x, entry 2c + 1; sfc_w has (k, 1) and moves y, entry 2c.
            offset[0, 2 * c + ('sfc_h' in key), 0, 0] = (c + k // 2) % k - k // 2
        state_dict[key.replace('weight', 'offset')] = offset
    return state_dict


def save_original(state_dict, path):
    """As the authors' ``main.py`` saves: the state dict under ``model``, a Namespace under ``args``."""
    torch.save(dict(model=state_dict, epoch=299, args=argparse.Namespace(lr=5e-4, model='CycleMLP_B1')), path)
    return path


def original_name(key):
    """Ours -> the original's, the other way round than the tool and without its table."""
    parts = key.split('.')
    if parts[0] == 'head':
        return f'head.{parts[-1]}'
    parts = parts[1:]
    if parts[0].startswith('norm'):
        return f'norm{2 * int(parts[0][4:])}.{parts[1]}'
    if parts[0] == 'downsamples':
        return '.'.join(['network', str(2 * int(parts[1]) + 1), *parts[2:]])
    if parts[0] == 'stages':
        rest = '.'.join(parts[3:])
        for ours, theirs in (
            ('mixer.channel', 'attn.mlp_c'),
            ('mixer.shift_w', 'attn.sfc_h'),
            ('mixer.shift_h', 'attn.sfc_w'),
            ('mixer', 'attn'),
        ):
            if rest.startswith(ours):
                rest = rest.replace(ours, theirs)
                break
        return f'network.{2 * int(parts[1])}.{parts[2]}.{rest}'
    return '.'.join(parts)


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
        (put('norm.bias', [0.0] * 512), r'state dict of tensors, .*norm\.bias'),
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


class Evil:
    """Pickles to ``os.system(command)``."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def getattr_pickle(command):
    """Pickle that runs a command if ``getattr`` and ``HistoryBuffer`` may be called, as mmengine lets them be.

    A buffer takes over its module's globals, leads on to ``os.system``, which becomes the ``array`` of a second
    one, which becomes ``np`` in these globals: then ``HistoryBuffer(command, command)`` calls ``np.array``.
    """

    def text(value):
        return b'X' + struct.pack('<I', len(value)) + value.encode()

    def attribute(owner, *names):
        for name in names:
            owner = b'cbuiltins\ngetattr\n' + owner + text(name) + b'\x86R'
        return owner

    buffer = b'cmmengine.logging.history_buffer\nHistoryBuffer\n'
    namespace = attribute(buffer, '__init__', '__globals__')
    system = attribute(b'h\x01', 'np', 'lib', '_datasource', 'os', 'system')
    steps = (
        buffer + b')R' + namespace + b'bq\x01',
        buffer + b')R}' + text('array') + system + b'sbq\x02',
        namespace + text('np') + b'h\x02s',
        buffer + text(command) * 2 + b'\x86R',
    )
    return b'\x80\x02}' + text('model') + b']' + b''.join(step + b'a' for step in steps) + b's.'


def with_pickle(data):
    """A torch.save archive around a pickle of one's own."""
    plain, evil = io.BytesIO(), io.BytesIO()
    torch.save({}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(evil, 'w') as target:
        for item in source.infolist():
            target.writestr(item.filename, data if item.filename.endswith('data.pkl') else source.read(item.filename))
    return evil.getvalue()


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def bad_sources(folder):
    """Source of the tool -> what its message says; all files lie in ``folder``."""
    command = f'touch {folder / "RAN"}'
    whole = saved(dict(model={'network.0.0.norm1.weight': torch.zeros(1000)}))
    files = {
        'empty': (b'', 'is empty'),
        'truncated': (whole[:-200], 'is truncated'),
        'page.html': (b'<html>not found</html>', 'damaged or something else'),
        'old_truncated': (pickle.dumps([1, 2, 3], 2)[:-3], 'damaged or something else'),
        'evil': (saved(dict(model=Evil(command))), r'asks to run \w+\.system'),
        'evil_pickle': (pickle.dumps(Evil(command), 2), r'asks to run \w+\.system'),
        'evil_new_pickle': (pickle.dumps(Evil(command), 4), 'damaged or something else'),
        'evil_getattr': (with_pickle(getattr_pickle(command)), 'asks to run builtins.getattr'),
        'list': (saved([torch.zeros(2)]), 'holds a list'),
        'nothing': (saved(dict(model=3)), 'holds none'),
        'foreign': (
            saved(dict(model={f'layer1.{i}.conv1.weight': torch.zeros(3) for i in range(5)})),
            r'holds layer1\.0\.conv1\.weight, .* and 2 more;',
        ),
        'escape': (saved({'a\n\x1b[2Jb': torch.zeros(2)}), r'holds a\\n\\x1b\[2Jb;'),
    }
    cases = {}
    for name, (data, message) in files.items():
        (folder / name).write_bytes(data)
        cases[name] = (folder / name, message)
    cases['missing'] = (folder / 'no.pth', 'does not exist')
    cases['folder'] = (folder, 'is a folder')
    cases['no such URL'] = ((folder / 'no.pth').as_uri(), 'does not exist')
    cases['unreachable URL'] = ('http://127.0.0.1:9/b1.pth', 'could not download .*refused')
    cases['malformed URL'] = ('http://[b1.pth', 'could not download')
    return cases


def test_bad_sources(tmp_path, convert_tool, capsys, monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    timeout = socket.getdefaulttimeout()
    sources, target = tmp_path / 'sources', tmp_path / 'target'
    sources.mkdir()
    target.mkdir()
    for name, (source, message) in bad_sources(sources).items():
        assert convert_tool([str(source), str(target / 'out.pth')]) == 2, name
        captured = capsys.readouterr()
        assert captured.out == '', name
        assert re.fullmatch(r'error: [^\n]*\n', captured.err), (name, captured.err)  # one sentence
        assert re.search(message, captured.err), (name, captured.err)
        assert os.listdir(target) == [], name
        assert not (sources / 'RAN').exists(), name
    assert socket.getdefaulttimeout() == timeout


def test_getattr_pickle_is_a_danger(tmp_path):
    """The refused file does run a command in mmengine's reader: the case above is no empty one."""
    (tmp_path / 'evil.pth').write_bytes(with_pickle(getattr_pickle(f'touch {tmp_path / "RAN"}')))

    def load():
        with torch.serialization.safe_globals(get_torch_safe_globals()):
            torch.load(tmp_path / 'evil.pth', weights_only=True)

    # Another process, since the pickle changes modules.
    process = multiprocessing.get_context('fork').Process(target=load)
    process.start()
    process.join()
    assert process.exitcode == 0 and (tmp_path / 'RAN').exists()


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


def test_failed_write_keeps_older_target(original_b1, tmp_path, convert_tool, capsys, monkeypatch):
    source, target = save_original(original_b1, tmp_path / 'b1.pth'), tmp_path / 'target.pth'
    target.write_text('older')

    def full(value, file):
        file.write(b'PK')
        raise RuntimeError('no space left')

    monkeypatch.setattr(torch, 'save', full)
    assert convert_tool([str(source), str(target)]) == 2
    assert 'no space left' in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ['b1.pth', 'target.pth'] and target.read_text() == 'older'


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, inputs, mode='tensor'):
        return dict(loss=self.linear(torch.stack(inputs)).square().mean())


class ToyData(torch.utils.data.Dataset):
    # As mmdet's and mmseg's datasets take it from a config.
    metainfo = dict(ConfigDict(classes=('a', 'b'), palette=[(0, 1, 2), (3, 4, 5)], label_map={1: 0}).items())

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(inputs=torch.ones(2))


class NumpyScores(Hook):
    """Puts what metrics leave in the message hub: numpy scalars of several types."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        runner.message_hub.update_info('best_score', np.float32(0.5))
        runner.message_hub.update_info('best_epoch', np.int64(3))
        runner.message_hub.update_scalar('val/mIoU', np.float64(7.0))


@pytest.fixture(scope='module')
def runner_checkpoint(tmp_path_factory):
    """A real checkpoint of mmengine's Runner, with optimizer, schedulers and message hub."""
    folder = tmp_path_factory.mktemp('runner')
    runner = Runner(
        model=Toy(),
        work_dir=str(folder),
        train_dataloader=dict(dataset=ToyData(), sampler=dict(type='DefaultSampler'), batch_size=2),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        param_scheduler=dict(type='CosineAnnealingLR', T_max=1),
        custom_hooks=[NumpyScores()],
        log_level='ERROR',
        experiment_name='test_checkpoints',
    )
    runner.train()
    return folder / 'epoch_1.pth'


def test_reads_runner_checkpoint(runner_checkpoint):
    checkpoint = read_checkpoint(runner_checkpoint)
    assert set(checkpoint) >= {'meta', 'state_dict', 'message_hub', 'optimizer', 'param_schedulers'}
    meta = checkpoint['meta']['dataset_meta']
    assert meta['classes'] == ('a', 'b') and type(meta['label_map']) is dict and meta['label_map'] == {1: 0}
    hub = checkpoint['message_hub']
    assert hub['runtime_info']['best_score'] == np.float32(0.5)
    assert hub['log_scalars']['train/loss'].data[0].shape == (2,)
    assert hub['log_scalars']['val/mIoU'].statistics('mean') == 7
    check_fits(Toy(), checkpoint, runner_checkpoint)


def test_safe_loader_serves_mmengine(runner_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', copy.copy(CheckpointLoader._schemes))
    register_safe_loader()
    (tmp_path / 'evil.pth').write_bytes(saved(dict(state_dict=Evil(f'touch {tmp_path / "RAN"}'))))
    (tmp_path / 'open_mmlab.json').write_text('{"evil": "evil.pth"}')
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path))
    model = Toy()
    for source in (str(tmp_path / 'evil.pth'), 'open-mmlab://evil'):
        with pytest.raises(InputError, match='asks to run'):
            load_checkpoint(model, source)
    assert not (tmp_path / 'RAN').exists()
    load_checkpoint(model, str(runner_checkpoint), strict=True)
    assert torch.equal(model.linear.weight.detach(), read_checkpoint(runner_checkpoint)['state_dict']['linear.weight'])


def test_reads_values_of_numpy_1(tmp_path):
    data = pickle.dumps(np.float64(2.5), 2).replace(b'numpy._core.', b'numpy.core.')
    assert b'numpy.core.multiarray' in data
    (tmp_path / 'a.pth').write_bytes(with_pickle(b'\x80\x02}X\x01\x00\x00\x00a' + data[2:-1] + b's.'))
    assert read_checkpoint(tmp_path / 'a.pth') == dict(a=2.5)


def test_check_fits():
    model = CycleMLP('b1')
    state_dict = model.state_dict()
    check_fits(model, dict(state_dict=state_dict), 'b1.pth')
    check_fits(model, state_dict, 'b1.pth')
    check_fits(nn.DataParallel(model), dict(state_dict=state_dict), 'b1.pth')
    assert arch_of(state_dict) == 'b1'

    other = dict(state_dict)
    other['extra.weight'] = other.pop('norm3.weight')
    other['norm3.bias'] = torch.zeros(3)
    with pytest.raises(InputError) as error:
        check_fits(model, dict(state_dict=other), 'b1.pth')
    message = str(error.value)
    assert 'missing norm3.weight, unexpected extra.weight, of another shape norm3.bias [3] instead of [512]' in message

    with pytest.raises(InputError, match=r'missing patch_embed\.proj\.weight, .* and \d+ more, unexpected linear'):
        check_fits(model, Toy().state_dict(), 'toy.pth')
    with pytest.raises(InputError, match='holds none'):
        check_fits(model, dict(state_dict=3), 'none.pth')


def test_check_fits_names_both_archs():
    detector = nn.ModuleDict(dict(backbone=CycleMLP('b1')))
    with pytest.raises(InputError, match='b2.pth holds CycleMLP b2, the config builds CycleMLP b1; take the config'):
        check_fits(detector, dict(state_dict=CycleMLP('b2').state_dict()), 'b2.pth')


def test_check_fits_points_to_the_converter(original_b1):
    for checkpoint in (dict(model=original_b1), original_b1):
        with pytest.raises(InputError, match='tools/convert_checkpoint.py b1.pth'):
            check_fits(CycleMLP('b1'), checkpoint, 'b1.pth')
