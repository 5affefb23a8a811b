"""Draws docs/results/cifar10-stem/stem.png from the study's runs.csv, and prints how much of its input a mixer reads
outside the map, and the last training losses, as tables: `python docs/figures/stem.py`."""

import csv
import json
import sys
from pathlib import Path

from matplotlib.figure import Figure

from mmcyclemlp.models.cyclemlp import ARCHS
from mmcyclemlp.ops import staircase_offsets

FOLDER = Path(__file__).parents[1] / 'results' / 'cifar10-stem'
IMAGE = 32
VARIANTS = [(4, 3), (2, 3), (1, 3), (4, 5), (4, 7)]  # stride of the stem, size of the kernels


def outside(side, channels, kernel_size):
    """Share of what a CycleFC layer reads of a map with ``side`` positions a side that lies outside, and so is 0."""
    shifts = [min(abs(dx), side) for _, dx in staircase_offsets(channels, (1, kernel_size))]
    return sum(shifts) / (channels * side)


def shares(stride, kernel_size):
    """The share in each stage of B1."""
    sides = [max(1, IMAGE // stride >> stage) for stage in range(4)]
    return [outside(side, channels, kernel_size) for side, channels in zip(sides, ARCHS['b1']['embed_dims'])]


def table():
    """The shares, as Markdown."""
    lines = ['| stem, kernels | stage 1 | 2 | 3 | 4 |', '|---|---|---|---|---|']
    for stride, size in VARIANTS:
        cells = ' | '.join(f'{100 * share:.0f} %' for share in shares(stride, size))
        lines.append(f'| stride {stride} kernel {size} | {cells} |')
    return '\n'.join(lines)


def last_losses():
    """Mean training loss of each run over the iterations that its log holds of the last epoch."""
    with (FOLDER / 'log.json').open() as file:
        records = [json.loads(line) for line in file]
    training = [record for record in records if 'loss' in record]
    last = max(record['epoch'] for record in training)
    losses = {}
    for record in training:
        if record['epoch'] == last:
            losses.setdefault(record['run'], []).append(record['loss'])
    return {run: sum(values) / len(values) for run, values in losses.items()}


def draw(accuracies):
    """Accuracies beside the shares."""
    names = [f'stride {stride} kernel {size}' for stride, size in VARIANTS]
    figure = Figure(figsize=(11, 3.8), layout='constrained')
    bars, lines = figure.subplots(1, 2)
    systems = [*names, 'ResNet-18']
    for i, augmentation in enumerate(('plain', 'augmented')):
        heights = [accuracies[f'{name} {augmentation}'] for name in systems]
        drawn = bars.bar(
            [k + 0.4 * i for k in range(len(systems))],
            heights,
            0.38,
            label='crops and flips' if i else 'no augmentation',
        )
        bars.bar_label(drawn, fmt='%.1f', fontsize=7)
    bars.set(
        title='CycleMLP-B1 and ResNet-18, 10 epochs of 2,000 images',
        ylabel='test accuracy, %',
        ylim=(0, 1.25 * max(accuracies.values())),
    )
    bars.set_xticks(
        [k + 0.2 for k in range(len(systems))], [name.replace(' kernel', '\nkernel') for name in systems], fontsize=8
    )
    bars.legend(fontsize='small')
    for name, variant in zip(names, VARIANTS):
        lines.plot(range(1, 5), [100 * share for share in shares(*variant)], marker='o', label=name)
    lines.set(
        title=f'read outside the map, in images of {IMAGE}x{IMAGE}',
        xlabel='stage',
        ylabel='% of what a shifting branch reads',
        xticks=range(1, 5),
        ylim=(0, None),
    )
    lines.grid(alpha=0.3)
    lines.legend(fontsize='small')
    figure.savefig(FOLDER / 'stem.png', dpi=110)


def main():
    print(table())
    runs = FOLDER / 'runs.csv'
    if not runs.is_file():
        sys.exit(f'no picture: expected the results of `python tools/study.py cifar10-stem` in {runs}; copy them there')
    for run, loss in last_losses().items():
        print(f'{run}: {loss:.2f}')
    with runs.open(newline='') as file:
        draw({row['run']: 100 * float(row['last test accuracy']) for row in csv.DictReader(file)})


if __name__ == '__main__':
    main()
