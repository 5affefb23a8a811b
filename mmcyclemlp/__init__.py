"""CycleMLP on the OpenMMLab libraries; importing it registers the backbone, and ``cyclemlp://NAME`` for its weights."""

from importlib import import_module
from typing import Any

from .dependencies import check_library
from .version import __version__

check_library('mmengine')
check_library('mmcv')

from . import models  # noqa: E402
from .checkpoints import create_model, list_models, register_safe_schemes  # noqa: E402
from .integrations import integrate  # noqa: E402
from .models import CycleMLP  # noqa: E402

register_safe_schemes()
integrate()

__all__ = ['CycleMLP', 'Predictor', '__version__', 'create_model', 'export', 'list_models', 'models']


def __getattr__(name: str) -> Any:
    if name == 'Predictor':  # imported when first used, since it brings drawing and decoding along
        from .inference.predictor import Predictor

        return Predictor
    if name == 'export':
        return import_module('.export', __name__)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
