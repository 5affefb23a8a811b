"""CycleMLP on the OpenMMLab libraries; importing it registers the backbone."""

from typing import Any

from .dependencies import check_versions
from .version import __version__

check_versions()

from . import models  # noqa: E402

__all__ = ['Predictor', '__version__', 'models']


def __getattr__(name: str) -> Any:
    if name == 'Predictor':  # imported when first used, since it brings drawing and decoding along
        from .inference.predictor import Predictor

        return Predictor
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
