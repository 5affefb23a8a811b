"""Loss and accuracy curves of a run, as a table and as a picture."""

from numbers import Real
from pathlib import Path
from typing import Dict, List, Optional

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop

from mmcyclemlp.files import written_whole
from mmcyclemlp.tables import read_csv, write_csv

# Names of the MM libraries -> (column, factor); the factors turn percent into fractions.
TRAIN_COLUMNS = {
    'loss': ('train loss', 1),
    'accuracy_top-1': ('train accuracy', 0.01),
    'decode.acc_seg': ('train accuracy', 0.01),
}
TEST_COLUMNS = {
    'cross_entropy/mean': ('test loss', 1),
    'accuracy/top1': ('test accuracy', 0.01),
    'aAcc': ('test accuracy', 0.01),
    'mIoU': ('test mIoU', 0.01),
    'mAcc': ('test mAcc', 0.01),
}
FIRST_COLUMNS = ('train loss', 'test loss', 'train accuracy', 'test accuracy')


@HOOKS.register_module()
class CurvesHook(Hook):
    """Writes ``curves.csv`` and ``curves.png`` to the work dir after each validation.

    The columns are ``epoch`` (or ``iteration``) from 1, ``train loss``, ``test loss``, ``train accuracy`` and
    ``test accuracy`` as fractions, and all other metrics under their own names. "test" is the validation set. A
    training value is the mean over the iterations of the epoch (or since the last row) and over all processes. A
    resumed run keeps the rows up to where it resumes.
    """

    priority = 'LOW'

    def __init__(self):
        self._rows: Optional[List[Dict[str, str]]] = None  # None outside training

    def before_train(self, runner) -> None:
        """Take over the rows of the run that is resumed, up to there."""
        self._iteration_based = isinstance(runner.train_loop, IterBasedTrainLoop)
        self._rows = []
        if runner.iter > 0:
            unit, done = self._progress(runner)
            rows = read_csv(Path(runner.work_dir) / 'curves.csv')
            self._rows = [row for row in rows if row.get(unit, '').isdigit() and int(row[unit]) <= done]

    def after_val_epoch(self, runner, metrics: Optional[Dict[str, float]] = None) -> None:
        """Add a row and write both files."""
        if self._rows is None:
            return
        unit, done = self._progress(runner)
        self._rows = [row for row in self._rows if row[unit] != str(done)]  # of a validation that is done again
        last = int(self._rows[-1][unit]) if self._rows else 0
        window = done - last if self._iteration_based else len(runner.train_dataloader)
        values = {**_training_means(runner, window), **_test_values(metrics or {})}
        self._rows.append({unit: str(done), **{column: f'{value:.6f}' for column, value in values.items()}})
        if is_main_process():
            write_csv(Path(runner.work_dir) / 'curves.csv', [unit, *_columns(self._rows)], self._rows)
            write_png(Path(runner.work_dir) / 'curves.png', self._rows)

    def _progress(self, runner):
        return ('iteration', runner.iter) if self._iteration_based else ('epoch', runner.epoch)


def _training_means(runner, window: int) -> Dict[str, float]:
    values = {}
    for name, (column, factor) in TRAIN_COLUMNS.items():
        history = runner.message_hub.log_scalars.get(f'train/{name}')
        if history is not None:
            mean = torch.tensor(float(history.mean(window)), dtype=torch.float64)
            all_reduce(mean, 'mean')
            values[column] = factor * mean.item()
    return values


def _test_values(metrics: Dict[str, float]) -> Dict[str, float]:
    values = {}
    for name, value in metrics.items():
        column, factor = TEST_COLUMNS.get(name, (f'test {name.split("/")[-1]}', 1))
        if not isinstance(value, Real):
            continue  # lists by class have no curve
        if name.startswith('coco/') and not value >= 0:
            continue  # -1, or nan for a class: COCO's sign for no object of that size or class
        values[column] = factor * value
    return values


@HOOKS.register_module()
class TrainAccuracyHook(Hook):
    """Has the head of an mmpretrain classifier report its training accuracy (``cal_acc``), for the curves.

    Where labels are mixed there is no such accuracy, and mmpretrain asserts that none is asked for.
    """

    def before_train(self, runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.head.cal_acc = getattr(model.data_preprocessor, 'batch_augments', None) is None


def _columns(rows: List[Dict[str, str]]) -> List[str]:
    """All columns but the first (epoch or iteration), in their order."""
    found = list(dict.fromkeys(column for row in rows for column in list(row)[1:]))
    return [c for c in FIRST_COLUMNS if c in found] + [c for c in found if c not in FIRST_COLUMNS]


def write_png(path: Path, rows: List[Dict[str, str]]) -> None:
    """Plot losses beside all other columns, as a whole or not at all."""
    from matplotlib.figure import Figure  # only when it is needed: a hook is imported with every config
    from matplotlib.ticker import MaxNLocator

    unit, columns = next(iter(rows[0])), _columns(rows)
    losses = [c for c in columns if c.endswith('loss')]
    others = [c for c in columns if c not in losses]
    panels = [(name, names) for name, names in (('loss', losses), (_title(others), others)) if names]
    figure = Figure(figsize=(4.5 * max(1, len(panels)), 3.5), layout='constrained')
    for i, (title, names) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1)
        for k, name in enumerate(names):
            points = [(int(row[unit]), float(row[name])) for row in rows if name in row]
            axes.plot(*zip(*points), marker='.' if len(points) < 40 else None, label=name, color=f'C{k}')
        axes.set(xlabel=unit, title=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _title(columns: List[str]) -> str:
    return 'accuracy' if all(c.endswith('accuracy') for c in columns) else 'metrics'
