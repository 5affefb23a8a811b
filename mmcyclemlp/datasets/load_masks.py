"""The checked reading of masks in mmseg's pipelines."""

from typing import Optional

from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import TRANSFORMS

from .masks import Labels, check_size, read_mask, value_table


@TRANSFORMS.register_module()
class LoadCheckedMask(LoadAnnotations):
    """mmseg's LoadAnnotations that names a wrong mask; it also accepts masks of one row or column.

    Reads ``seg_map_path``, ``reduce_zero_label``, ``label_map`` and, if the image is loaded, its ``ori_shape``; adds
    ``gt_seg_map``, uint8 ``[H, W]``.

    Args:
        num_classes (int): number of classes in the files.
        ignore_index (int): value of pixels without a class; 0 and 255 for datasets with ``reduce_zero_label``.
        backend_args (dict, optional): of mmengine's file backends.

    Raises:
        InputError: as :func:`mmcyclemlp.datasets.masks.read_mask`, or the image has another size.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255, backend_args: Optional[dict] = None):
        super().__init__(backend_args=backend_args)
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def _load_seg_map(self, results: dict) -> None:
        labels = Labels(self.num_classes, self.ignore_index, bool(results['reduce_zero_label']))
        path = results['seg_map_path']
        mask = read_mask(path, labels, self.backend_args)
        if 'ori_shape' in results:
            check_size(mask, path, results['ori_shape'], results['img_path'])
        results['gt_seg_map'] = value_table(labels, results.get('label_map'))[mask]
        results['seg_fields'].append('gt_seg_map')

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_classes={self.num_classes}, ignore_index={self.ignore_index})'
