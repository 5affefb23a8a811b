#!/usr/bin/env python
"""Test the same weights at several scales of the input; report metrics and time per image for each scale.

    python tools/analysis/scales.py configs/cyclemlp/camvid_fpn_b1.py work_dirs/camvid_fpn_b1/iter_6400.pth
    python tools/analysis/scales.py CONFIG CHECKPOINT --scales 0.75 1 1.25 --flip

Scale 1 is the size that the config tests at. Writes scales.csv, scales.md and scales.png to
work_dirs/CONFIG NAME/scales. User errors print one line and exit with status 2.
"""

import sys
import time
from argparse import Namespace
from copy import deepcopy
from numbers import Real
from pathlib import Path
from typing import Any, Dict, List, Sequence, Union

# A checkout works without installation, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine import Config
from mmengine.hooks import Hook, PrepareTTAHook
from mmengine.runner import Runner

from mmcyclemlp.checkpoints import read_checkpoint
from mmcyclemlp.checks import check_data
from mmcyclemlp.cli.arguments import add_config, command, parser_of
from mmcyclemlp.config import load_config
from mmcyclemlp.config.edits import edited, work_dir
from mmcyclemlp.config.walk import dataset_sections, name_of
from mmcyclemlp.engine import ConsoleRunner
from mmcyclemlp.errors import InputError
from mmcyclemlp.files import make_folder, written_whole
from mmcyclemlp.tables import markdown, write_csv

SCALE, TIME = 'scale', 'ms an image'
LARGEST = 100
# Transforms that decide the input's size, and their numbers that do.
SIZED = {'CenterCrop': 'crop_size', 'FixScaleResize': 'scale', 'Resize': 'scale', 'ResizeEdge': 'scale'}
FLIP_KEYS = ('flip', 'flip_direction')

PARSER = parser_of(__doc__)
add_config(PARSER)
PARSER.add_argument(
    '--scales',
    nargs='+',
    type=float,
    default=[0.5, 1.0, 1.5, 2.0],
    metavar='FACTOR',
    help='scales of the input, relative to the size that the config tests at (default: 0.5 1 1.5 2)',
)
PARSER.add_argument(
    '--flip',
    action='store_true',
    help="average the predictions on each image and its mirror image with the config's tta_model",
)
PARSER.add_argument('--work-dir', metavar='DIR', help='where results go')


def tested_pipeline(config: Config) -> list:
    """The pipeline of a config's test dataset, inside any wrappers.

    Raises:
        InputError: there is none.
    """
    for path, section in dataset_sections(config, 'test'):
        if 'pipeline' in section and '.datasets.' not in path:  # of several, each has its own
            return section['pipeline']
    raise InputError('expected a config whose test_dataloader.dataset has a pipeline, but found none; add one')


def scale_input(config: Config, factor: float) -> None:
    """Scale test images by ``factor``, in place.

    If the pipeline resizes, its numbers are multiplied; otherwise a Resize is added after the image is loaded.
    Predictions and annotations are compared at the size that the config's metric uses.
    """
    pipeline = tested_pipeline(config)
    sized = [transform for transform in pipeline if name_of(transform) in SIZED]
    for transform in sized:
        if transform.get('scale_factor') is not None:
            transform['scale_factor'] = _times(transform['scale_factor'], factor)
        else:
            key = SIZED[name_of(transform)]
            transform[key] = _times(transform[key], factor)
    if not sized:
        pipeline.insert(_after_image(pipeline), dict(type='Resize', scale_factor=float(factor), keep_ratio=True))


def add_flip(config: Config) -> None:
    """Average the test over each image and its mirror image with mmcv's TestTimeAug, in place.

    The model must be wrapped by the config's ``tta_model`` as well.

    Raises:
        InputError: the config has no ``tta_model``.
    """
    if 'tta_model' not in config:
        raise InputError(
            'a test with mirrored images expects the config to say how predictions are merged, such as '
            "tta_model=dict(type='SegTTAModel') for segmentation; add it"
        )
    pipeline = tested_pipeline(config)
    sized = [i + 1 for i, transform in enumerate(pipeline) if name_of(transform) in SIZED]
    start = max([_after_image(pipeline), *sized])
    rest = deepcopy(pipeline[start:])
    for transform in rest:
        if 'meta_keys' in transform:
            transform['meta_keys'] = (*transform['meta_keys'], *FLIP_KEYS)
    flips = [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)]
    pipeline[start:] = [dict(type='TestTimeAug', transforms=[flips, *([transform] for transform in rest)])]


