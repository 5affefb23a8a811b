"""ConsoleRunner with a checkpoint that was read already: averaged weights, wrapped models, what does not fit."""

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.model import BaseTTAModel
from mmengine.runner import CheckpointLoader
from torch import nn

from mmcyclemlp.checkpoints import read_checkpoint
from mmcyclemlp.config import load_config
from mmcyclemlp.errors import InputError

from .helpers import REPO
from .small_runs import Line, runner


class Mean(BaseTTAModel):
    def test_step(self, data):
        return self.module.test_step(data)

    def merge_preds(self, data_samples_list):
        raise NotImplementedError


def averaging():
    return [EMAHook(momentum=0.3)]


@pytest.fixture
def averaged(tmp_path):
    """A checkpoint of a run with averaged weights."""
    runner(tmp_path, Line(), hooks=averaging()).train()
    return tmp_path / 'epoch_1.pth'


@pytest.mark.parametrize('hooks', [averaging, list])
@pytest.mark.parametrize('wrap', [lambda model: model, Mean])
def test_averaged_weights_are_tested_through_any_wrapper(averaged, tmp_path, monkeypatch, hooks, wrap):
    checkpoint = read_checkpoint(averaged)
    expected = checkpoint['state_dict']['w'].item()
    assert expected != checkpoint['ema_state_dict']['module.w'].item()  # the weights that were trained last
    testing = runner(tmp_path, wrap(Line()), hooks=hooks(), load_from=averaged)
    testing.give(checkpoint)
    monkeypatch.setattr(CheckpointLoader, 'load_checkpoint', None)  # nothing is read again
    assert testing.test()['w'] == expected


def test_averaged_weights_are_resumed(averaged, tmp_path):
    straight = runner(tmp_path / 'straight', Line(), 2, averaging())
    straight.train()
    resumed = runner(tmp_path, Line(), 2, averaging(), load_from=averaged, resume=True)
    resumed.give(read_checkpoint(averaged))
    resumed.train()
    for key in ('state_dict', 'ema_state_dict'):
        expected, found = (read_checkpoint(folder / 'epoch_2.pth')[key] for folder in (tmp_path / 'straight', tmp_path))
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_checkpoint_that_does_not_fit_is_refused_before_the_run(averaged, tmp_path):
    other = runner(tmp_path, Line(2), load_from=averaged)
    with pytest.raises(InputError, match=r'epoch_1.pth does not fit the model of the config: of another shape w \[1\]'):
        other.give(read_checkpoint(averaged))


def test_weights_to_fine_tune_from_need_not_fit(averaged, tmp_path):
    fine = runner(tmp_path / 'fine', nn.ModuleDict(dict(line=Line())).line, load_from=averaged)
    fine.give(dict(state_dict={'module.w': torch.ones(1), 'head.weight': torch.ones(3)}), strict=False)
    fine.load_or_resume()
    assert fine.model.w.item() == 1


def test_reading_a_config_makes_mmengine_read_safely(tmp_path, monkeypatch):
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
    load_config(REPO / 'configs/cyclemlp/digits_b1.py')
    torch.save(dict(state_dict={}, model=nn.Linear(1, 1)), tmp_path / 'module.pth')
    with pytest.raises(InputError, match='asks to run torch.nn.modules.linear.Linear'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'module.pth'))
