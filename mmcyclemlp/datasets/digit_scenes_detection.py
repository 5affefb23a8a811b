"""Digit scenes with boxes and masks, for mmdet."""

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS

from .digit_scenes import CLASSES, PALETTE, MadeScenes


@DATASETS.register_module()
class DigitScenesDetection(MadeScenes, CocoDataset):
    """CocoDataset of digit scenes: ten classes, a box and a mask for each digit.

    Args:
        data_root (str): folder with ``{train,val}/`` and ``annotations/{train,val}.json``.
        **kwargs: of mmdet's CocoDataset, such as ``ann_file='annotations/train.json'`` and
            ``data_prefix=dict(img='train/')``.
    """

    METAINFO = dict(classes=CLASSES, palette=PALETTE)

    def __init__(self, data_root: str = 'data/digit_scenes', **kwargs):
        super().__init__(data_root=data_root, **kwargs)
