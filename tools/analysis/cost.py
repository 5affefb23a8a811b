"""What a model costs: parameters, multiply-adds, and one step at full size on random data."""

import logging
import os
import resource
import sys
import time
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from mmengine import Config
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import Tensor

from mmcyclemlp.config import load_config
from mmcyclemlp.config.edits import edited, from_random_weights
from mmcyclemlp.errors import InputError
from mmcyclemlp.flops import count_macs, count_parameters
from mmcyclemlp.inference.predictor import build_model

SHAPES = {'mmpretrain': (224, 224), 'mmdet': (800, 1333), 'mmseg': (512, 512)}
TRAINING_BATCH = 2  # the least that every head trains with: some normalise over the batch


@dataclass
class Cost:
    """A row of the table; ``macs`` are for one image, ``status`` is ``ok`` or why there is no more."""

    config: str
    height: int = 0
    width: int = 0
    parameters: int = 0
    macs: int = 0
    backbone_parameters: int = 0
    backbone_macs: int = 0
    loss: Optional[float] = None
    train_s: Optional[float] = None
    inference_s: Optional[float] = None
    peak_bytes: Optional[int] = None  # of the process, or of the GPU's allocator
    status: str = 'ok'


def measure(path: Path, shape: Optional[Tuple[int, int]] = None, train_step: bool = False) -> Cost:
    """Build the model of a config from random weights and measure it.

    Args:
        path (Path): the config.
        shape (tuple[int, int], optional): height and width of the image before the model pads it; by task if None.
        train_step (bool): whether to run inference on one image and a training step on two.

    Raises:
        InputError: the config cannot be read, or is of another task than the three.
    """
    config = load_config(path)
    scope = config.get('default_scope')
    if scope not in SHAPES:
        raise InputError(f'expected a config with default_scope {", ".join(SHAPES)}, but {path} has {scope!r}')
    height, width = shape or SHAPES[scope]
    model = random_model(config)
    batch = partial(made_batch, scope, height, width)
    total, own = count(model, batch(1))
    cost = Cost(str(path), height, width, count_parameters(model), total, count_parameters(model.backbone), own)
    if train_step:
        run_steps(cost, model, config, batch)
    return cost


def quiet() -> None:
    """For a process that only measures: nothing of what the libraries tell about themselves."""
    warnings.simplefilter('ignore')
    logging.disable(logging.WARNING)
    sys.stdout = open(os.devnull, 'w')


def random_model(config: Config) -> BaseModel:
    """The model of a config with random weights."""
    init_default_scope(config.default_scope)
    torch.manual_seed(0)
    model = build_model(edited(config, from_random_weights))
    model.init_weights()
    return model


def count(model: BaseModel, batch: Dict[str, Any]) -> Tuple[int, int]:
    """Multiply-adds of one forward pass: of the model and of its backbone."""
    data = model.eval().data_preprocessor(batch, False)
    macs = count_macs(lambda: model(**data, mode='tensor'))
    return macs['Global'], macs.get(f'{type(model).__name__}.backbone', 0)


def run_steps(cost: Cost, model: BaseModel, config: Config, batch: Callable[[int], Dict[str, Any]]) -> None:
    """Inference and a training step, as the config's optimizer takes it, into ``cost``."""
    model.eval()
    with torch.no_grad():
        _, cost.inference_s = timed(lambda: model.test_step(batch(1)))
    model.train()
    optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
    losses, cost.train_s = timed(lambda: model.train_step(batch(TRAINING_BATCH), optim_wrapper))
    cost.loss = losses['loss'].item()
    if torch.cuda.is_available():
        cost.peak_bytes = torch.cuda.max_memory_allocated()
    else:  # in KiB on Linux, in bytes on a Mac
        cost.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)


def timed(call: Callable[[], Any]) -> Tuple[Any, float]:
    """What a call returns, and its seconds."""
    start = time.perf_counter()
    result = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


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
