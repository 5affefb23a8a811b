"""Mixed precision without a GPU."""

from contextlib import contextmanager
from typing import Any, Dict, Iterator, Tuple

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """OptimWrapper whose forward pass runs under bfloat16 autocast on the CPU.

    mmengine's AmpOptimWrapper requires a GPU. bfloat16 has the range of float32, so it needs no loss scaling. mmdet's
    heads return float32 and its RoI extractors get float32: mmcv's operators have no bfloat16 on a CPU, and boxes would
    be rounded to 4 pixels in a thousand.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._hooked = None

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        if self._hooked is not model:
            for module in model.modules():
                if hasattr(module, 'roi_layers'):  # an RoI extractor
                    module.register_forward_pre_hook(_take_float32, with_kwargs=True)
                if hasattr(module, 'predict_by_feat'):  # a head
                    module.register_forward_hook(_hand_out_float32)
            self._hooked = model
        with super().optim_context(model), torch.autocast('cpu', dtype=torch.bfloat16):
            yield


def _take_float32(module: nn.Module, args: Tuple, kwargs: Dict[str, Any]) -> Tuple[Tuple, Dict[str, Any]]:
    return _float32(args), {name: _float32(value) for name, value in kwargs.items()}


def _hand_out_float32(module: nn.Module, args: Tuple, outputs: Any) -> Any:
    return _float32(outputs)


def _float32(value: Any) -> Any:
    """Tensors, also in tuples and lists, in float32; labels and all else as they are."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype == torch.bfloat16 else value
    return type(value)(map(_float32, value)) if isinstance(value, (list, tuple)) else value
