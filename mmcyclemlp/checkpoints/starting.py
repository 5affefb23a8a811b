"""Weights to start from, whoever saved them."""

import os
from typing import Any, Dict, Mapping

from .reading import PathLike
from .state_dicts import arch_of, check_tensors

# Under which others save a state dict; averaged weights first, as timm and DINO use them.
KEYS = ('state_dict_ema', 'model_ema', 'teacher', 'state_dict', 'model')
PREFIXES = ('module.', '_orig_mod.', 'model.', 'teacher.')  # of wrappers, in front of every name


def starting_weights(checkpoint: Mapping[str, Any], path: PathLike) -> Dict[str, Any]:
    """The state dict in a checkpoint of mmengine, timm, DINO, Lightning or torch itself, under the model's names.

    A CycleMLP without a task around it gets ``backbone.`` in front.

    Raises:
        InputError: there is none.
    """
    weights: Any = checkpoint
    while isinstance(weights, Mapping):
        key = next((key for key in KEYS if isinstance(weights.get(key), Mapping)), None)
        if key is None:
            break
        weights = weights[key]
    check_tensors(weights, os.fspath(path))
    prefix: Any = ''
    while prefix is not None:
        weights = {name[len(prefix) :]: value for name, value in weights.items()}
        prefix = next((each for each in PREFIXES if all(name.startswith(each) for name in weights)), None)
    if arch_of(weights) and any(name.startswith('stages.') for name in weights):
        weights = {f'backbone.{name}': value for name, value in weights.items()}
    return weights
