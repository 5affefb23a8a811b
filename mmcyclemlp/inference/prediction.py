"""What every prediction can do, whatever its task, and what draws it."""

import functools
import json
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Type

import numpy as np
from mmengine.model import BaseModel
from mmengine.registry import VISUALIZERS
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer

from mmcyclemlp.errors import InputError

from .fonts import drawable


class Style(NamedTuple):
    """How predictions are drawn: names and RGB colours of the classes, and the config's ``visualizer`` as json."""

    classes: Optional[Tuple[str, ...]]
    palette: Any
    visualizer: str = '{}'


class Prediction:
    """What a model says of one image; each task mixes it into the data sample of its library.

    Beside the fields of that sample, it holds ``image``, uint8 [H, W, 3] RGB; ``source``, the path of the image or
    video, or None for an array; ``frame``, its number in a video, or None; and ``classes``, their names.
    """

    masks: Optional[np.ndarray] = None
    drawn_by: Optional[Type[Visualizer]] = None  # unless the config has another

    @classmethod
    def of_model(cls, model: BaseModel, style: Style) -> Type['Prediction']:
        """The class of a model's predictions; InputError for a model whose predictions cannot be told."""
        return cls

    @classmethod
    def of(cls, sample: BaseDataElement, image: np.ndarray, source: Optional[str], frame: Optional[int], style: Style):
        """Of a library's data sample; ``image`` is uint8 [H, W, 3] RGB."""
        made = cls(metainfo=dict(sample.metainfo, source=source, frame=frame, classes=style.classes, style=style))
        made.set_data(dict(sample.items()))
        made.set_field(image, 'image', field_type='metainfo')
        return made

    def to_dict(self) -> Dict[str, Any]:
        """What was found, ready for json."""
        raise NotImplementedError

    def plot(self, score: float = 0.3) -> np.ndarray:
        """The image with the predictions drawn in, uint8 [H, W, 3] RGB, perhaps larger than the image.

        ``score`` is the least of a detection that is drawn; other tasks do not use it.
        """
        raise NotImplementedError

    @classmethod
    def visualizer(cls, style: Style) -> Optional[Visualizer]:
        """What draws; InputError for a visualizer of the config that is not registered."""
        return cls.drawn_by and _visualizer(style, cls.drawn_by)

    @property
    def names(self) -> Optional[List[str]]:
        """Names of the classes as they are drawn, with a number for one that no font of this machine can write."""
        return self.style.classes and drawable(self.style.classes).names

    @property
    def font(self) -> Optional[str]:
        """Path of the font for the names."""
        return drawable(self.style.classes or ()).font


@functools.lru_cache(maxsize=8)
def _visualizer(style: Style, default: Type[Visualizer]) -> Visualizer:
    """The ``visualizer`` of a config, without the backends that would save what it draws."""
    section = json.loads(style.visualizer)
    settings = {key: value for key, value in section.items() if key != 'vis_backends'}
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
