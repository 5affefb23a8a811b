"""A loader that names images it cannot read, or skips and counts them."""

import logging
import os
from pathlib import Path
from typing import Any, Optional

from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS

from mmcyclemlp.errors import InputError
from mmcyclemlp.images import UNREADABLE
from mmcyclemlp.untrusted import guard_libraries


# Registered in mmengine's root, where mmpretrain, mmdet and mmseg all find a scope-less type.
@TRANSFORMS.register_module()
class LoadReadableImage(LoadImageFromFile):
    """mmcv's LoadImageFromFile that names an image it cannot read, instead of returning part of it.

    It decodes with Pillow, which says what is wrong; OpenCV gives no reason, and its older versions fill the rest of a
    truncated file with grey. In a training pipeline, ``skipped`` lets the dataset draw a random image instead::

        tools/train.py CONFIG --cfg-options train_dataloader.dataset.pipeline.0.type=LoadReadableImage \\
            train_dataloader.dataset.pipeline.0.skipped=skipped.txt

    Args:
        skipped (str, optional): text file for the names of skipped images; each run starts it anew. Without it, no
            image is skipped.
        most (int): the most images to skip; with more, the data are at fault.
        imdecode_backend (str): as in LoadImageFromFile.
        **kwargs: of LoadImageFromFile.

    Raises:
        InputError: an image cannot be read, or with ``skipped`` more than ``most`` cannot.
    """

    def __init__(self, skipped: Optional[str] = None, most: int = 100, imdecode_backend: str = 'pillow', **kwargs: Any):
        guard_libraries()
        super().__init__(imdecode_backend=imdecode_backend, **kwargs)
        self.skipped = skipped
        self.most = most
        if skipped is not None:
            Path(skipped).unlink(missing_ok=True)

    def transform(self, results: dict) -> Optional[dict]:
        """As LoadImageFromFile's, or None for an image that is passed over."""
        path = results['img_path']
        try:
            return super().transform(results)
        except UNREADABLE as error:
            if self.skipped is None:
                if isinstance(error, InputError):
                    raise
                reason = getattr(error, 'strerror', None) or error
                raise InputError(
                    f'expected an image, but {path} cannot be read ({reason}); copy or make it again, or remove it'
                ) from error
            reason = str(error.__cause__ or error)
            self._pass_over(str(path), reason)
            return None

    def _pass_over(self, path: str, reason: str) -> None:
        # A file, since several processes read images, and each has an object of its own.
        os.makedirs(os.path.dirname(self.skipped) or '.', exist_ok=True)
        with open(self.skipped, 'a+', encoding='utf-8') as file:
            file.seek(0)
            known = file.read().splitlines()
            if path in known:
                return
            file.write(f'{path}\n')
        count = len(known) + 1
        if count > self.most:
            raise InputError(
                f'expected at most {self.most} images that cannot be read, but {path} is the '
                f'{count}th; they are listed in {self.skipped}: copy or make them again'
            )
        print_log(
            f'Passed over {path}, which cannot be read ({reason}); {count} so far, listed in {self.skipped}',
            'current',
            logging.WARNING,
        )
