"""Predictions of a trained model, of any task, on images that belong to no dataset."""

import inspect
import json
import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.model import BaseModel, BaseTTAModel, revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.structures import BaseDataElement

from mmcyclemlp.checkpoints import load_strictly, read_checkpoint, register_safe_loader
from mmcyclemlp.checkpoints.state_dicts import first
from mmcyclemlp.config import load_config
from mmcyclemlp.config.first_batch import PACKING
from mmcyclemlp.config.keys import classes_of
from mmcyclemlp.config.walk import dataset_sections, name_of
from mmcyclemlp.errors import InputError

from .exported import SUFFIXES, Exported
from .failures import about
from .fonts import drawable
from .media import Failed, Picture, read
from .prediction import Prediction, Style

# Scope of a config -> module of its task, which needs that library, and the class of its predictions.
TASKS = dict(
    mmdet=('detection', 'Detections'),
    mmpretrain=('classification', 'Classification'),
    mmseg=('segmentation', 'Segmentation'),
)
CONVERSIONS = dict(rgb=cv2.COLOR_BGR2RGB, grey=cv2.COLOR_BGR2GRAY)


class Predictor:
    """A model with the weights of a checkpoint and the test pipeline of its config::

        predictor = Predictor('configs/cyclemlp/bccd_retinanet_b1.py', 'work_dirs/bccd_retinanet_b1/epoch_48.pth')
        found, = predictor('photo.jpg')
        found.pred_instances, found.to_dict(), found.plot()

    A prediction is a data sample of mmdet, mmpretrain or mmseg, and a
    :class:`~mmcyclemlp.inference.prediction.Prediction` too: it holds the image, ``to_dict()`` gives what goes into
    json, and ``plot()`` the image with what was found drawn in.

    Args:
        config (str | os.PathLike | Config): of mmdet, mmpretrain or mmseg, with a ``test_dataloader``.
        checkpoint (str | os.PathLike): file of exactly this model, or its URL; or a file that
            :func:`mmcyclemlp.export.export` made of it, ``.onnx`` or ``.xml``.
        device (str, optional): such as ``cpu`` or ``cuda:1``; default: a GPU if there is one.
        batch_size (int): most images at once. Only images of one size after the pipeline share a batch, since padding
            would change what CycleMLP sees.

    Raises:
        InputError: a config of another kind; a checkpoint that cannot be read or does not fit; no such device.
    """

    def __init__(
        self,
        config: Union[str, os.PathLike, Config],
        checkpoint: Union[str, os.PathLike],
        device: Optional[str] = None,
        batch_size: int = 1,
    ):
        register_safe_loader()
        if not isinstance(config, Config):
            config = load_config(config)
        scope = config.get('default_scope')
        if scope not in TASKS or not config.get('test_dataloader'):
            raise InputError(
                f'expected a config of {", ".join(TASKS)} with a test_dataloader, but {config.filename} '
                f'has default_scope={scope!r} and {"a" if config.get("test_dataloader") else "no"} '
                'test_dataloader; give another'
            )
        if batch_size < 1:
            raise InputError(f'batch_size expects a number from 1 up, got {batch_size}')
        exported = Exported(checkpoint) if Path(checkpoint).suffix in SUFFIXES else None
        device = check_device(device or ('cpu' if exported else None))
        if exported and device != 'cpu':
            raise InputError(f'expected device cpu for an exported model, but got {device}; leave it out')
        weights = exported.meta if exported else read_checkpoint(checkpoint)
        init_default_scope(scope)
        section = next((section for _, section in dataset_sections(config, 'test') if 'pipeline' in section), None)
        if section is None:
            raise InputError(
                'expected a pipeline in test_dataloader.dataset, by which images are prepared, but found none; add it'
            )
        self.scope, self.steps = scope, section['pipeline']
        self.model = build_model(config, device).eval()
        if exported:
            exported.put_into(self.model, scope)
        else:
            load_strictly(self.model, weights, checkpoint)
        names = [name_of(step) for step in self.steps]
        if 'TestTimeAug' in names and not isinstance(self.model, BaseTTAModel):
            raise InputError(
                'expected a model of test-time augmentation for the TestTimeAug of test_dataloader, but got '
                f'{type(self.model).__name__}; wrap it as docs/segmentation.md shows, or give a plain test pipeline'
            )
        self.pipeline = Compose(_without_loading(self.steps))
        self.loader = _loader(self.steps, names, scope)
        self.batch_size = batch_size
        trained = weights if exported else weights.get('meta', {})
        names_and_colours = _classes(section, trained.get('dataset_meta'), exported is not None)
        self.style = Style(*names_and_colours, json.dumps(config.get('visualizer') or {}))
        module, name = TASKS[scope]
        self._kind = getattr(import_module(f'.{module}', __package__), name).of_model(self.model, self.style)
        self._kind.visualizer(self.style)  # raises for one that is not registered

    @property
    def classes(self) -> Optional[Tuple[str, ...]]:
        """Names of the classes."""
        return self.style.classes

    @property
    def reads(self) -> str:
        """What the pipeline gets of an image: ``bgr``, ``grey``, or ``rgb`` where a dataset holds its images in memory,
        as CIFAR-10 and Digits do."""
        if self.loader is None:
            return 'rgb'
        return 'grey' if self.loader.get('color_type') == 'grayscale' else 'bgr'

    @property
    def drawn_as(self) -> Dict[str, str]:
        """What is drawn in place of the names that no font of this machine can write."""
        names = self.classes or ()
        return {name: drawn for name, drawn in zip(names, drawable(names).names) if drawn != name}

    def __call__(self, inputs: Any) -> List[Prediction]:
        """Predict on images.

        Args:
            inputs: a path of an image, a video or a folder of images; an array, uint8 [H, W, 3] BGR or [H, W]; an image
                of Pillow; or an iterable of such. Images may differ in size.

        Returns:
            list[Prediction]: in the order of the images and frames.

        Raises:
            InputError: one cannot be read or predicted on.
        """
        return list(self.stream(inputs))

    def stream(self, inputs: Any, failed: Optional[Failed] = None) -> Iterator[Prediction]:
        """As a call, but one prediction after the other, for videos and for more images than fit the memory.

        With ``failed``, an image that cannot be read or predicted on is passed over, and ``failed`` gets its error.
        """
        failed = failed or _raise
        batch: List[Tuple[Picture, dict]] = []
        for picture in read(inputs, failed):
            try:
                with about(picture.name):
                    item = self._prepare(picture.image, picture.source)
            except InputError as error:
                failed(error)
                continue
            if batch and (len(batch) == self.batch_size or _sizes(batch[0][1]) != _sizes(item)):
                yield from self._predict(batch, failed)
                batch = []
            batch.append((picture, item))
        if batch:
            yield from self._predict(batch, failed)

    def _prepare(self, image: np.ndarray, source: Optional[str] = None) -> dict:
        pixels = cv2.cvtColor(image, CONVERSIONS[self.reads]) if self.reads in CONVERSIONS else image
        if self.loader and self.loader.get('to_float32'):
            pixels = pixels.astype(np.float32)
        size = image.shape[:2]
        item = self.pipeline(dict(img=pixels, img_path=source, img_shape=size, ori_shape=size))
        if 'inputs' not in item:
            raise InputError(f'the test pipeline gives no inputs; let it end with {PACKING}')
        return item

    def _predict(self, batch: List[Tuple[Picture, dict]], failed: Failed) -> Iterator[Prediction]:
        try:
            with about(' and '.join(picture.name for picture, _ in batch)), torch.inference_mode():
                samples = self.model.test_step(pseudo_collate([item for _, item in batch]))
                for sample in samples:
                    _check_finite(sample)
        except InputError as error:
            if len(batch) == 1:
                failed(error)
                return
            for one in batch:  # the others of the batch may be fine
                yield from self._predict([one], failed)
            return
        for (picture, _), sample in zip(batch, samples):
            image = np.ascontiguousarray(picture.image[..., ::-1])
            yield self._kind.of(sample.cpu(), image, picture.source, picture.frame, self.style)


