"""Changes to a config that test at another input scale, and on mirrored images as well."""

from copy import deepcopy
from typing import Any, List, Sequence, Union

from mmengine import Config

from mmcyclemlp.errors import InputError

from .walk import dataset_sections, name_of

# Transforms that decide the input's size, and their numbers that do.
SIZED = {'CenterCrop': 'crop_size', 'FixScaleResize': 'scale', 'Resize': 'scale', 'ResizeEdge': 'scale'}
FLIP_KEYS = ('flip', 'flip_direction')


def test_pipeline(config: Config) -> list:
    """The pipeline of a config's test dataset, inside any wrappers.

    Raises:
        InputError: there is none.
    """
    for path, section in dataset_sections(config, 'test'):
        if 'pipeline' in section and '.datasets.' not in path:  # of several, each has its own
            return section['pipeline']
    raise InputError('expected a config whose test_dataloader.dataset has a pipeline, but found none; add one')


def scale_input(config: Config, factor: float) -> None:
    """Scale test images by ``factor``, in place.

    If the pipeline resizes, its numbers are multiplied; otherwise a Resize is added after the image is loaded.
    Predictions and annotations are compared at the size that the config's metric uses.
    """
    pipeline = test_pipeline(config)
    sized = [transform for transform in pipeline if name_of(transform) in SIZED]
    for transform in sized:
        if transform.get('scale_factor') is not None:
            transform['scale_factor'] = _times(transform['scale_factor'], factor)
        else:
            key = SIZED[name_of(transform)]
            transform[key] = _times(transform[key], factor)
    if not sized:
        pipeline.insert(_after_image(pipeline), dict(type='Resize', scale_factor=float(factor), keep_ratio=True))


def add_flip(config: Config) -> None:
    """Average the test over each image and its mirror image with mmcv's TestTimeAug, in place.

    The model must be wrapped by the config's ``tta_model`` as well.

    Raises:
        InputError: the config has no ``tta_model``.
    """
    if 'tta_model' not in config:
        raise InputError(
            'a test with mirrored images expects the config to say how predictions are merged, such as '
            "tta_model=dict(type='SegTTAModel') for segmentation; add it"
        )
    pipeline = test_pipeline(config)
    sized = [i + 1 for i, transform in enumerate(pipeline) if name_of(transform) in SIZED]
    start = max([_after_image(pipeline), *sized])
    rest = deepcopy(pipeline[start:])
    for transform in rest:
        if 'meta_keys' in transform:
            transform['meta_keys'] = (*transform['meta_keys'], *FLIP_KEYS)
    flips = [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)]
    pipeline[start:] = [dict(type='TestTimeAug', transforms=[flips, *([transform] for transform in rest)])]


def _after_image(pipeline: Sequence[dict]) -> int:
    """Index of the transform after the one that loads the image; 0 where the dataset holds images."""
    return next((i + 1 for i, transform in enumerate(pipeline) if 'Image' in name_of(transform)), 0)


def _times(value: Any, factor: float) -> Union[int, float, tuple, List]:
    """A size, or each of several, times ``factor``; whole numbers stay whole, and above 0."""
    if isinstance(value, (list, tuple)):
        return type(value)(_times(part, factor) for part in value)
    if isinstance(value, int):
        return max(1, round(value * factor)) if value > 0 else value  # -1 stands for no limit
    return value * factor
