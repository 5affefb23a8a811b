"""Whether a checkpoint fits a model, and loading it strictly."""

import os
from typing import Any, Mapping, cast

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn

from mmcyclemlp.errors import InputError

from .converting import is_original
from .reading import PathLike
from .state_dicts import arch_of, check_state_dict, differences, first, state_dict_of


def check_fits(model: nn.Module, checkpoint: Mapping[str, Any], path: PathLike) -> None:
    """Check that a checkpoint holds exactly the model's entries, before anything loads it non-strictly.

    Args:
        model (nn.Module): the model as the config builds it, wrapped for distributed training, for test-time
            augmentation, or not.
        checkpoint (Mapping): what :func:`read_checkpoint` returned: with ``state_dict``, or a bare state dict.
        path (str | os.PathLike): names the checkpoint in the message.

    Raises:
        InputError: names the first missing or unexpected keys and other shapes, and both archs if they differ.
    """
    name = os.fspath(path)
    state_dict = state_dict_of(checkpoint)
    _check_converted(state_dict, name)
    expected = unwrapped(model).state_dict()
    separating = differences(expected, state_dict)
    if not separating:
        return
    held, built = arch_of(state_dict), arch_of(expected)
    if held and built and held != built:
        raise InputError(
            f'{name} holds CycleMLP {held}, the config builds CycleMLP {built}; take the config of this '
            'checkpoint, or a checkpoint of this config'
        )
    raise InputError(
        f'{name} does not fit the model of the config: {separating}; take the config it was trained '
        "with, or give weights of the backbone alone by init_cfg=dict(type='Pretrained', "
        "checkpoint=FILE, prefix='backbone.')"
    )


def check_any_fits(model: nn.Module, checkpoint: Mapping[str, Any], path: PathLike) -> None:
    """Raise InputError for weights to start from of which not one has a name and a shape of the model's."""
    expected, found = unwrapped(model).state_dict(), checkpoint['state_dict']
    _check_converted(found, os.fspath(path))
    if not any(found[key].shape == getattr(expected.get(key.removeprefix('module.')), 'shape', None) for key in found):
        raise InputError(
            f'expected weights to start from, but none of {os.fspath(path)} ({first(found)}) fits the model of the '
            f'config ({first(expected)}); give another checkpoint, or that of a backbone by '
            "init_cfg=dict(type='Pretrained', checkpoint=FILE, prefix='backbone.')"
        )


def _check_converted(state_dict: Any, name: str) -> None:
    check_state_dict(state_dict, name)
    if any(map(is_original, state_dict)):
        raise InputError(
            f'expected weights of mmcyclemlp, but {name} holds original CycleMLP weights; convert them '
            f'with `python tools/convert_checkpoint.py {name} CONVERTED.pth`'
        )


def load_strictly(model: nn.Module, checkpoint: Mapping[str, Any], path: PathLike) -> None:
    """Load a checkpoint that fits into a model; arguments and errors are those of :func:`check_fits`."""
    check_fits(model, checkpoint, path)
    unwrapped(model).load_state_dict(state_dict_of(checkpoint))


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside wrappers for distributed training and test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = cast(nn.Module, model.module)
    return model
