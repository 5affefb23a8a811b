"""What a run gave: from its curves, its log and its network."""

import copy
import json
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from mmengine import Config
from mmengine.registry import MODELS, DefaultScope

from mmcyclemlp.flops import count_macs, count_parameters

from .plan import Run, Study
from .record import Row, RunFolder


class Result(NamedTuple):
    """Numbers of one run; None where it has none yet."""

    run: Run
    state: str  # finished, failed, started or missing
    curves: List[Row]
    best: Optional[float]  # test accuracy, a fraction
    best_epoch: Optional[int]
    last: Optional[float]
    images_per_second: Optional[float]  # in training; validation and checkpoints are left out
    data_share: Optional[float]  # of the time of a training iteration, waiting for data
    hours: float  # everything: starts, training, validation, checkpoints
    parameters: int
    operations: int  # multiply-adds of one image

    @property
    def epochs(self) -> int:
        return int(self.curves[-1]['epoch']) if self.curves else 0  # not every epoch need be validated


def collect(study: Study, work_dir: Path) -> List[Result]:
    """The results of all runs of a study, in its order."""
    sizes: Dict[str, Tuple[int, int]] = {}
    results = []
    for run in study.runs:
        if run.name not in sizes:
            sizes[run.name] = size_of(run.config, study.image_size)
        folder = RunFolder(run, work_dir)
        curves = folder.curves()
        accuracies = {int(row['epoch']): row['test accuracy'] for row in curves if 'test accuracy' in row}
        best_epoch = max(accuracies, key=accuracies.get, default=None)
        results.append(
            Result(
                run,
                folder.state or 'missing',
                curves,
                accuracies.get(best_epoch),
                best_epoch,
                accuracies[max(accuracies)] if accuracies else None,
                *_speed(folder.path, run.config.train_dataloader.batch_size),
                round(folder.seconds / 3600, 4),
                *sizes[run.name],
            )
        )
    return results


def _speed(folder: Path, batch_size: int) -> Tuple[Optional[float], Optional[float]]:
    """Images a second and the share of time waiting for data, from the training lines of all sessions' logs."""
    records = [
        json.loads(line)
        for path in sorted(folder.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
        if line.endswith('}')
    ]  # a killed run may leave half a line
    training = [record for record in records if 'loss' in record and 'time' in record]
    if not training:
        return None, None
    times, waits = np.array([[record['time'], record['data_time']] for record in training]).T
    return round(batch_size / float(np.median(times)), 1), round(float(waits.sum() / times.sum()), 4)


def size_of(config: Config, side: int) -> Tuple[int, int]:
    """Parameters of a model, and its multiply-adds for an image of ``side`` pixels."""
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        model = MODELS.build(copy.deepcopy(config.model)).eval()
    return count_parameters(model), count_macs(lambda: model(torch.zeros(1, 3, side, side)))['Global']
