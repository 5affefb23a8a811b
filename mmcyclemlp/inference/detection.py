"""Records and drawings of detections; needs mmdet."""

import warnings
from typing import Any, Optional, Sequence

import numpy as np
from mmdet.structures import DetDataSample
from mmdet.structures.mask import encode_mask_results
from mmdet.visualization import DetLocalVisualizer

from .prediction import Prediction, build_visualizer


class Task:
    """Boxes and masks, drawn by the config's visualizer and recorded as mmdet's DetInferencer does."""

    def __init__(self, classes: Optional[Sequence[str]], palette: Any, score: float, visualizer: Optional[dict] = None):
        self._visualizer = build_visualizer(visualizer, DetLocalVisualizer)
        self._visualizer.dataset_meta = dict(classes=classes, palette=palette and [tuple(c) for c in palette])
        self._score = score

    def prediction(self, image: np.ndarray, sample: DetDataSample) -> Prediction:
        """Of an image uint8 [H, W, 3] RGB: ``labels``, ``scores``, ``bboxes`` (x1, y1, x2, y2) in its pixels and, from
        a model of masks, ``masks`` as COCO's run lengths."""
        found = sample.pred_instances.numpy()
        record = dict(labels=found.labels.tolist(), scores=found.scores.tolist(), bboxes=found.bboxes.tolist())
        if 'masks' in found:
            record['masks'] = [
                dict(size=list(mask['size']), counts=mask['counts'].decode())
                for mask in encode_mask_results(found.masks)
            ]
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', '.*out of bounds')  # a box that ends at the border, by rounding
            sample.pred_instances = sample.pred_instances[sample.pred_instances.scores.argsort()]  # the best on top
            self._visualizer.add_datasample('image', image, sample, draw_gt=False, pred_score_thr=self._score)
        return Prediction(record, self._visualizer.get_image(), None)
