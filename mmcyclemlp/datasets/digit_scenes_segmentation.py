"""Digit scenes with semantic masks, for mmseg."""

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from .digit_scenes import CLASSES, PALETTE, MadeScenes


@DATASETS.register_module()
class DigitScenesSegmentation(MadeScenes, BaseSegDataset):
    """Digit scenes as semantic segmentation: the ground and ten digits.

    Args:
        data_root (str): folder with ``{train,val}/`` and ``masks/{train,val}/``.
        img_suffix (str): of the images.
        **kwargs: of mmseg's BaseSegDataset, such as ``data_prefix=dict(img_path='train',
            seg_map_path='masks/train')``.
    """

    METAINFO = dict(classes=('background', *CLASSES), palette=[(0, 0, 0), *PALETTE])

    def __init__(self, data_root: str = 'data/digit_scenes', img_suffix: str = '.png', **kwargs):
        super().__init__(data_root=data_root, img_suffix=img_suffix, **kwargs)
