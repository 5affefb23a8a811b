"""Trained models out of PyTorch: ONNX, OpenVINO, torch.export and AOTInductor, each compared with the model itself.

``mmcyclemlp.export`` is this package and, called, its function :func:`export`.
"""

import sys
from types import ModuleType

from .exporting import FORMATS, export
from .parity import Difference

__all__ = ['FORMATS', 'Difference', 'export']


class _Callable(ModuleType):
    __call__ = staticmethod(export)


sys.modules[__name__].__class__ = _Callable
