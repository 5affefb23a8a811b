"""Reading checkpoints and matching them to models: the authors', a Runner's, and files that are broken or mean harm."""

import copy
import multiprocessing
import os
import pickle
import re
import socket

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint
from mmengine.runner.checkpoint import get_torch_safe_globals
from torch import nn

from mmcyclemlp.checkpoints import arch_of, check_fits, read_checkpoint, register_safe_loader
from mmcyclemlp.cli import convert
from mmcyclemlp.errors import InputError
from mmcyclemlp.models import CycleMLP

from . import originals
from .harm import Evil, getattr_pickle, saved, with_pickle

keys, original_b1 = originals.keys, originals.original_b1  # fixtures


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
        'nothing': (saved(dict(model=3)), 'holds something else under model'),
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


def test_bad_sources(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    timeout = socket.getdefaulttimeout()
    sources, target = tmp_path / 'sources', tmp_path / 'target'
    sources.mkdir()
    target.mkdir()
    for name, (source, message) in bad_sources(sources).items():
        assert convert.main([str(source), str(target / 'out.pth')]) == 2, name
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
        experiment_name='test_reading',
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
    for checkpoint in (dict(state_dict=original_b1), original_b1):
        with pytest.raises(InputError, match='tools/convert_checkpoint.py b1.pth'):
            check_fits(CycleMLP('b1'), checkpoint, 'b1.pth')
