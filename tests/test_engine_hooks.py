"""What mmcyclemlp adds to a run: curves, the schedule after --resume, the test loss, bfloat16 on a CPU."""

import csv
import itertools
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import MODELS, OPTIM_WRAPPERS, DefaultScope
from mmpretrain.structures import DataSample
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from mmcyclemlp.engine import (
    ConsoleRunner,
    CurvesHook,
    MeanCrossEntropy,
    ResumeScheduleHook,
    TrainAccuracyHook,
    WholeCheckpointHook,
    curves,
)
from mmcyclemlp.errors import InputError

from . import small_runs
from .helpers import read_table

CLASSIFICATION = {'accuracy/top1': 50.0, 'cross_entropy/mean': 1.5}
NUMBER = itertools.count()  # mmengine keeps its loggers by experiment name


class Line(BaseModel):
    """y = w x, which remembers each training loss."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))
        self.losses = []

    def forward(self, x, y, mode):
        if mode != 'loss':
            return [x]
        loss = ((self.w * x - y) ** 2).mean()
        self.losses.append(loss.item())
        return {'loss': loss, 'accuracy_top-1': 100 * loss.detach()}


class Fixed(BaseMetric):
    """Metrics known beforehand."""

    def __init__(self, values):
        super().__init__(prefix='')
        self.values = values

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return self.values


class Rates(Hook):
    """Remembers the learning rate of each iteration."""

    def __init__(self):
        self.rates = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rates[runner.iter] = runner.optim_wrapper.get_lr()['lr'][0]


def run(work_dir, train_cfg, hooks, metrics=None, schedule=None, resume_from=None, batch=1, **optimizer):
    """Train a Line; returns its losses."""
    # mmengine sleeps for 2 s where an iteration-based run begins its data anew.
    batches = train_cfg.get('max_iters', 4)
    pairs = [(torch.tensor([float(i % 4)]), torch.tensor([2.0 * (i % 4)])) for i in range(batches)]
    by_epoch = train_cfg['by_epoch']
    runner = ConsoleRunner(
        Line(),
        str(work_dir),
        experiment_name=f'hooks{next(NUMBER)}',
        log_level='ERROR',
        randomness=dict(seed=0),
        train_cfg=dict(train_cfg),
        train_dataloader=DataLoader(pairs, batch),
        optim_wrapper=dict(optimizer=dict(dict(type='SGD', lr=0.01), **optimizer)),
        param_scheduler=schedule,
        val_cfg=dict(),
        val_dataloader=DataLoader(pairs, 1),
        val_evaluator=Evaluator(Fixed(CLASSIFICATION if metrics is None else metrics)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1 if by_epoch else 5, by_epoch=by_epoch)),
        custom_hooks=hooks,
        load_from=resume_from and str(work_dir / resume_from),
        resume=resume_from is not None,
        cfg=Config(dict(param_scheduler=schedule)),
    )
    runner.train()
    return runner.model.losses


EPOCHS = dict(by_epoch=True, max_epochs=3)


def test_curves_hold_the_means_of_each_epoch(tmp_path):
    losses = np.reshape(run(tmp_path, EPOCHS, [CurvesHook()]), (3, 4)).mean(1)
    assert losses[0] > 2 * losses[2]  # so that a mixed-up epoch shows
    rows = read_table(tmp_path / 'curves.csv')
    assert list(rows[0]) == ['epoch', 'train loss', 'test loss', 'train accuracy', 'test accuracy']
    assert [row['epoch'] for row in rows] == ['1', '2', '3']
    assert [row['train loss'] for row in rows] == [f'{loss:.6f}' for loss in losses]
    # The model gave 100 times its loss as accuracy in percent.
    assert [float(row['train accuracy']) for row in rows] == pytest.approx(losses, abs=2e-6)
    assert [(row['test loss'], row['test accuracy']) for row in rows] == [('1.500000', '0.500000')] * 3


def test_the_picture_is_written_with_the_table(tmp_path):
    run(tmp_path, EPOCHS, [CurvesHook()])
    with Image.open(tmp_path / 'curves.png') as image:
        assert image.format == 'PNG' and image.width > 2 * image.height
        assert len(image.convert('RGB').getcolors(1 << 20)) > 50  # not an empty sheet
    assert not [name for name in os.listdir(tmp_path) if 'tmp' in name]


def test_a_resumed_run_continues_the_table(tmp_path):
    run(tmp_path, EPOCHS, [CurvesHook()])
    before = read_table(tmp_path / 'curves.csv')
    losses = run(
        tmp_path, dict(EPOCHS, max_epochs=4), [CurvesHook()], metrics={'accuracy/top1': 75.0}, resume_from='epoch_2.pth'
    )
    rows = read_table(tmp_path / 'curves.csv')
    assert [row['epoch'] for row in rows] == ['1', '2', '3', '4']
    assert rows[0] == before[0] and rows[1]['train loss'] == before[1]['train loss']
    # Epoch 3 of the first run is gone, its second form is there. The validation of epoch 2 was done again, since its
    # checkpoint was written before.
    assert [row['test accuracy'] for row in rows] == ['0.500000', '0.750000', '0.750000', '0.750000']
    assert [row['test loss'] for row in rows] == ['1.500000', '', '', '']
    assert rows[2]['train loss'] == f'{np.mean(losses[:4]):.6f}'


def test_a_fresh_run_starts_a_new_table(tmp_path):
    run(tmp_path, EPOCHS, [CurvesHook()])
    run(tmp_path, dict(EPOCHS, max_epochs=1), [CurvesHook()])
    assert [row['epoch'] for row in read_table(tmp_path / 'curves.csv')] == ['1']


@pytest.mark.parametrize('left', ['', 'something else\n1\n', 'epoch,train loss\nx,y\n'])
@pytest.mark.slow
def test_a_strange_table_does_not_stop_a_resumed_run(tmp_path, left):
    run(tmp_path, EPOCHS, [CurvesHook()])
    (tmp_path / 'curves.csv').write_text(left)
    run(tmp_path, EPOCHS, [CurvesHook()], resume_from='epoch_2.pth')
    assert [row['epoch'] for row in read_table(tmp_path / 'curves.csv')] == ['2', '3']


def test_iterations_are_averaged_since_the_last_row(tmp_path):
    loop = dict(by_epoch=False, max_iters=10, val_interval=4)
    losses = run(
        tmp_path, loop, [CurvesHook()], metrics={'mIoU': np.float32(50.0), 'aAcc': 80.0, 'by_class': [1.0, 2.0]}
    )
    rows = read_table(tmp_path / 'curves.csv')
    assert list(rows[0]) == ['iteration', 'train loss', 'train accuracy', 'test accuracy', 'test mIoU']
    expected = [(4, np.mean(losses[:4])), (8, np.mean(losses[4:8])), (10, np.mean(losses[8:]))]
    assert [(row['iteration'], row['train loss']) for row in rows] == [(str(i), f'{x:.6f}') for i, x in expected]
    assert (rows[0]['test accuracy'], rows[0]['test mIoU']) == ('0.800000', '0.500000')


def test_a_resumed_iteration_run_averages_from_its_last_row(tmp_path):
    loop = dict(by_epoch=False, max_iters=10, val_interval=4)
    losses = run(tmp_path, loop, [CurvesHook()])
    run(tmp_path, loop, [CurvesHook()], resume_from='iter_5.pth')
    rows = read_table(tmp_path / 'curves.csv')
    assert [row['iteration'] for row in rows] == ['4', '8', '10']
    assert rows[1]['train loss'] == f'{np.mean(losses[4:8]):.6f}'  # iteration 5 of the first run, 6 to 8 of the second


def test_metrics_of_detection_keep_their_names(tmp_path):
    run(tmp_path, EPOCHS, [CurvesHook()], metrics={'coco/bbox_mAP': 0.25, 'coco/bbox_mAP_50': 0.5})
    assert list(read_table(tmp_path / 'curves.csv')[0])[3:] == ['test bbox_mAP', 'test bbox_mAP_50']


def test_no_metrics_at_all_leave_the_training_curves(tmp_path):
    run(tmp_path, EPOCHS, [CurvesHook()], metrics={})
    assert list(read_table(tmp_path / 'curves.csv')[0]) == ['epoch', 'train loss', 'train accuracy']


def test_only_the_main_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, 'is_main_process', lambda: False)
    run(tmp_path, EPOCHS, [CurvesHook()])
    assert not list(tmp_path.glob('curves.*'))


def test_a_failed_write_leaves_the_last_table(tmp_path, monkeypatch):
    run(tmp_path, EPOCHS, [CurvesHook()])
    before = (tmp_path / 'curves.csv').read_text()

    def full_disk(writer, rows):
        raise OSError('no space left')

    monkeypatch.setattr(csv.DictWriter, 'writerows', full_disk)
    with pytest.raises(InputError, match=r'could not write .*curves.csv \(no space left\); check .* the free space'):
        run(tmp_path, EPOCHS, [CurvesHook()])
    assert (tmp_path / 'curves.csv').read_text() == before
    assert not list(tmp_path.glob('.*'))  # where a temporary name would lie


WARMUP_COSINE = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=6),
    dict(type='CosineAnnealingLR', by_epoch=True),
]
POLY = [dict(type='PolyLR', by_epoch=False, power=0.9)]


@pytest.mark.parametrize(
    'schedule, loop, limit, checkpoint',
    [
        (WARMUP_COSINE, dict(by_epoch=True), ('max_epochs', 3, 6), 'epoch_3.pth'),
        (WARMUP_COSINE, dict(by_epoch=True), ('max_epochs', 3, 6), 'epoch_1.pth'),
        (POLY, dict(by_epoch=False, val_interval=100), ('max_iters', 10, 20), 'iter_10.pth'),
    ],
    ids=['finished', 'amid warm-up', 'iterations'],
)
def test_a_longer_resumed_run_follows_the_longer_schedule(tmp_path, schedule, loop, limit, checkpoint):
    name, short, long = limit
    straight, frozen, resumed = Rates(), Rates(), Rates()
    run(tmp_path / 'straight', dict(loop, **{name: long}), [straight], schedule=schedule)
    run(tmp_path / 'resumed', dict(loop, **{name: short}), [], schedule=schedule)
    for rates, hooks in ((frozen, []), (resumed, [ResumeScheduleHook()])):
        run(
            tmp_path / 'resumed', dict(loop, **{name: long}), [rates, *hooks], schedule=schedule, resume_from=checkpoint
        )
    expected = {i: rate for i, rate in straight.rates.items() if i in resumed.rates}
    assert len(expected) >= 10 and resumed.rates == pytest.approx(expected)
    assert frozen.rates != pytest.approx(expected)  # what mmengine alone would do


def test_the_same_schedule_goes_on_after_resuming(tmp_path):
    straight, resumed = Rates(), Rates()
    run(tmp_path, dict(by_epoch=True, max_epochs=4), [straight, ResumeScheduleHook()], schedule=WARMUP_COSINE)
    run(
        tmp_path,
        dict(by_epoch=True, max_epochs=4),
        [resumed, ResumeScheduleHook()],
        schedule=WARMUP_COSINE,
        resume_from='epoch_2.pth',
    )
    assert resumed.rates == pytest.approx({i: straight.rates[i] for i in range(8, 16)})


def test_a_schedule_in_epochs_goes_on_with_another_batch_size(tmp_path):
    schedule = [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=3),
        dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True),
    ]
    epochs = dict(by_epoch=True, max_epochs=4)
    run(tmp_path, epochs, [ResumeScheduleHook()], schedule=schedule, batch=2)
    for batch in (1, 2, 4):
        rates = Rates()
        run(tmp_path, epochs, [rates, ResumeScheduleHook()], None, schedule, 'epoch_2.pth', batch)
        assert rates.rates[4] == pytest.approx(0.005)  # in the middle of the cosine, whatever an epoch's length


@pytest.mark.parametrize('schedule', [None, WARMUP_COSINE], ids=['constant', 'cosine'])
def test_numbers_of_the_optimizer_are_taken_from_the_config_when_resuming(tmp_path, schedule):
    epochs, straight, resumed, groups = dict(by_epoch=True, max_epochs=4), Rates(), Rates(), []

    class Groups(Hook):
        def after_train(self, runner):
            groups.extend(runner.optim_wrapper.param_groups)

    run(tmp_path / 'straight', epochs, [straight], schedule=schedule, lr=1e-3)
    run(tmp_path, epochs, [], schedule=schedule, momentum=0.9)
    changed = dict(lr=1e-3, weight_decay=0.1, momentum=0.9)
    run(tmp_path, epochs, [resumed, ResumeScheduleHook(), Groups()], None, schedule, 'epoch_2.pth', 1, **changed)
    assert resumed.rates == pytest.approx({i: straight.rates[i] for i in range(8, 16)})
    assert (groups[0]['weight_decay'], groups[0]['momentum']) == (0.1, 0.9)


def samples(logits, labels):
    return [
        DataSample().set_gt_label(int(label)).set_pred_score(score) for label, score in zip(labels, logits.softmax(1))
    ]


def test_mean_cross_entropy_is_torchs():
    logits, labels = torch.randn(33, 10), torch.randint(10, (33,))
    evaluator = Evaluator(MeanCrossEntropy())
    for part in (slice(0, 16), slice(16, 33)):
        evaluator.process([sample.to_dict() for sample in samples(logits[part], labels[part])])
    expected = F.cross_entropy(logits.double(), labels).item()
    assert evaluator.evaluate(33) == {'cross_entropy/mean': pytest.approx(expected, rel=1e-5)}


def test_mean_cross_entropy_of_a_probability_of_zero_is_finite():
    evaluator = Evaluator(MeanCrossEntropy())
    evaluator.process([sample.to_dict() for sample in samples(torch.tensor([[500.0, 0.0]]), [1])])
    assert evaluator.evaluate(1)['cross_entropy/mean'] == pytest.approx(87.3, abs=0.1)


def test_bfloat16_on_the_cpu_for_the_forward_pass_alone():
    model = nn.Linear(4, 4)
    wrapper = OPTIM_WRAPPERS.build(dict(type='CpuAmpOptimWrapper', optimizer=torch.optim.SGD(model.parameters(), 0.1)))
    before = model.weight.clone()
    with wrapper.optim_context(model):
        out = model(torch.ones(2, 4))
    assert out.dtype == torch.bfloat16 and not torch.is_autocast_enabled('cpu')
    wrapper.update_params(out.float().sum())
    assert model.weight.dtype == torch.float32 and torch.allclose(model.weight, before - 0.2)


def test_the_console_is_spared_the_config(tmp_path, capsys):
    cfg = dict(model=dict(type='BaseModel'), some_long_section=dict(a=1))
    runner = ConsoleRunner(Line(), str(tmp_path), experiment_name=f'hooks{next(NUMBER)}', cfg=cfg)
    runner.logger.info('two\nlines, such as a table of metrics')
    runner.logger.warning('a warning')
    console, log = capsys.readouterr().out, next(tmp_path.rglob('*.log')).read_text()
    assert 'some_long_section' in log and 'some_long_section' not in console
    for line in ('lines, such as a table of metrics', 'a warning'):
        assert line in console and line in log


def test_the_best_is_by_a_metric_that_the_validation_gave(tmp_path):
    hook = WholeCheckpointHook(save_best='accuracy/top1')
    sentence = 'save_best is accuracy/top1, but the validation gave multi-label/mAP, loss; set it to one of these'
    with pytest.raises(InputError, match=sentence):
        hook.after_val_epoch(small_runs.runner(tmp_path, small_runs.Line()), {'multi-label/mAP': 1.0, 'loss': 2.0})


@pytest.mark.parametrize('wanted', ['coco/bbox_mAP', 'auto'])
def test_a_run_goes_on_where_nothing_was_found(tmp_path, wanted):
    """CocoMetric gives nothing where a detector finds nothing, as after a first epoch of few images."""
    hook = WholeCheckpointHook(save_best=wanted, rule='greater')
    run = small_runs.runner(tmp_path, small_runs.Line())
    hook.after_val_epoch(run, {})
    assert run.message_hub.get_info('scored') == 0 and not list(tmp_path.glob('best_*'))


@pytest.mark.parametrize('augments', [None, dict(augments=dict(type='Mixup', alpha=0.8))])
def test_no_training_accuracy_of_mixed_labels(augments):
    head = dict(type='LinearClsHead', num_classes=2, in_channels=8)
    arch = dict(depths=(1,), embed_dims=(8,), mlp_ratios=(2,))
    backbone = dict(type='CycleMLP', arch=arch, out_indices=(0,))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        parts = dict(backbone=backbone, neck=dict(type='GlobalAveragePooling'), head=head)
        preprocessor = dict(num_classes=2)
        model = MODELS.build(dict(type='ImageClassifier', data_preprocessor=preprocessor, train_cfg=augments, **parts))
    TrainAccuracyHook().before_train(SimpleNamespace(model=model))
    data = dict(inputs=torch.zeros(2, 3, 8, 8), data_samples=[DataSample().set_gt_label(i) for i in range(2)])
    losses = model(**model.data_preprocessor(data, training=True), mode='loss')
    assert ('accuracy_top-1' in losses) == (augments is None) and losses['loss'].isfinite()
