"""Gathers the training losses of docs/results/finetune/finetune.sh into log.json beside it, and draws curves.png:
`python docs/figures/finetune.py [WORK_DIR]`. Without WORK_DIR, log.json is drawn as it is."""

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure

FOLDER = Path(__file__).parents[1] / 'results' / 'finetune'
RUNS = {'finetuned-1e-3': 'from other classes', 'scratch-5e-4': 'from random weights'}
RUNS['scratch-5e-4-long'] = 'from random weights, 60 epochs'


def gather(work_dir):
    lines = []
    for run in RUNS:
        (scalars,) = (work_dir / run).glob('*/vis_data/scalars.json')
        records = map(json.loads, scalars.read_text().splitlines())
        lines += [{'run': run, 'epoch': each['epoch'], 'loss': each['loss']} for each in records if 'loss' in each]
    (FOLDER / 'log.json').write_text(''.join(f'{json.dumps(line)}\n' for line in lines))


def draw():
    records = [json.loads(line) for line in (FOLDER / 'log.json').read_text().splitlines()]
    figure = Figure(figsize=(7, 4), layout='constrained')
    axes = figure.add_subplot(xlabel='epoch', ylabel='training loss')
    for run, label in RUNS.items():
        points = [(each['epoch'], each['loss']) for each in records if each['run'] == run]
        axes.plot(*zip(*points), label=label)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(FOLDER / 'curves.png', dpi=100)


if __name__ == '__main__':
    if sys.argv[1:]:
        gather(Path(sys.argv[1]))
    draw()