def _after_image(pipeline: Sequence[dict]) -> int:
    """Index of the transform after the one that loads the image; 0 where the dataset holds images."""
    return next((i + 1 for i, transform in enumerate(pipeline) if 'Image' in name_of(transform)), 0)


def _times(value: Any, factor: float) -> Union[int, float, tuple, List]:
    """A size, or each of several, times ``factor``; whole numbers stay whole, and above 0."""
    if isinstance(value, (list, tuple)):
        return type(value)(_times(part, factor) for part in value)
    if isinstance(value, int):
        return max(1, round(value * factor)) if value > 0 else value  # -1 stands for no limit
    return value * factor


class Stopwatch(Hook):
    """Times a model's test step: seconds per image, from a batch in memory to its predictions."""

    priority = 'LOWEST'  # after PrepareTTAHook

    def before_test(self, runner: Runner) -> None:
        self.seconds: List[float] = []
        self._step, runner.model.test_step = runner.model.test_step, self._timed

    def after_test(self, runner: Runner) -> None:
        runner.model.test_step = self._step

    def _timed(self, data: Any) -> list:
        start = time.perf_counter()
        predictions = self._step(data)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append((time.perf_counter() - start) / len(predictions))
        return predictions


def measure(runner: Runner, watch: Stopwatch, config: Config, factor: float, flip: bool) -> Dict[str, str]:
    """A row of the table: scale, metrics, and the median time per image."""
    config = deepcopy(config)
    scale_input(config, factor)
    if flip:
        add_flip(config)
    runner.test_loop.dataloader = runner.build_dataloader(config.test_dataloader, seed=runner.seed)
    model = runner.model
    metrics = runner.test()
    runner.model = model  # which PrepareTTAHook wraps in each test
    row = {name: f'{float(value):.6g}' for name, value in metrics.items() if isinstance(value, Real)}
    return {SCALE: f'{factor:g}', **row, TIME: f'{np.median(watch.seconds) * 1e3:.4g}'}


def table(rows: List[Dict[str, str]]) -> str:
    """The rows as a Markdown table."""
    names = list(rows[-1])
    return markdown(names, [[row.get(name, '') for name in names] for row in rows]) + '\n'


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


@command(PARSER)
def main(args: Namespace) -> None:
    wrong = next((factor for factor in args.scales if not 0 < factor <= LARGEST), None)
    if wrong is not None:
        raise InputError(
            f'--scales expects factors above 0 and up to {LARGEST}, but got {wrong:g}; 1 is the size that the config '
            'tests at'
        )
    config = edited(
        load_config(args.config, args.cfg_options),
        work_dir(args.work_dir, args.config, 'scales'),
        {'load_from': args.checkpoint, 'resume': False},
    )
    tested_pipeline(config)
    if args.flip:
        add_flip(deepcopy(config))
    checkpoint = read_checkpoint(args.checkpoint)
    check_data(config, 'test', checkpoint=checkpoint)
    folder = make_folder(config.work_dir, '--work-dir')
    runner = ConsoleRunner.from_cfg(config)
    runner.give(checkpoint)
    watch = Stopwatch()
    if args.flip:
        runner.register_hook(PrepareTTAHook(config.tta_model))
    runner.register_hook(watch)
    rows = []
    for factor in args.scales:
        rows.append(measure(runner, watch, config, factor, args.flip))
        write_csv(folder / 'scales.csv', list(dict.fromkeys(name for row in rows for name in row)), rows)
    metric = ((config.get('default_hooks') or {}).get('checkpoint') or {}).get('save_best')
    names = [name for name in rows[-1] if name not in (SCALE, TIME)]
    if names:
        plot(rows, metric if metric in names else names[0], folder / 'scales.png')
    with written_whole(folder / 'scales.md') as temporary:
        temporary.write_text(table(rows))
    print(f'\n{table(rows)}\nTable and picture: {folder}/scales.csv, scales.md and scales.png')


if __name__ == '__main__':
    sys.exit(main())
