"""Digit scenes with semantic masks, for mmseg."""
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from .digit_scenes import CLASSES, PALETTE, make_missing


@DATASETS.register_module()
class DigitScenesSegmentation(BaseSegDataset):
    """Digit scenes as semantic segmentation: the ground and ten digits.

    Where ``data_root`` is absent, 2,000 training and 100 validation scenes are written there first.

    Args:
        data_root (str): folder with ``{train,val}/`` and ``masks/{train,val}/``.
        img_suffix (str): of the images.
        **kwargs: of mmseg's BaseSegDataset, such as ``data_prefix=dict(img_path='train',
            seg_map_path='masks/train')``.
    """

    METAINFO = dict(classes=('background', *CLASSES), palette=[(0, 0, 0), *PALETTE])

    def __init__(self, data_root: str = 'data/digit_scenes', img_suffix: str = '.png', **kwargs):
        super().__init__(data_root=data_root, img_suffix=img_suffix, **kwargs)

    def make_missing(self) -> None:
        """Write the scenes unless ``data_root`` holds something."""
        make_missing(self.data_root)

    def full_init(self) -> None:
        """As BaseSegDataset's, of data that is there."""
        self.make_missing()
        super().full_init()
