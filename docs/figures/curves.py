"""Draws loss and metrics of several runs into one picture:

    python docs/figures/curves.py docs/results/bccd/curves.png 'test bbox_mAP' 'test bbox_mAP_50' \
        CycleMLP-B1=docs/results/bccd/b1.csv ResNet-18=docs/results/bccd/r18.csv
"""

import csv
import sys

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def read(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def main():
    out, *arguments = sys.argv[1:]
    metrics = [argument for argument in arguments if '=' not in argument]
    runs = {name: read(path) for name, path in (argument.split('=') for argument in arguments if '=' in argument)}
    panels = ['train loss', *metrics]
    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout='constrained')
    for axes, column in zip(figure.subplots(1, len(panels)), panels):
        for name, rows in runs.items():
            unit = next(iter(rows[0]))
            axes.plot([int(row[unit]) for row in rows], [float(row[column]) for row in rows], marker='.', label=name)
        axes.set(title=column, xlabel=unit, ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(out, dpi=110)


if __name__ == '__main__':
    main()
