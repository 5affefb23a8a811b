"""What a model costs: parameters, multiplications, and one step at full size on made data."""
import logging
import os
import resource
import sys
import time
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import torch
from made_data import made_batch
from mmengine import Config
from mmengine.device import get_device
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch.utils.flop_counter import FlopCounterMode

from mmcyclemlp.engine import load_config
from mmcyclemlp.engine.training import forget_pretrained
from mmcyclemlp.errors import InputError
from mmcyclemlp.ops import use_backend
from mmcyclemlp.ops.linear import FUSES_GELU

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
    model = build_model(config)
    batch = partial(made_batch, scope, height, width)
    total, own = count_macs(model, batch(1))
    cost = Cost(str(path), height, width, count_parameters(model), total, count_parameters(model.backbone), own)
    if train_step:
        run_steps(cost, model, config, batch)
    return cost


def quiet() -> None:
    """For a process that only measures: nothing of what the libraries tell about themselves."""
    warnings.simplefilter('ignore')
    logging.disable(logging.WARNING)
    sys.stdout = open(os.devnull, 'w')


def build_model(config: Config) -> BaseModel:
    """The model on this machine's device, with random weights."""
    init_default_scope(config.default_scope)
    forget_pretrained(config)
    if 'data_preprocessor' in config:
        config.model.setdefault('data_preprocessor', config.data_preprocessor)
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(config.model))  # SyncBN is for several processes
    model.init_weights()
    return model.to(get_device())


def count_parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: BaseModel, batch: Dict[str, Any]) -> Tuple[int, int]:
    """Multiplications of one forward pass: of the model and of its backbone.

    CycleMLP is taken by its definition, and its fused product with GELU, which PyTorch's counter does not know,
    as a product.
    """
    fused = {torch.ops.mkldnn._linear_pointwise: _linear_flops} if FUSES_GELU else {}
    data = model.eval().data_preprocessor(batch, False)
    with torch.no_grad(), use_backend('shift_gemm'), FlopCounterMode(display=False, custom_mapping=fused) as counter:
        model(**data, mode='tensor')
    of_module = counter.get_flop_counts()  # a flop is half a multiplication with its addition
    own = of_module.get(f'{type(model).__name__}.backbone', {})
    return counter.get_total_flops() // 2, sum(own.values()) // 2


def _linear_flops(x_shape: Any, weight_shape: Any, *args: Any, **kwargs: Any) -> int:
    return 2 * x_shape.numel() * weight_shape[0]


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
