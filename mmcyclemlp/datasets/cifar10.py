"""CIFAR-10, from the original binary files or from a folder of images."""
from pathlib import Path
from typing import List

import mmcv
import numpy as np
from mmengine.logging import print_log
from mmpretrain.datasets import CIFAR10
from mmpretrain.registry import DATASETS

from mmcyclemlp.errors import InputError

SPLITS = ('train', 'test')


@DATASETS.register_module()
class CIFAR10Auto(CIFAR10):
    """CIFAR-10 in whichever form lies under ``data_root``, held in memory as mmpretrain's CIFAR10 holds it.

    An item holds ``img``, uint8 ``[32, 32, 3]`` RGB, and ``gt_label``. Looked for in this order:

    1. the original binary files, ``cifar-10-batches-py/``, whole by their checksums;
    2. an image folder, ``{train,test}/CLASS/*``, with exactly CIFAR-10's ten class folders and equally many
       images in each;
    3. neither: mmpretrain's CIFAR10 downloads the binary files (170 MB), unless ``download`` is False.

    Args:
        data_root (str): folder of either form.
        split (str): ``train`` or ``test``.
        download (bool): whether to download what is not there.
        **kwargs: of mmpretrain's CIFAR10, such as ``pipeline`` and ``indices``.

    Raises:
        InputError: nothing is there and no download is possible; the image folder is not whole; an image cannot
            be read or is not 32x32.
    """

    def __init__(self, data_root: str = 'data/cifar10', split: str = 'train', **kwargs):
        if split not in SPLITS:
            raise InputError(f'split of CIFAR10Auto must be one of {SPLITS}, got {split!r}')
        super().__init__(data_root=str(Path(data_root).expanduser()), split=split, **kwargs)

    def load_data_list(self) -> List[dict]:
        """All items of the split."""
        root = Path(self.data_prefix['root']).absolute()
        if self._check_integrity():
            print_log(f'CIFAR-10 {self.split}: original binary files in {root}', 'current')
            return super().load_data_list()
        if any((root / split).is_dir() for split in SPLITS):
            return self._load_image_folder(root / self.split)
        if not self.download:
            raise self._absent(root, 'download=False was given')
        try:
            print_log(f'CIFAR-10 is not in {root}; downloading its binary files (170 MB)', 'current')
            return super().load_data_list()
        except (OSError, RuntimeError) as error:  # no network, no space; another checksum
            raise self._absent(root, f'could not download it ({error})') from error

    def _absent(self, root: Path, reason: str) -> InputError:
        return InputError(f'expected CIFAR-10 in {root}, found neither a whole {self.base_folder}/ nor train/ and '
                          f'test/, and {reason}; unpack {self.url} there, or put the images there as '
                          '{train,test}/CLASS/*.jpg')

    def _load_image_folder(self, folder: Path) -> List[dict]:
        if not folder.is_dir():
            raise InputError(f'expected train/ and test/ in {folder.parent}, found no {folder.name}/; CIFAR-10 as a '
                             'folder is {train,test}/CLASS/*, so unpack it again')
        classes = self.METAINFO['classes']
        files = [_class_files(folder, name) for name in classes]
        unexpected = sorted(entry.name for entry in _visible(folder) if entry.name not in classes)
        if unexpected:
            raise InputError(f"expected exactly CIFAR-10's ten class folders in {folder}, found {unexpected[0]} as "
                             f'well; remove it (the classes are {", ".join(classes)})')
        counts = {name: len(paths) for name, paths in zip(classes, files)}
        if len(set(counts.values())) > 1:
            few, many = min(counts, key=counts.get), max(counts, key=counts.get)
            raise InputError(f'expected equally many images of each class in {folder}, found {counts[few]} of {few} '
                             f'but {counts[many]} of {many}; unpack it again, it seems to have been interrupted')
        print_log(f'CIFAR-10 {self.split}: image folder {folder}, decoding {sum(counts.values()):,} images', 'current')
        return [dict(img=_read(path), gt_label=label) for label, paths in enumerate(files) for path in paths]


def _visible(folder: Path) -> List[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith('.'))


def _class_files(folder: Path, name: str) -> List[Path]:
    """Files of a class in the order of their names; InputError if there are none."""
    files = _visible(folder / name) if (folder / name).is_dir() else []
    if not files:
        state = 'is empty' if (folder / name).is_dir() else 'is missing'
        raise InputError(f'expected images of class {name} in {folder / name}, which {state}; CIFAR-10 as a folder '
                         'is {train,test}/CLASS/*, so unpack it again')
    return files


def _read(path: Path) -> np.ndarray:
    """Decode an image to uint8 [32, 32, 3] RGB."""
    try:
        # Pillow raises for a truncated file, which OpenCV fills with grey.
        image = mmcv.imread(str(path), channel_order='rgb', backend='pillow')
    except (OSError, SyntaxError) as error:  # SyntaxError: a broken PNG
        raise InputError(f'expected an image, but {path} cannot be read ({error}); unpack it again') from error
    if image.shape != (32, 32, 3):
        raise InputError(f'expected an image of 32x32 as all of CIFAR-10, but {path} is '
                         f'{image.shape[1]}x{image.shape[0]}; give the original images')
    return image