def _without_loading(steps: Sequence[dict]) -> List[dict]:
    """The steps of a pipeline that neither read an image nor its annotations, also within test-time augmentation."""
    kept = [step for step in steps if not name_of(step).startswith('Load')]
    for i, step in enumerate(kept):
        if name_of(step) == 'TestTimeAug':
            inner = filter(None, map(_without_loading, step['transforms']))
            kept[i] = {**step, 'transforms': list(inner)}
    return kept


def _sizes(item: dict) -> List[torch.Size]:
    """Of an image, or of its views in test-time augmentation."""
    views = item['inputs'] if isinstance(item['inputs'], list) else [item['inputs']]
    return [view.shape for view in views]


def _loader(steps: Sequence[dict], names: Sequence[str], scope: str) -> Optional[dict]:
    """The step of a test pipeline that reads images, which the predictor does in its place; None if there is none.

    Raises:
        InputError: it reads others than colour or grey images.
    """
    for step, name in zip(steps, names):
        if name.startswith('Load') and not re.search('Annotation|Proposals', name):
            kinds = [kind for kind, _ in classes_of(name, scope)]
            if not any(inspect.isclass(kind) and issubclass(kind, LoadImageFromFile) for kind in kinds):
                raise InputError(
                    f'expected a test pipeline that begins with LoadImageFromFile, but got {name}; change it'
                )
            if step.get('color_type', 'color') not in ('color', 'grayscale'):
                raise InputError(
                    f'expected color_type color or grayscale of {name} in the test pipeline, but got '
                    f'{step["color_type"]}; change it'
                )
            return step
    return None


