"""Predictions of a trained model, of any task, on images that belong to no dataset."""

import os
from importlib import import_module
from typing import Any, Dict, Iterable, Iterator, List, Tuple, TypeVar, Union

import numpy as np
import torch
from mmengine import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope

from mmcyclemlp.checkpoints import load_strictly, read_checkpoint
from mmcyclemlp.config.walk import dataset_sections, name_of
from mmcyclemlp.errors import InputError

from .prediction import Prediction

Key = TypeVar('Key')
# Scope of a config -> module of its task, which needs that library.
TASKS = dict(mmdet='detection', mmpretrain='classification', mmseg='segmentation')


class Predictor:
    """A model with the weights of a checkpoint and the test pipeline of its config.

    Args:
        config (Config): of mmdet, mmpretrain or mmseg, with a ``test_dataloader``.
        checkpoint (str | os.PathLike): file of exactly this model.
        score (float): least score of a detection that is drawn; records hold all.
        batch_size (int): most images at once. Only such are put together that are of one size after the pipeline,
            since padding would change what CycleMLP sees.

    Raises:
        InputError: a config of another kind; a checkpoint that cannot be read or does not fit.
    """

    def __init__(self, config: Config, checkpoint: Union[str, os.PathLike], score: float = 0.3, batch_size: int = 1):
        scope = config.get('default_scope')
        if scope not in TASKS or not config.get('test_dataloader'):
            raise InputError(
                f'expected a config of {", ".join(TASKS)} with a test_dataloader, but {config.filename} '
                f'has default_scope={scope!r} and {"a" if config.get("test_dataloader") else "no"} '
                'test_dataloader; give another'
            )
        weights = read_checkpoint(checkpoint)
        init_default_scope(scope)
        section = next(section for _, section in dataset_sections(config, 'test') if 'pipeline' in section)
        self.model = build_model(config).eval()
        load_strictly(self.model, weights, checkpoint)
        names = [name_of(transform) for transform in section['pipeline']]
        self.pipeline = Compose([step for step, name in zip(section['pipeline'], names) if not name.startswith('Load')])
        # A dataset that holds its images in memory, as CIFAR-10 and Digits do, gives them in RGB.
        self.reads_bgr = any(name in ('LoadImageFromFile', 'LoadReadableImage') for name in names)
        self.batch_size = batch_size
        self.classes, palette = _classes(section, weights)
        task = import_module(f'.{TASKS[scope]}', __package__).Task
        self._task = task(self.classes, palette, score, config.get('visualizer'))

    def __call__(self, images: Iterable[Tuple[Key, np.ndarray]]) -> Iterator[Tuple[Key, Prediction]]:
        """Predict on images uint8 [H, W, 3] BGR of any size, each with a key that comes back with it."""
        batch: List[Tuple[Key, np.ndarray, dict]] = []
        for key, image in images:
            item = self._prepare(image)
            if batch and (len(batch) == self.batch_size or batch[0][2]['inputs'].shape != item['inputs'].shape):
                yield from self._predict(batch)
                batch = []
            batch.append((key, image, item))
        if batch:
            yield from self._predict(batch)

    def _prepare(self, image: np.ndarray) -> dict:
        pixels = image if self.reads_bgr else np.ascontiguousarray(image[..., ::-1])
        return self.pipeline(dict(img=pixels, img_shape=image.shape[:2], ori_shape=image.shape[:2]))

    def _predict(self, batch: List[Tuple[Key, np.ndarray, dict]]) -> Iterator[Tuple[Key, Prediction]]:
        with torch.inference_mode():
            samples = self.model.test_step(pseudo_collate([item for _, _, item in batch]))
        for (key, image, _), sample in zip(batch, samples):
            yield key, self._task.prediction(np.ascontiguousarray(image[..., ::-1]), sample.cpu())


def build_model(config: Config) -> BaseModel:
    """The model of a config on this machine's device, for one process, which SyncBN is not for."""
    settings = config.model.copy()
    if config.get('data_preprocessor'):
        settings.setdefault('data_preprocessor', config.data_preprocessor)
    return revert_sync_batchnorm(MODELS.build(settings)).to(get_device())


def _classes(section: dict, checkpoint: Dict[str, Any]) -> Tuple[Any, Any]:
    """Names and colours of the classes: what the model was trained on, else the config's; either may be None."""
    meta = dict(DATASETS.build(dict(section, pipeline=[], lazy_init=True)).metainfo)
    trained = checkpoint.get('meta', {}).get('dataset_meta') or {}
    meta.update({key.lower(): value for key, value in trained.items() if value})
    return meta.get('classes'), meta.get('palette')
