"""Checks before a run: annotations, masks and the weights it starts from."""

from typing import Any, Mapping, Optional

from mmengine import Config

from .classification import check_classes
from .consistency import check_consistency
from .detection import check_annotations
from .segmentation import check_masks
from .start import check_pretrained, check_resumable, checkpoints_in, last_checkpoint, newest_checkpoint

__all__ = [
    'check_annotations',
    'check_data',
    'check_masks',
    'check_pretrained',
    'check_resumable',
    'checkpoints_in',
    'last_checkpoint',
    'newest_checkpoint',
]


def check_data(config: Config, *splits: str, checkpoint: Optional[Mapping[str, Any]] = None) -> None:
    """Check the data of a config's ``splits`` (``train``, ``val``, ``test``), for any task, and whether their classes
    are those of ``checkpoint``, if one is to be tested or resumed."""
    check_consistency(config, *splits, checkpoint=checkpoint)
    check_classes(config, *splits, checkpoint=checkpoint)
    check_annotations(config, *splits)
    check_masks(config, *splits)
