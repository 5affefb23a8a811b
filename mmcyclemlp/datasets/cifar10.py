"""CIFAR-10, from the original binary files or from a folder of images."""

from pathlib import Path
from typing import List, Optional

import numpy as np
from mmengine.logging import print_log
from mmpretrain.datasets import CIFAR10
from mmpretrain.registry import DATASETS

from mmcyclemlp.errors import InputError

from .image_folder import check_images_per_class, load_image_folder

SPLITS = ('train', 'test')


@DATASETS.register_module()
class CIFAR10Auto(CIFAR10):
    """CIFAR-10, held in memory, from either form of the data.

    An item holds ``img``, uint8 ``[32, 32, 3]`` RGB, and ``gt_label``. ``data_root`` holds the original binary files,
    ``cifar-10-batches-py/``, or an image folder, ``{train,test}/CLASS/*``, with the ten class folders of CIFAR-10 and
    equally many images in each. Otherwise mmpretrain's CIFAR10 downloads the binary files (170 MB).

    Args:
        data_root (str): folder of either form.
        split (str): ``train`` or ``test``.
        images_per_class (int, optional): use only the first images of each class, for short runs. (``indices`` takes
            the first of all, which in an image folder belong to one class.)
        download (bool): whether to download missing files.
        **kwargs: of mmpretrain's CIFAR10, such as ``pipeline`` and ``indices``.

    Raises:
        InputError: the data are missing and cannot be downloaded, are incomplete or unreadable, or have fewer images
            per class than ``images_per_class``.
    """

    def __init__(
        self, data_root: str = 'data/cifar10', split: str = 'train', images_per_class: Optional[int] = None, **kwargs
    ):
        if split not in SPLITS:
            raise InputError(f'split of CIFAR10Auto must be one of {SPLITS}, got {split!r}')
        self.images_per_class = images_per_class
        super().__init__(data_root=str(Path(data_root).expanduser()), split=split, **kwargs)

    def load_data_list(self) -> List[dict]:
        """All items of the split."""
        root = Path(self.data_prefix['root']).absolute()
        if self._check_integrity():
            print_log(f'CIFAR-10 {self.split}: original binary files in {root}', 'current')
            return self._first(super().load_data_list(), root)
        if any((root / split).is_dir() for split in SPLITS):
            return load_image_folder(root / self.split, 'CIFAR-10', self.METAINFO['classes'], 32, self.images_per_class)
        if not self.download:
            raise self._absent(root, 'download=False was given')
        try:
            print_log(f'CIFAR-10 is not in {root}; downloading its binary files (170 MB)', 'current')
            return self._first(super().load_data_list(), root)
        except (OSError, RuntimeError) as error:  # no network, no space; another checksum
            raise self._absent(root, f'could not download it ({error})') from error

    def _first(self, items: List[dict], root: Path) -> List[dict]:
        """The first ``images_per_class`` items of each class, in their order."""
        if self.images_per_class is None:
            return items
        labels = np.array([item['gt_label'] for item in items])
        check_images_per_class(self.images_per_class, np.bincount(labels).min().item(), root)
        kept = [np.flatnonzero(labels == label)[: self.images_per_class] for label in np.unique(labels)]
        return [items[i] for i in np.sort(np.concatenate(kept))]

    def _absent(self, root: Path, reason: str) -> InputError:
        return InputError(
            f'expected CIFAR-10 in {root}, found neither a whole {self.base_folder}/ nor train/ and '
            f'test/, and {reason}; unpack {self.url} there, or put the images there as '
            '{train,test}/CLASS/*.jpg'
        )
