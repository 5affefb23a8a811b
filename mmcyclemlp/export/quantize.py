"""8-bit integers for weights and activations of an ONNX file, after training (static quantisation), and their price."""

import os
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator

import torch
from mmengine import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from rich.progress import track
from torch import Tensor

from mmcyclemlp.config.walk import datasets
from mmcyclemlp.errors import InputError
from mmcyclemlp.inference.exported import library
from mmcyclemlp.inference.predictor import Predictor

OPERATORS = ['Conv', 'Gemm', 'MatMul']  # where the arithmetic is; norms and sums stay in float32


def calibration(predictor: Predictor, config: Config, images: int) -> Iterator[Tensor]:
    """Training images of a config, prepared as for a test: batches of one, evenly drawn from the whole set."""
    section = next((section for _, section, _ in datasets(config, 'train')), None)
    if section is None:
        raise InputError('int8 expects a config with a train_dataloader, whose images calibrate it, but it has none')
    dataset = DATASETS.build(dict(section, pipeline=predictor.steps))
    count = min(images, len(dataset))
    for i in range(count):
        batch = pseudo_collate([dataset[i * len(dataset) // count]])
        yield predictor.model.data_preprocessor(batch, False)['inputs']


def metrics(predictor: Predictor, config: Config) -> Dict[str, float]:
    """What the config's evaluator says of a model, or of an exported file, on the config's test data."""
    loader = Runner.build_dataloader(config.test_dataloader)
    evaluator = Evaluator(config.test_evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    with torch.inference_mode():
        for batch in track(loader, 'Test'):
            evaluator.process(data_samples=predictor.model.test_step(batch), data_batch=batch)
    return evaluator.evaluate(len(loader.dataset))


def quantize(path: Path, batches: Iterable[Tensor]) -> None:
    """Replace an ONNX file by one of int8, with the ranges of activations that some images give."""
    quantization = library('onnxruntime.quantization')

    class Reader(quantization.CalibrationDataReader):
        images = iter(batches)

        def get_next(self) -> Any:
            image = next(self.images, None)
            return None if image is None else dict(images=image.numpy())

    float32 = path.with_name(f'float32-{path.name}')
    os.replace(path, float32)
    quantization.quantize_static(
        float32,
        path,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=OPERATORS,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        # Weights of 7 bits: processors without VNNI add two products in 16 bits, where those of 8 bits overflow.
        reduce_range=True,
    )
    float32.unlink()
