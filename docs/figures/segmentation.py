"""Draws CamVid's validation images beside their truth and the predictions of tools/infer.py:

    python docs/figures/segmentation.py OUT.jpg NAME[,NAME...] TITLE=FOLDER[,...]

NAME is that of an image without its ending, FOLDER what tools/infer.py wrote its masks into.
"""
import sys
from pathlib import Path

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from mmcyclemlp.datasets.camvid import CamVid

DATA = Path('data/camvid')


def main():
    out, names, runs = sys.argv[1], sys.argv[2].split(','), [run.split('=') for run in sys.argv[3].split(',')]
    colours = np.array([*CamVid.METAINFO['palette'], (0, 0, 0)]) / 255
    style = dict(cmap=ListedColormap(colours), vmin=0, vmax=len(colours) - 1, interpolation='nearest')
    titles = ['image', 'truth', *(title for title, _ in runs)]
    figure = Figure(figsize=(3 * len(titles), 2.3 * len(names) + 0.8), layout='constrained')
    rows = figure.subplots(len(names), len(titles), squeeze=False)
    for axes, name in zip(rows, names):
        axes[0].imshow(Image.open(DATA / f'img_dir/val/{name}.jpg'))
        axes[1].imshow(Image.open(DATA / f'ann_dir/val/{name}.png'), **style)
        for axis, (_, folder) in zip(axes[2:], runs):
            axis.imshow(Image.open(Path(folder) / f'{name}.png'), **style)
    for axis, title in zip(rows[0], titles):
        axis.set_title(title)
    for axis in rows.flat:
        axis.axis('off')
    labels = [*CamVid.METAINFO['classes'], 'none (not judged)']
    figure.legend(handles=[Patch(facecolor=colour, label=label) for colour, label in zip(colours, labels)],
                  loc='outside lower center', ncols=6, frameon=False)
    figure.savefig(out, dpi=80)


if __name__ == '__main__':
    main()
