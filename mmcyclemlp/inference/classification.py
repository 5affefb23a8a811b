"""Records and drawings of classified images; needs mmpretrain."""

from typing import Any, Optional, Sequence

import numpy as np
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer

from .prediction import Prediction, build_visualizer

LEAST_SIDE = 256  # pixels that a caption needs


class Task:
    """The class of an image, drawn by the config's visualizer and recorded as mmpretrain's inferencer does."""

    def __init__(self, classes: Optional[Sequence[str]], palette: Any, score: float, visualizer: Optional[dict] = None):
        self._visualizer = build_visualizer(visualizer, UniversalVisualizer)
        self._classes = classes

    def prediction(self, image: np.ndarray, sample: DataSample) -> Prediction:
        """Of an image uint8 [H, W, 3] RGB: ``pred_label``, ``pred_score``, ``pred_class`` and all ``pred_scores``."""
        scores = sample.pred_score.tolist()
        label = int(np.argmax(scores))
        record = dict(pred_label=label, pred_score=scores[label], pred_scores=scores)
        if self._classes:
            record['pred_class'] = self._classes[label]
        side = LEAST_SIDE if min(image.shape[:2]) < LEAST_SIDE else None
        drawing = self._visualizer.visualize_cls(image, sample, classes=self._classes, draw_gt=False, resize=side)
        return Prediction(record, drawing, None)
