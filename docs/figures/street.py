"""Draws images of CamVid beside truth and prediction, of which tools/infer.py wrote the class indices:

    python docs/figures/street.py OUT.jpg data/camvid work_dirs/camvid_fpn_b1/infer NAME...
"""
import sys
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mmcyclemlp.datasets.camvid import VOID, CamVid

COLOURS = np.array([*CamVid.METAINFO['palette'], (0, 0, 0)], dtype=np.uint8)


def colours(path):
    return COLOURS[cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)]


def main():
    out, data, found, *names = sys.argv[1:]
    figure = Figure(figsize=(9, 2.35 * len(names) + 0.6), layout='constrained')
    grid = figure.subplots(len(names), 3, squeeze=False)
    for row, name in zip(grid, names):
        image = cv2.imread(f'{data}/img_dir/val/{name}.jpg')[..., ::-1]
        truth = colours(Path(data, 'ann_dir', 'val', f'{name}.png'))
        prediction = colours(Path(found, 'masks', f'{name}.png'))
        for axes, picture in zip(row, (image, truth, prediction)):
            axes.imshow(picture)
            axes.axis('off')
    for axes, title in zip(grid[0], ('image', 'truth', 'prediction')):
        axes.set_title(title)
    patches = [Patch(color=COLOURS[i] / 255, label=name) for i, name in enumerate(CamVid.METAINFO['classes'])]
    patches.append(Patch(color=COLOURS[VOID] / 255, label='no class'))
    figure.legend(handles=patches, ncols=6, loc='outside lower center', fontsize='small')
    figure.savefig(out, dpi=100)


if __name__ == '__main__':
    main()
