"""Records and drawings of segmented images; needs mmseg."""

from typing import List, Optional, Sequence, Tuple

import cv2
import numpy as np
from mmseg.structures import SegDataSample

from .prediction import Prediction

OPACITY = 0.5  # of the colours over the image, unless the config's visualizer has another
ROW = 18  # height of a line of the legend, in pixels
MOST_ROWS = 12  # that the legend may ask for beyond the image's height
FONT = dict(fontFace=cv2.FONT_HERSHEY_SIMPLEX, fontScale=0.4, thickness=1)


class Task:
    """Semantic masks, drawn over the image with the ``alpha`` of the config's visualizer, beside a legend of the
    classes in it. (mmseg writes the names into the regions, which have no room for them where they are small.)"""

    def __init__(
        self, classes: Sequence[str], palette: Sequence[Sequence[int]], score: float, visualizer: Optional[dict] = None
    ):
        self._opacity = (visualizer or {}).get('alpha', OPACITY)
        self._classes, self._palette = classes, np.array(palette, dtype=np.uint8)  # [classes, 3] RGB
        self._width = 2 * ROW + max(_text_width(text) for text in (*classes, f'{len(classes)} more'))

    def prediction(self, image: np.ndarray, sample: SegDataSample) -> Prediction:
        """Of an image uint8 [H, W, 3] RGB: ``shares`` of the classes in it, the largest first, and the masks."""
        masks = sample.pred_sem_seg.data[0].numpy().astype(np.uint8)  # [H, W]
        counts = np.bincount(masks.ravel(), minlength=len(self._classes))
        present = [int(i) for i in np.argsort(-counts, kind='stable') if counts[i]]
        record = dict(shares={self._classes[i]: float(counts[i] / masks.size) for i in present})
        mixed = ((1 - self._opacity) * image + self._opacity * self._palette[masks]).round().astype(np.uint8)
        panel = self._legend(present, image.shape[0])
        below = panel.shape[0] - image.shape[0]
        drawing = np.hstack([np.pad(mixed, ((0, below), (0, 0), (0, 0)), constant_values=255), panel])
        return Prediction(record, drawing, masks)

    def _legend(self, present: List[int], height: int) -> np.ndarray:
        """Panel uint8 [h, w, 3] with a colour and a name a line; its size depends on the image's height alone."""
        rows = max(height // ROW, min(len(self._classes), MOST_ROWS))
        panel = np.full((max(height, rows * ROW), self._width, 3), 255, dtype=np.uint8)
        lines: List[Tuple[str, Optional[int]]] = [(self._classes[i], i) for i in present]
        if len(lines) > rows:
            lines[rows - 1 :] = [(f'{len(lines) - rows + 1} more', None)]
        for row, (text, index) in enumerate(lines):
            top = row * ROW
            if index is not None:
                panel[top + 3 : top + ROW - 3, 4:ROW] = self._palette[index]
            cv2.putText(panel, text, (ROW + 6, top + ROW - 6), color=(0, 0, 0), lineType=cv2.LINE_AA, **FONT)
        return panel


def _text_width(text: str) -> int:
    return cv2.getTextSize(text, **FONT)[0][0]
