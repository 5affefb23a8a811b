"""The checked reading of masks in mmseg's pipelines."""

from typing import Any, Optional

from mmseg.datasets.transforms import loading
from mmseg.registry import TRANSFORMS

from mmcyclemlp.errors import InputError

from .masks import Labels, check_size, read_mask, value_table


# By mmseg's own name, in its place: mmseg's inferencer takes this step out of a pipeline, and others look for it. The
# second name is that of older configs.
@TRANSFORMS.register_module(['LoadAnnotations', 'LoadCheckedMask'], force=True)
class LoadAnnotations(loading.LoadAnnotations):
    """mmseg's LoadAnnotations that names a wrong mask; it also accepts masks of one row or column.

    Reads ``seg_map_path``, ``reduce_zero_label``, ``label_map`` and, if the image is loaded, its ``ori_shape``; adds
    ``gt_seg_map``, uint8 ``[H, W]``.

    Args:
        num_classes (int, optional): number of classes in the files; without it, as in configs of mmseg, a mask may hold
            any values.
        ignore_index (int): value of pixels without a class; 0 and 255 for datasets with ``reduce_zero_label``.
        **kwargs: of mmseg's LoadAnnotations.

    Raises:
        InputError: as ``mmcyclemlp.datasets.masks.read_mask``, or the image has another size, or
            ``reduce_zero_label`` is not that of the dataset.
    """

    def __init__(self, num_classes: Optional[int] = None, ignore_index: int = 255, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def _load_seg_map(self, results: dict) -> None:
        of_dataset = results.get('reduce_zero_label', self.reduce_zero_label)
        if self.reduce_zero_label is None:
            self.reduce_zero_label = of_dataset
        elif self.reduce_zero_label != of_dataset:
            raise InputError(
                f'expected reduce_zero_label={of_dataset} of the dataset in LoadAnnotations, too, got '
                f'{self.reduce_zero_label}; give it to the dataset alone'
            )
        labels = Labels(self.num_classes or 256, self.ignore_index, bool(self.reduce_zero_label))
        path = results['seg_map_path']
        mask = read_mask(path, labels, self.backend_args)
        if 'ori_shape' in results:
            check_size(mask, path, results['ori_shape'], results['img_path'])
        results['gt_seg_map'] = value_table(labels, results.get('label_map'))[mask]
        results['seg_fields'].append('gt_seg_map')
