"""Checks before a run: annotations, masks and the weights it starts from."""

from mmengine import Config

from .detection import check_annotations
from .segmentation import check_masks
from .start import check_pretrained, check_resumable, last_checkpoint, newest_checkpoint

__all__ = [
    'check_annotations',
    'check_data',
    'check_masks',
    'check_pretrained',
    'check_resumable',
    'last_checkpoint',
    'newest_checkpoint',
]


def check_data(config: Config, *splits: str) -> None:
    """Check the annotations or masks of a config's ``splits`` (``train``, ``val``, ``test``), for any task."""
    check_annotations(config, *splits)
    check_masks(config, *splits)
