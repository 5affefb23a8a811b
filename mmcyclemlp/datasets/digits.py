"""scikit-learn's handwritten digits, which need no download."""

from typing import List

import numpy as np
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS

from mmcyclemlp.errors import InputError

from .digit_scenes import handwritten_digits

SPLITS = ('train', 'test')


@DATASETS.register_module()
class Digits(BaseDataset):
    """The 1,797 handwritten digits in scikit-learn (UCI's optical recognition set, test part).

    Every fifth image of each class belongs to ``test``: 1,438 training and 359 test images, the same everywhere.
    An item holds ``img``, uint8 ``[8, 8, 3]`` in 0..255 with three equal channels, and ``gt_label``.

    Args:
        split (str): ``train`` or ``test``.
        **kwargs: of mmpretrain's BaseDataset, such as ``pipeline`` and ``indices``.

    Raises:
        InputError: unknown split.
        MissingDependencyError: scikit-learn is not installed.
    """

    METAINFO = {'classes': tuple('0123456789')}

    def __init__(self, split: str = 'train', **kwargs):
        if split not in SPLITS:
            raise InputError(f'split of Digits must be one of {SPLITS}, got {split!r}')
        self.split = split
        super().__init__(ann_file='', test_mode=kwargs.pop('test_mode', split == 'test'), **kwargs)

    def load_data_list(self) -> List[dict]:
        """All items of the split, in scikit-learn's order."""
        images, labels = handwritten_digits(self.split == 'test')
        # Ink in 0..16 -> 0..255, uint8 [N, 8, 8, 3].
        images = np.rint(images * (255 / 16)).astype(np.uint8)[..., None].repeat(3, axis=-1)
        return [dict(img=image, gt_label=int(label)) for image, label in zip(images, labels)]

    def extra_repr(self) -> List[str]:
        return [f'Split: \t{self.split}']
