"""STL-10, from the original binary files or from a folder of images."""

import tarfile
from pathlib import Path
from typing import List, Optional

import numpy as np
import torchvision.datasets
from mmengine import dist
from mmengine.logging import print_log
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS

from mmcyclemlp.errors import InputError

from .image_folder import load_image_folder

SPLITS = ('train', 'test')
SIDE = 96


class Labelled(torchvision.datasets.STL10):
    """torchvision's reader, content without the 100,000 unlabelled images."""

    train_list = torchvision.datasets.STL10.train_list[:2]


@DATASETS.register_module()
class STL10(BaseDataset):
    """STL-10's labelled images, held in memory: 5,000 for training, 8,000 for testing.

    An item holds ``img``, uint8 ``[96, 96, 3]`` RGB, and ``gt_label``. ``data_root`` holds the original binary files,
    ``stl10_binary/{train,test}_{X,y}.bin``, or an image folder, ``{train,test}/CLASS/*``, with the ten class folders of
    STL-10 and equally many images in each. Otherwise torchvision downloads the archive of the binary files (2.6 GB,
    most of it unlabelled). Binary files are checked by their MD5.

    Args:
        data_root (str): folder of either form.
        split (str): ``train`` or ``test``; the 100,000 unlabelled images are not read.
        fold (int, optional): 0 to 9, one of the predefined folds of 1,000 training images in ``fold_indices.txt`` of
            the binary files. Default: all training images.
        download (bool): whether to download missing files.
        **kwargs: of mmpretrain's BaseDataset, such as ``pipeline`` and ``indices``.

    Raises:
        InputError: unknown split or fold; the data are missing and cannot be downloaded, or are incomplete.
    """

    METAINFO = {'classes': ('airplane', 'bird', 'car', 'cat', 'deer', 'dog', 'horse', 'monkey', 'ship', 'truck')}

    def __init__(
        self,
        data_root: str = 'data/stl10',
        split: str = 'train',
        fold: Optional[int] = None,
        download: bool = True,
        **kwargs,
    ):
        if split not in SPLITS:
            raise InputError(f'split of STL10 must be one of {SPLITS}, whose images have labels, got {split!r}')
        if fold is not None and (split != 'train' or fold not in range(10)):
            raise InputError(f'fold of STL10 must be a number from 0 to 9, of split train, got {fold!r} of {split}')
        self.split, self.fold, self.download = split, fold, download
        super().__init__(
            ann_file='',
            data_root=str(Path(data_root).expanduser()),
            data_prefix=dict(root=''),
            test_mode=kwargs.pop('test_mode', split == 'test'),
            **kwargs,
        )

    def load_data_list(self) -> List[dict]:
        """All items of the split or fold."""
        root = Path(self.data_root).absolute()
        if not (root / Labelled.base_folder).is_dir() and any((root / split).is_dir() for split in SPLITS):
            if self.fold is not None:
                raise InputError(
                    f'fold of STL10 is defined for the order of the original binary files, but {root} holds a folder '
                    'of images; leave it out, or use the binary files'
                )
            return load_image_folder(root / self.split, 'STL-10', self.METAINFO['classes'], SIDE)
        if dist.is_main_process():
            self._files(root, self.download)
        dist.barrier()
        files = self._files(root, False)
        print_log(f'STL-10 {self.split}: original binary files in {root}', 'current')
        images = files.data.transpose(0, 2, 3, 1)  # [N, 3, H, W] -> [N, H, W, 3]
        return [dict(img=np.ascontiguousarray(img), gt_label=int(label)) for img, label in zip(images, files.labels)]

    def _files(self, root: Path, download: bool) -> Labelled:
        try:
            return Labelled(str(root), self.split, self.fold, download=download)
        except (OSError, RuntimeError, EOFError, IndexError, ValueError, tarfile.TarError) as error:
            raise InputError(
                f'expected STL-10 in {root}, but found neither whole files in {Labelled.base_folder}/ nor train/ and '
                f'test/ ({error}); unpack {Labelled.url} there, or put the images there as {{train,test}}/CLASS/*.png'
            ) from error

    def extra_repr(self) -> List[str]:
        return [f'Split: \t{self.split}', f'Fold: \t{self.fold}']
