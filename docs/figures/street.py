"""Draws image, truth and prediction of CamVid's validation images in rows, and the classes' colours below:

    python docs/figures/street.py docs/results/camvid/found.jpg data/camvid work_dirs/camvid_fpn_b1/infer NAME...

The prediction is the index image that tools/infer.py wrote; pixels of no class are black.
"""
import sys
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mmcyclemlp.datasets.camvid import CamVid

COLOURS = np.zeros((256, 3), np.uint8)
COLOURS[:len(CamVid.METAINFO['palette'])] = CamVid.METAINFO['palette']


def main():
    out, data, found, *names = sys.argv[1:]
    figure = Figure(figsize=(9, 2.35 * len(names) + 0.5), layout='constrained')
    for row, name in zip(figure.subplots(len(names), 3, squeeze=False), names):
        image = cv2.imread(str(Path(data, 'img_dir', 'val', name)))[..., ::-1]
        truth, mask = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (
            Path(data, 'ann_dir', 'val', name), Path(found, 'masks', name)))
        shown = np.where((truth == 11)[..., None], np.uint8(0), COLOURS[mask])
        for axes, picture, title in zip(row, (image, COLOURS[truth], shown), ('image', 'truth', 'prediction')):
            axes.imshow(picture)
            axes.set_axis_off()
            if name == names[0]:
                axes.set_title(title)
    handles = [Patch(color=np.divide(colour, 255), label=label)
               for label, colour in zip(CamVid.METAINFO['classes'], CamVid.METAINFO['palette'])]
    figure.legend(handles=handles, loc='outside lower center', ncols=6, frameon=False)
    figure.savefig(out, dpi=90)


if __name__ == '__main__':
    main()
