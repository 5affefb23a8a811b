"""Weights to start from, whoever saved them."""

import os
from typing import Any, Dict, Mapping

from .reading import PathLike
from .state_dicts import arch_of, check_tensors, with_plain_names


def starting_weights(checkpoint: Mapping[str, Any], path: PathLike) -> Dict[str, Any]:
    """The state dict in a checkpoint of mmengine, timm, DINO, Lightning or torch itself, under the model's names.

    A CycleMLP without a task around it gets ``backbone.`` in front.

    Raises:
        InputError: there is none.
    """
    weights = with_plain_names(dict(checkpoint))
    weights = weights.get('state_dict', weights)
    check_tensors(weights, os.fspath(path))
    if arch_of(weights) and any(name.startswith('stages.') for name in weights):
        weights = {f'backbone.{name}': value for name, value in weights.items()}
    return weights
