"""Digit scenes with boxes and masks, for mmdet."""
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS

from .digit_scenes import CLASSES, PALETTE, make_missing


@DATASETS.register_module()
class DigitScenesDetection(CocoDataset):
    """CocoDataset of digit scenes: ten classes, a box and a mask for each digit.

    Where ``data_root`` is absent, 2,000 training and 100 validation scenes are written there first.

    Args:
        data_root (str): folder with ``{train,val}/`` and ``annotations/{train,val}.json``.
        **kwargs: of mmdet's CocoDataset, such as ``ann_file='annotations/train.json'`` and
            ``data_prefix=dict(img='train/')``.
    """

    METAINFO = dict(classes=CLASSES, palette=PALETTE)

    def __init__(self, data_root: str = 'data/digit_scenes', **kwargs):
        super().__init__(data_root=data_root, **kwargs)

    def make_missing(self) -> None:
        """Write the scenes unless ``data_root`` holds something."""
        make_missing(self.data_root)

    def full_init(self) -> None:
        """As CocoDataset's, of data that is there."""
        self.make_missing()
        super().full_init()
