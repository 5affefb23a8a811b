"""Predictions of semantic segmentors; needs mmseg."""

import json
from typing import Any, Dict, List, Optional, Tuple, Type

import numpy as np
from mmengine.model import BaseModel
from mmseg.structures import SegDataSample
from PIL import Image, ImageDraw, ImageFont

from mmcyclemlp.errors import InputError

from .prediction import Prediction, Style

OPACITY = 0.5  # of the colours over the image, unless the config's visualizer has another
ROW = 18  # height of a line of the legend, in pixels
MOST_ROWS = 12  # that the legend may ask for beyond the image's height


class Segmentation(Prediction, SegDataSample):
    """Semantic masks, drawn over the image with the ``alpha`` of the config's visualizer, beside a legend of the
    classes in it. (mmseg writes the names into the regions, which have no room for them where they are small.)"""

    @classmethod
    def of_model(cls, model: BaseModel, style: Style) -> Type[Prediction]:
        if not style.classes:
            raise InputError(
                'expected names of the classes of a segmentor, but neither its checkpoint nor the dataset of the '
                'config has them; give test_dataloader.dataset.metainfo.classes'
            )
        return cls

    @property
    def masks(self) -> np.ndarray:
        """Index of the class of each pixel, uint8 [H, W], or uint16 where more than 256 classes need it."""
        return self.pred_sem_seg.data[0].numpy().astype(np.uint8 if len(self.classes) <= 256 else np.uint16)

    def to_dict(self) -> Dict[str, Any]:
        """``shares`` of the classes in the image, the largest first."""
        masks = self.masks
        counts = np.bincount(masks.ravel(), minlength=len(self.classes))
        return dict(shares={self.classes[i]: float(counts[i] / masks.size) for i in _by_size(counts)})

    def plot(self, score: float = 0.3) -> np.ndarray:
        masks = self.masks
        some = np.random.default_rng(0).integers(0, 256, (len(self.classes), 3))
        palette = np.array(self.style.palette or some, dtype=np.uint8)  # [classes, 3] RGB
        opacity = json.loads(self.style.visualizer).get('alpha', OPACITY)
        mixed = ((1 - opacity) * self.image + opacity * palette[masks]).round().astype(np.uint8)
        present = _by_size(np.bincount(masks.ravel()))
        panel = _legend(self.names, palette, self.font, present, mixed.shape[0])
        below = panel.shape[0] - mixed.shape[0]
        return np.hstack([np.pad(mixed, ((0, below), (0, 0), (0, 0)), constant_values=255), panel])


def _by_size(counts: np.ndarray) -> List[int]:
    return [int(i) for i in np.argsort(-counts, kind='stable') if counts[i]]


def _legend(names: List[str], palette: np.ndarray, font: str, present: List[int], height: int) -> np.ndarray:
    """Panel uint8 [h, w, 3] with a colour and a name a line; its size depends on the image's height alone."""
    letters = ImageFont.truetype(font, 12)
    width = 2 * ROW + int(max(letters.getlength(text) for text in (*names, f'{len(names)} more')))
    rows = max(height // ROW, min(len(names), MOST_ROWS))
    panel = Image.new('RGB', (width, max(height, rows * ROW)), 'white')
    draw = ImageDraw.Draw(panel)
    lines: List[Tuple[str, Optional[int]]] = [(names[i], i) for i in present]
    if len(lines) > rows:
        lines[rows - 1 :] = [(f'{len(lines) - rows + 1} more', None)]
    for row, (text, index) in enumerate(lines):
        top = row * ROW
        if index is not None:
            draw.rectangle((4, top + 3, ROW - 1, top + ROW - 4), fill=tuple(palette[index].tolist()))
        draw.text((ROW + 6, top + ROW - 6), text, fill='black', font=letters, anchor='ls')
    return np.asarray(panel)
