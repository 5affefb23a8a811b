"""Draws images of a config's test data beside truth and prediction, of which tools/infer.py wrote the class indices:

    python docs/figures/segments.py OUT.jpg configs/cyclemlp/camvid_fpn_b1.py work_dirs/camvid_fpn_b1/infer NAME...

NAME is an image's file name without its ending. Up to four images stand below each other, more in two columns.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS

from mmcyclemlp.config import load_config

NO_CLASS = np.zeros(3, dtype=np.uint8)


def main():
    out, config, found, *names = sys.argv[1:]
    init_default_scope('mmseg')
    dataset = DATASETS.build(load_config(config).test_dataloader.dataset)
    paths = {Path(item['img_path']).stem: item for item in map(dataset.get_data_info, range(len(dataset)))}
    classes = dataset.metainfo['classes']
    colours = np.tile(NO_CLASS, (256, 1))
    colours[: len(classes)] = dataset.metainfo['palette']
    shown = set()

    def mask(path):
        indices = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        shown.update(np.unique(indices).tolist())
        return colours[indices]

    columns = 1 if len(names) <= 4 else 2
    rows = -(-len(names) // columns)
    shape = cv2.imread(paths[names[0]]['img_path']).shape
    width = 3 if columns == 1 else 1.5  # of a picture, in inches
    height = width * shape[0] / shape[1] + 0.1
    figure = Figure(figsize=(3 * columns * width, rows * height + 0.6), layout='constrained')
    grid = figure.subplots(rows, 3 * columns, squeeze=False)
    for axes in grid.flat:
        axes.axis('off')
    for i, name in enumerate(names):
        pictures = (
            cv2.imread(paths[name]['img_path'])[..., ::-1],
            mask(paths[name]['seg_map_path']),
            mask(Path(found, 'masks', f'{name}.png')),
        )
        for axes, picture in zip(grid[i // columns, 3 * (i % columns) :], pictures):
            axes.imshow(picture)
    for axes, title in zip(grid[0], ('image', 'truth', 'prediction') * columns):
        axes.set_title(title)
    patches = [Patch(color=colours[i] / 255, label=name) for i, name in enumerate(classes)]
    if max(shown) >= len(classes):
        patches.append(Patch(color=NO_CLASS / 255, label='no class'))
    figure.legend(handles=patches, ncols=6, loc='outside lower center', fontsize='small')
    figure.savefig(out, dpi=100)


if __name__ == '__main__':
    main()
