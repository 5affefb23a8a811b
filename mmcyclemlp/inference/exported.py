"""Exported models: files that onnxruntime or OpenVINO runs, in the place of a model's network."""

import inspect
import json
import os
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, List, Tuple, Union

import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmcyclemlp.checkpoints.reading import check_dataset_meta
from mmcyclemlp.errors import InputError, MissingDependencyError
from mmcyclemlp.models.cyclemlp import MIN_SIZE

KEY = 'mmcyclemlp'  # of the metadata in a file
SUFFIXES = ('.onnx', '.xml')
# OpenVINO takes bfloat16 by itself where the processor has it, and is 1 to 2 % off then.
OPENVINO_PRECISION = dict(fp32='f32', int8='f32', bf16='bf16')
Arrays = List[np.ndarray]


class Exported:
    """A file that :func:`mmcyclemlp.export` wrote: images float32 [B, C, H, W], normalised, -> a list of tensors.

    ``meta`` holds how images are prepared, the classes, and what the outputs are.

    Raises:
        InputError: it is not such a file, or the package that runs it is missing.
    """

    def __init__(self, path: Union[str, os.PathLike]):
        path = Path(path).expanduser()
        if not os.path.isfile(path):  # False where pathlib raises, as for a name that is too long
            raise InputError(f'expected an exported model, but {path} does not exist; check the path')
        open_file = _openvino if path.suffix == '.xml' else _onnx
        try:
            text, self._run = open_file(str(path))
            self.meta: Dict[str, Any] = dict(json.loads(text))
            check_dataset_meta(self.meta.get('dataset_meta', {}), str(path))
            if self.meta.get('task') == 'mmdet' and self.meta['kinds'] not in range(1, 4):
                raise ValueError('kinds')
        except InputError:
            raise
        # Bytes of any kind come here, and both libraries fail on them with exceptions of any kind.
        except Exception as error:
            raise InputError(
                f'expected a model that tools/export.py wrote, but {path} is damaged or something else '
                f'({type(error).__name__}); export it again'
            ) from error

    def __call__(self, images: Tensor) -> List[Tensor]:
        if min(images.shape[2:]) < MIN_SIZE:  # CycleMLP's own check is no part of a graph
            raise InputError(
                f'expected images of at least {MIN_SIZE}x{MIN_SIZE}, got {list(images.shape)}; resize the image'
            )
        return [torch.from_numpy(np.array(out)) for out in self._run(images.numpy())]

    def put_into(self, model: BaseModel, scope: str) -> None:
        """Let a model of a config call the file instead of its network; its own post-processing stays."""
        head = head_of(model, scope)
        if (self.meta.get('task'), self.meta.get('num_classes')) != (scope, head.num_classes):
            raise InputError(
                f'expected an exported model of {scope} with {head.num_classes} classes, as the config has it, but '
                f'the file is of {self.meta.get("task")} with {self.meta.get("num_classes")}; give its own config'
            )
        if scope == 'mmseg':
            model.encode_decode = lambda images, metas: self(images)[0]
        else:
            model.extract_feat = lambda images, *args, **kwargs: self(images)
            head.forward = (lambda outs: outs[0]) if scope == 'mmpretrain' else self._grouped
        for name in ('backbone', 'neck'):
            setattr(model, name, nn.Identity())

    def _grouped(self, outs: List[Tensor]) -> Tuple[List[Tensor], ...]:
        """Maps of a detector by kind, such as scores and boxes, each a list over the levels."""
        levels = len(outs) // self.meta['kinds']
        return tuple(outs[i : i + levels] for i in range(0, len(outs), levels))


def head_of(model: BaseModel, scope: str) -> nn.Module:
    """The head that tells what the outputs of a model mean; InputError for a model without one such head."""
    head = getattr(model, dict(mmpretrain='head', mmdet='bbox_head', mmseg='decode_head')[scope], None)
    if scope == 'mmdet':
        from mmdet.models import SingleStageDetector

        head = head if isinstance(model, SingleStageDetector) else None
    if not hasattr(head, 'num_classes'):
        raise InputError(
            'expected a classifier, a detector of one stage or a segmentor with one head, but the config has '
            f'a {type(model).__name__}; export its backbone by mmcyclemlp.export(model.backbone, FILE)'
        )
    arguments = inspect.signature(head.forward).parameters.values()
    needed = [each.name for each in arguments if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD]
    if len(needed) > 1:  # as in Mask2Former and DETR
        raise InputError(
            f'expected a head that takes features alone, but {type(head).__name__} needs {", ".join(needed)}; export '
            'its backbone by mmcyclemlp.export(model.backbone, FILE)'
        )
    return head


def library(name: str) -> ModuleType:
    """A package that export needs; MissingDependencyError with the command that installs it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f'exported models need {name.partition(".")[0]}, which is not installed; run '
            "`pip install 'mmcyclemlp[export]'`"
        ) from error


def _onnx(path: str) -> Tuple[str, Callable[[np.ndarray], Arrays]]:
    onnxruntime = library('onnxruntime')
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    meta = session.get_modelmeta().custom_metadata_map[KEY]
    return meta, lambda images: session.run(None, {'images': images})


def _openvino(path: str) -> Tuple[str, Callable[[np.ndarray], Arrays]]:
    core = library('openvino').Core()
    model = core.read_model(path)
    text = model.get_rt_info(KEY).astype(str)
    precision = OPENVINO_PRECISION[json.loads(text)['precision']]
    settings = dict(INFERENCE_PRECISION_HINT=precision, INFERENCE_NUM_THREADS=torch.get_num_threads())
    compiled = core.compile_model(model, 'CPU', settings)
    return text, lambda images: list(compiled(images).values())
