"""STL-10, from the original binary files or from a folder of images."""

import os
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import List, Optional

import numpy as np
from mmengine import dist
from mmengine.logging import print_log
from mmpretrain.datasets import BaseDataset
from mmpretrain.datasets.utils import download_url
from mmpretrain.registry import DATASETS

from mmcyclemlp.errors import InputError

from .image_folder import load_image_folder

SPLITS = ('train', 'test')
SIDE = 96
IMAGE_BYTES = 3 * SIDE * SIDE
FOLDS = 10
FOLDS_FILE = 'fold_indices.txt'


@DATASETS.register_module()
class STL10(BaseDataset):
    """STL-10's labelled images, held in memory: 5,000 for training, 8,000 for testing.

    An item holds ``img``, uint8 ``[96, 96, 3]`` RGB, and ``gt_label``. ``data_root`` holds the original binary files,
    ``stl10_binary/{train,test}_{X,y}.bin``, or an image folder, ``{train,test}/CLASS/*``, with the ten class folders of
    STL-10 and equally many images in each. Otherwise the archive of the binary files (2.6 GB, most of it unlabelled) is
    downloaded there and checked.

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
    base_folder = 'stl10_binary'
    url = 'http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz'
    md5 = '91f7769df0f17e558f3565bffb0c7dfb'

    def __init__(
        self,
        data_root: str = 'data/stl10',
        split: str = 'train',
        fold: Optional[int] = None,
        download: bool = True,
        **kwargs,
    ):
        if split == 'unlabeled':
            raise InputError(
                'STL10 reads labelled images, but split is unlabeled, whose images have no labels; use train or test'
            )
        if split not in SPLITS:
            raise InputError(f'split of STL10 must be one of {SPLITS}, got {split!r}')
        if fold is not None and (split != 'train' or fold not in range(FOLDS)):
            raise InputError(
                f'fold of STL10 must be a number from 0 to {FOLDS - 1}, of split train, got {fold!r} of {split}'
            )
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
        if not (root / self.base_folder).is_dir():
            if any((root / split).is_dir() for split in SPLITS):
                if self.fold is not None:
                    raise InputError(
                        f'fold of STL10 is defined for the order of the original binary files, but {root} '
                        'holds a folder of images; leave it out, or use the binary files'
                    )
                return load_image_folder(root / self.split, 'STL-10', self.METAINFO['classes'], SIDE)
            if dist.is_main_process():
                self._fetch(root)
            dist.barrier()
        print_log(f'STL-10 {self.split}: original binary files in {root}', 'current')
        return self._read(root / self.base_folder)

    def _read(self, folder: Path) -> List[dict]:
        labels = _content(folder / f'{self.split}_y.bin')
        pixels = _content(folder / f'{self.split}_X.bin')
        if len(pixels) != IMAGE_BYTES * len(labels) or not len(labels) or not np.isin(labels, range(1, 11)).all():
            raise InputError(
                f'expected {self.split}_X.bin and {self.split}_y.bin in {folder} to hold as many images '
                f'as labels from 1 to 10, but {len(pixels):,} bytes of images (each {IMAGE_BYTES:,}) do '
                f'not fit {len(labels):,} labels; remove the folder to have it made again'
            )
        # Channel by channel, and each channel column by column: [N, C, W, H] -> [N, H, W, C].
        images = pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 3, 2, 1)
        chosen = range(len(labels)) if self.fold is None else self._fold_indices(folder, len(labels))
        return [dict(img=np.ascontiguousarray(images[i]), gt_label=int(labels[i]) - 1) for i in chosen]

    def _fold_indices(self, folder: Path, count: int) -> List[int]:
        path = folder / FOLDS_FILE
        lines = path.read_text().splitlines() if path.is_file() else []
        words = lines[self.fold].split() if len(lines) == FOLDS else []
        if not words or not all(word.isdigit() and int(word) < count for word in words):
            raise InputError(
                f'fold {self.fold} of STL10 expects {path} to hold {FOLDS} lines of indices below '
                f'{count}, but it does not; remove {folder} to have it made again'
            )
        return list(map(int, words))

    def _fetch(self, root: Path) -> None:
        """Download the archive unless it is there, check it, and unpack what is labelled."""
        if not self.download:
            raise self._absent(root, 'download=False was given')
        try:
            print_log(f'STL-10 is not in {root}; downloading its binary files (2.6 GB)', 'current')
            root.mkdir(parents=True, exist_ok=True)
            archive = root / self.url.rpartition('/')[2]
            download_url(self.url, str(root), archive.name, self.md5)
            _unpack(archive, root / self.base_folder)
        except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:  # no network, no space; another checksum
            raise self._absent(root, f'could not fetch it ({error})') from error

    def _absent(self, root: Path, reason: str) -> InputError:
        return InputError(
            f'expected STL-10 in {root}, found neither {self.base_folder}/ nor train/ and test/, and '
            f'{reason}; unpack {self.url} there, or put the images there as '
            '{train,test}/CLASS/*.png'
        )

    def extra_repr(self) -> List[str]:
        return [f'Split: \t{self.split}', f'Fold: \t{self.fold}']


def _content(path: Path) -> np.ndarray:
    """All bytes of a file."""
    if not path.is_file():
        raise InputError(
            f'expected STL-10 as {path.parent.name}/, found no {path}; remove {path.parent} to have it made again'
        )
    return np.fromfile(path, dtype=np.uint8)


def _unpack(archive: Path, folder: Path) -> None:
    """Extract all but the unlabelled images; a folder that exists is whole."""
    temporary = Path(tempfile.mkdtemp(prefix=f'.{folder.name}.', dir=folder.parent))
    try:
        with tarfile.open(archive) as tar:
            members = [member for member in tar if 'unlabeled' not in member.name]
            tar.extractall(temporary, members=members, filter='data')
        os.replace(temporary / folder.name, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
