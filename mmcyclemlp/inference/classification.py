"""Predictions of classifiers; needs mmpretrain."""

from typing import Any, Dict, Type

import numpy as np
from matplotlib.font_manager import FontProperties
from mmengine.model import BaseModel
from mmpretrain.models import BaseRetriever, heads
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer

from mmcyclemlp.errors import InputError

from .prediction import Prediction, Style

LEAST_SIDE = 256  # pixels that a caption needs


class Classification(Prediction, DataSample):
    """The class of an image, drawn by the config's visualizer and recorded as mmpretrain's inferencer does."""

    drawn_by = UniversalVisualizer
    several = False  # labels of one image

    @classmethod
    def of_model(cls, model: BaseModel, style: Style) -> Type[Prediction]:
        head = getattr(model, 'head', None)
        others = (heads.MultiTaskHead, getattr(heads, 'RegressionHead', ()))  # mmpretrain 1.2 has none of the latter
        if isinstance(head, others) or isinstance(model, BaseRetriever):
            kind = type(model if isinstance(model, BaseRetriever) else head).__name__
            raise InputError(
                f'expected a model that gives classes, but the config has {kind}; call its model itself, by '
                'mmpretrain.get_model'
            )
        return Classes if isinstance(head, heads.MultiLabelClsHead) else cls

    def to_dict(self) -> Dict[str, Any]:
        """``pred_label``, ``pred_score``, ``pred_class`` if the classes have names, and all ``pred_scores``."""
        scores, labels = self.pred_score.tolist(), self.pred_label.tolist()
        record = dict(pred_label=labels, pred_score=[scores[label] for label in labels])
        if self.classes:
            record['pred_class'] = [self.classes[label] for label in labels]
        if not self.several:
            record = {key: value for key, (value,) in record.items()}
        return dict(record, pred_scores=scores)

    def plot(self, score: float = 0.3) -> np.ndarray:
        side = LEAST_SIDE if min(self.image.shape[:2]) < LEAST_SIDE else None
        return self.visualizer(self.style).visualize_cls(
            self.image,
            self,
            classes=self.names,
            draw_gt=False,
            resize=side,
            text_cfg=dict(fontproperties=FontProperties(fname=self.font)),
        )


class Classes(Classification):
    """The classes of an image, any number of them, of a multi-label head; all but ``pred_scores`` are lists."""

    several = True
