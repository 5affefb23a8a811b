"""What a model says of one image, and what draws it."""

from typing import Any, Dict, NamedTuple, Optional, Type

import numpy as np
from mmengine.registry import VISUALIZERS
from mmengine.visualization import Visualizer

from mmcyclemlp.errors import InputError


class Prediction(NamedTuple):
    """What a model says of one image.

    ``record`` is ready for json, ``drawing`` uint8 [H, W, 3] RGB, perhaps larger than the image, and ``masks``
    uint8 [H, W] of class indices, or None for a task without.
    """

    record: Dict[str, Any]
    drawing: np.ndarray
    masks: Any


def build_visualizer(section: Optional[dict], default: Type[Visualizer]) -> Visualizer:
    """The ``visualizer`` of a config, without the backends that would save what it draws."""
    settings = {key: value for key, value in (section or {}).items() if key != 'vis_backends'}
    kind = settings.pop('type', default)
    if isinstance(kind, str):
        with VISUALIZERS.switch_scope_and_registry(settings.pop('_scope_', None)) as registry:
            kind = registry.get(kind)
        if kind is None:
            raise InputError(
                f'visualizer.type={section["type"]} is not registered; correct it, or import its module '
                'by custom_imports'
            )
    return kind(**settings)