def build_model(config: Config, device: Optional[str] = None) -> BaseModel:
    """The model of a config on a device (default: this machine's), for one process, which SyncBN is not for."""
    settings = config.model.copy()
    if config.get('data_preprocessor'):
        settings.setdefault('data_preprocessor', config.data_preprocessor)
    return revert_sync_batchnorm(MODELS.build(settings)).to(device or get_device())


def check_device(device: Optional[str]) -> str:
    """The device itself, or this machine's for None; InputError if there is no such device."""
    device = device or get_device()
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError, NotImplementedError) as error:  # AssertionError: torch without CUDA
        raise InputError(
            f'expected a device of this machine, such as {get_device()}, but got {device!r} '
            f'({str(error).splitlines()[0]}); give another'
        ) from error
    return device


def _raise(error: InputError) -> None:
    raise error


def _check_finite(sample: BaseDataElement) -> None:
    """Raise InputError for NaN or infinity among the numbers of a prediction."""
    for value in sample.values():
        if isinstance(value, BaseDataElement):
            _check_finite(value)
        elif isinstance(value, torch.Tensor) and not value.isfinite().all():
            raise InputError(
                'expected numbers from the model, but it gives NaN or infinity; check the weights of the checkpoint'
            )


def _classes(section: dict, trained: Dict[str, Any], exported: bool) -> Tuple[Any, Any]:
    """Names and colours of the classes: what the model was trained on, else the config's; either may be None."""
    settings = dict(section, pipeline=[])
    with DATASETS.switch_scope_and_registry(None) as registry:
        kind = registry.get(section['type']) if isinstance(section['type'], str) else section['type']
    arguments = inspect.signature(kind).parameters.values()
    if any(each.name == 'lazy_init' or each.kind is each.VAR_KEYWORD for each in arguments):  # not MultiTaskDataset
        settings['lazy_init'] = True
    if 'test_mode' in settings:  # in which mmseg asserts that there are names
        settings['test_mode'] = False
    meta = dict(DATASETS.build(settings).metainfo)
    own = meta.get('classes')
    meta.update({key.lower(): value for key, value in (trained or {}).items() if value})
    classes, palette = meta.get('classes'), meta.get('palette')
    if exported and own and list(own) != list(classes):
        raise InputError(
            f'expected an exported model of the classes that the config has ({first(own)}), but the file has others '
            f'({first(classes)}); give its own config'
        )
    return classes and tuple(map(str, classes)), tuple(map(tuple, palette or ())) or None
