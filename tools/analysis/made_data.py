"""Random images with labels, as the data loader of each task would give them."""
from typing import Any, Dict, List

import torch
from torch import Tensor


def made_batch(scope: str, height: int, width: int, count: int) -> Dict[str, Any]:
    """``count`` images ``[3, H, W]``, each with a label, boxes with masks, or a map, all of class 0."""
    torch.manual_seed(0)
    images = [torch.randint(256, (3, height, width), dtype=torch.uint8) for _ in range(count)]
    samples = {'mmpretrain': _labels, 'mmdet': _boxes, 'mmseg': _maps}[scope]
    return dict(inputs=images, data_samples=samples(images))


def _labels(images: List[Tensor]) -> List[Any]:
    from mmpretrain.structures import DataSample
    return [DataSample().set_gt_label(0) for _ in images]


def _boxes(images: List[Tensor]) -> List[Any]:
    from mmdet.testing import demo_mm_inputs
    shapes = [tuple(image.shape) for image in images]
    samples = demo_mm_inputs(len(images), shapes, with_mask=True, use_box_type=True)['data_samples']
    for sample in samples:
        sample.gt_instances.labels.zero_()
    return samples


def _maps(images: List[Tensor]) -> List[Any]:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    samples = []
    for image in images:
        shape = tuple(image.shape[1:])
        sample = SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape))
        sample.gt_sem_seg = PixelData(data=torch.zeros((1, *shape), dtype=torch.long))
        samples.append(sample)
    return samples
