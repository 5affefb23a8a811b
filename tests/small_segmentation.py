"""The segmentation configs with small networks, and batches for them."""

from copy import deepcopy

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmcyclemlp.config import load_config

from .helpers import REPO

CONFIGS = REPO / 'configs'
DIMS = (8, 16, 24, 32)
TINY = dict(depths=(1, 1, 1, 1), embed_dims=DIMS, mlp_ratios=(2, 2, 2, 2))


def tiny(name):
    """A config with a small backbone, and small heads."""
    config = load_config(CONFIGS / f'{name}.py')
    model = config.model
    if model.backbone.type == 'CycleMLP':
        model.backbone.update(arch=TINY, init_cfg=None)
        dims = DIMS[: len(model.backbone.out_indices)]
    else:
        model.backbone.base_channels = 8
        dims = (8, 16, 32, 64)
    if 'neck' in model:
        model.neck.update(in_channels=list(dims), out_channels=32)
        dims = (32,) * len(dims)
    model.decode_head.update(in_channels=list(dims), channels=16)
    if 'auxiliary_head' in model:
        model.auxiliary_head.update(in_channels=dims[2], channels=8)
    return config


def model_of(config):
    """The model of a config as one process has it."""
    return revert_sync_batchnorm(MODELS.build(config.model))


def batch_of(shapes, num_classes, ignored=255):
    """Images with masks as a data loader gives them."""
    random = torch.Generator().manual_seed(0)
    samples = []
    for shape in shapes:
        labels = torch.randint(num_classes, (1, *shape), generator=random)
        labels[0, 0, 0] = ignored
        samples.append(
            SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=dict(img_shape=shape, ori_shape=shape))
        )
    return dict(
        inputs=[torch.randint(256, (3, *shape), generator=random, dtype=torch.uint8) for shape in shapes],
        data_samples=samples,
    )


@torch.no_grad()
def logits(model, batch):
    """Those of the first image, [classes, H, W]."""
    return model.test_step(deepcopy(batch))[0].seg_logits.data
