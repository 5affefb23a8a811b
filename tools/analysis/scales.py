#!/usr/bin/env python
"""Test the same weights at several scales of the input: the metrics, and the time an image, against the scale.

    python tools/analysis/scales.py configs/cyclemlp/camvid_fpn_b1.py work_dirs/camvid_fpn_b1/iter_6400.pth
    python tools/analysis/scales.py CONFIG CHECKPOINT --scales 0.75 1 1.25 --flip

A scale of 1 is the size that the config tests at. Writes scales.csv, scales.md and scales.png to
work_dirs/CONFIG NAME/scales. What can be mended is told in one line, with exit code 2.
"""
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from copy import deepcopy
from numbers import Real
from pathlib import Path
from typing import Any, Callable, Dict, List

# A checkout works without installation, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mmcyclemlp.checkpoints import check_fits, read_checkpoint
from mmcyclemlp.engine import ConsoleRunner, input_errors
from mmcyclemlp.engine.command_line import add_arguments, prepare
from mmcyclemlp.engine.curves import write_csv
from mmcyclemlp.engine.scales import add_flip, scale_input, test_pipeline
from mmcyclemlp.errors import InputError
from mmcyclemlp.files import written_whole

SCALE, TIME = 'scale', 'ms an image'


def parse_args() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='CONFIG', help='a file under configs/')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='a file that tools/train.py saved')
    parser.add_argument('--scales', nargs='+', type=float, default=[0.5, 1., 1.5, 2.], metavar='FACTOR',
                        help='of the input size that the config tests at (default: 0.5 1 1.5 2)')
    parser.add_argument('--flip', action='store_true',
                        help="average over each image and its mirror image, as the config's tta_model does")
    add_arguments(parser)
    return parser.parse_args()


class Stopwatch:
    """Times a model's test step: seconds an image, from a batch in memory to its predictions."""

    def __init__(self, step: Callable[[Any], list]):
        self.step = step
        self.seconds: List[float] = []

    def __call__(self, data: Any) -> list:
        start = time.perf_counter()
        predictions = self.step(data)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append((time.perf_counter() - start) / len(predictions))
        return predictions


def build(config: Config, checkpoint_path: str, flip: bool) -> Runner:
    """A runner with the weights loaded, and the model wrapped to merge predictions if ``flip``."""
    checkpoint = read_checkpoint(checkpoint_path)
    config.load_from, config.resume = checkpoint_path, False
    runner = ConsoleRunner.from_cfg(config)
    check_fits(runner.model, checkpoint, checkpoint_path)
    runner.load_or_resume()
    if flip:
        runner.model = MODELS.build(dict(config.tta_model, module=runner.model))
    return runner


def measure(runner: Runner, config: Config, factor: float, flip: bool) -> Dict[str, str]:
    """A row of the table: scale, metrics, and the median time an image."""
    config = deepcopy(config)
    scale_input(config, factor)
    if flip:
        add_flip(config)
    runner.test_loop.dataloader = runner.build_dataloader(config.test_dataloader, seed=runner.seed)
    step = runner.model.test_step
    runner.model.test_step = watch = Stopwatch(step)
    try:
        metrics = runner.test()
    finally:
        runner.model.test_step = step
    row = {name: f'{float(value):.6g}' for name, value in metrics.items() if isinstance(value, Real)}
    return {SCALE: f'{factor:g}', **row, TIME: f'{np.median(watch.seconds) * 1e3:.4g}'}


def markdown(rows: List[Dict[str, str]]) -> str:
    """The rows as a Markdown table."""
    names = list(rows[-1])
    lines = [names, ['---:'] * len(names), *([row.get(name, '') for name in names] for row in rows)]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines) + '\n'


def plot(rows: List[Dict[str, str]], metric: str, path: Path) -> None:
    """Plot a metric and the time against the scale."""
    figure = Figure(figsize=(9, 3.5), layout='constrained')
    for i, name in enumerate((metric, TIME)):
        axes = figure.add_subplot(1, 2, i + 1)
        points = sorted((float(row[SCALE]), float(row[name])) for row in rows if name in row)
        axes.plot(*zip(*points), marker='.', color=f'C{i}')
        axes.set(xlabel='scale of the input', title=name, ylim=(0, None))
        axes.grid(alpha=0.3)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=120)


def main() -> None:
    args = parse_args()
    if min(args.scales) <= 0:
        raise InputError(f'--scales expects factors above 0, but got {min(args.scales):g}; 1 is the size that the '
                         'config tests at')
    if args.launcher != 'none':
        raise InputError(f'scales.py measures in one process, but got --launcher {args.launcher}; leave it out')
    config = prepare(args, default_folder='scales')
    test_pipeline(config)
    if args.flip:
        add_flip(deepcopy(config))
    runner = build(config, args.checkpoint, args.flip)
    rows = []
    folder = Path(config.work_dir)
    for factor in args.scales:
        rows.append(measure(runner, config, factor, args.flip))
        write_csv(folder / 'scales.csv', rows)
    metric = (config.get('default_hooks') or {}).get('checkpoint', {}).get('save_best')
    names = [name for name in rows[-1] if name not in (SCALE, TIME)]
    if names:
        plot(rows, metric if metric in names else names[0], folder / 'scales.png')
    with written_whole(folder / 'scales.md') as temporary:
        temporary.write_text(markdown(rows))
    print(f'\n{markdown(rows)}\nTable and picture: {folder}/scales.csv, scales.md and scales.png')


if __name__ == '__main__':
    with input_errors():
        main()
