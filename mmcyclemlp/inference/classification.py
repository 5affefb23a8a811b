"""Predictions of classifiers; needs mmpretrain."""

from typing import Any, Dict

import numpy as np
from matplotlib.font_manager import FontProperties
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer

from .prediction import Prediction

LEAST_SIDE = 256  # pixels that a caption needs


class Classification(Prediction, DataSample):
    """The class of an image, drawn by the config's visualizer and recorded as mmpretrain's inferencer does."""

    drawn_by = UniversalVisualizer

    def to_dict(self) -> Dict[str, Any]:
        """``pred_label``, ``pred_score``, ``pred_class`` if the classes have names, and all ``pred_scores``."""
        scores = self.pred_score.tolist()
        label = int(np.argmax(scores))
        record = dict(pred_label=label, pred_score=scores[label], pred_scores=scores)
        if self.classes:
            record['pred_class'] = self.classes[label]
        return record

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
