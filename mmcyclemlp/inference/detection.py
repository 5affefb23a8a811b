"""Predictions of detectors; needs mmdet."""

import functools
import warnings
from typing import Any, Dict

import numpy as np
from matplotlib.font_manager import FontProperties
from mmdet.structures import DetDataSample
from mmdet.structures.mask import encode_mask_results
from mmdet.visualization import DetLocalVisualizer

from .prediction import Prediction


class Detections(Prediction, DetDataSample):
    """Boxes and masks, drawn by the config's visualizer and recorded as mmdet's DetInferencer does."""

    drawn_by = DetLocalVisualizer

    def to_dict(self) -> Dict[str, Any]:
        """``labels``, ``scores``, ``bboxes`` (x1, y1, x2, y2) in the image's pixels and, from a model of masks,
        ``masks`` as COCO's run lengths."""
        found = self.pred_instances.numpy()
        record = dict(labels=found.labels.tolist(), scores=found.scores.tolist(), bboxes=found.bboxes.tolist())
        if 'masks' in found:
            record['masks'] = [
                dict(size=list(mask['size']), counts=mask['counts'].decode())
                for mask in encode_mask_results(found.masks)
            ]
        return record

    def plot(self, score: float = 0.3) -> np.ndarray:
        visualizer = self.visualizer(self.style)
        palette = self.style.palette
        visualizer.dataset_meta = dict(classes=self.names, palette=palette and [tuple(c) for c in palette])
        visualizer.draw_texts = functools.partial(
            type(visualizer).draw_texts, visualizer, font_properties=FontProperties(fname=self.font)
        )
        best_on_top = self.pred_instances[self.pred_instances.scores.argsort()]
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', '.*out of bounds')  # a box that ends at the border, by rounding
            visualizer.add_datasample(
                'image', self.image, DetDataSample(pred_instances=best_on_top), draw_gt=False, pred_score_thr=score
            )
        return visualizer.get_image()
