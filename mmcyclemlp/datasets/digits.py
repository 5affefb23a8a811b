"""scikit-learn's handwritten digits, which need no download."""
from typing import List

import numpy as np
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS

from mmcyclemlp.errors import InputError, MissingDependencyError

SPLITS = ('train', 'test')


@DATASETS.register_module()
class Digits(BaseDataset):
    """The 1,797 handwritten digits that scikit-learn carries (UCI's optical recognition set, test part).

    Every fifth image of each class is held out as ``test``: 1,438 training and 359 test images, the same
    everywhere and as balanced as the whole.

    An item holds ``img``, uint8 ``[8, 8, 3]`` in 0..255 with three equal channels, and ``gt_label``.

    Args:
        split (str): ``train`` or ``test``.
        **kwargs: of mmpretrain's BaseDataset, such as ``pipeline`` and ``indices``.

    Raises:
        InputError: for another split.
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
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise MissingDependencyError(
                'the digits are embedded in scikit-learn, which is not installed; run `pip install scikit-learn`'
            ) from error
        digits = load_digits()
        # Ink in 0..16 -> 0..255, uint8 [N, 8, 8, 3].
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None].repeat(3, axis=-1)
        held_out = np.zeros(len(images), dtype=bool)
        for label in range(10):
            held_out[np.flatnonzero(digits.target == label)[2::5]] = True
        return [dict(img=images[i], gt_label=int(digits.target[i]))
                for i in np.flatnonzero(held_out == (self.split == 'test'))]

    def extra_repr(self) -> List[str]:
        return [f'Split: \t{self.split}']
