"""ConsoleRunner with a checkpoint that was read already: averaged weights, wrapped models, what does not fit."""

import itertools

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import EMAHook
from mmengine.model import BaseModel, BaseTTAModel
from mmengine.runner import CheckpointLoader
from torch import nn
from torch.utils.data import DataLoader

from mmcyclemlp.checkpoints import read_checkpoint
from mmcyclemlp.config import load_config
from mmcyclemlp.engine import ConsoleRunner
from mmcyclemlp.errors import InputError

from .helpers import REPO

NUMBER = itertools.count()  # mmengine keeps its loggers by experiment name


class Line(BaseModel):
    """y = w x, whose prediction is w."""

    def __init__(self, size=1):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(size))

    def forward(self, x, y, mode):
        return {'loss': ((self.w * x - y) ** 2).mean()} if mode == 'loss' else [self.w.detach().clone()]


class Mean(BaseTTAModel):
    def test_step(self, data):
        return self.module.test_step(data)

    def merge_preds(self, data_samples_list):
        raise NotImplementedError


class Weight(BaseMetric):
    """The w that predicted."""

    def process(self, data_batch, data_samples):
        self.results.append(data_samples[0].item())

    def compute_metrics(self, results):
        return {'w': results[-1]}


def runner(work_dir, model, epochs=1, hooks=(), load_from=None, resume=False):
    loader = DataLoader([(torch.tensor([1.0]), torch.tensor([2.0]))] * 4, 1)
    return ConsoleRunner(
        model,
        str(work_dir),
        experiment_name=f'runner{next(NUMBER)}',
        log_level='ERROR',
        randomness=dict(seed=0),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        train_dataloader=loader,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05)),
        test_cfg=dict(),
        test_dataloader=loader,
        test_evaluator=Weight(prefix=''),
        custom_hooks=list(hooks),
        load_from=load_from and str(load_from),
        resume=resume,
    )


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
