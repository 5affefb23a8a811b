"""CycleMLP among timm's models; importing this module, which needs timm, registers them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Union

from timm.models import PretrainedCfg, build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from .checkpoints import create_model
from .checkpoints.zoo import ZOO, list_models
from .errors import InputError

HUB_FILES = ('model.safetensors', 'pytorch_model.bin')  # of timm's save_for_hf and of its repositories

default_cfgs = generate_default_cfgs(
    {
        f'cyclemlp_{name}.{"in1k" if "://" in weights.url else name}': dict(
            url=weights.url,
            num_classes=weights.num_classes,
            input_size=(3, weights.input_size, weights.input_size),
            pool_size=(weights.input_size // 32,) * 2,
            crop_pct=weights.crop,
            interpolation='bicubic',
            mean=tuple(value / 255 for value in weights.mean),
            std=tuple(value / 255 for value in weights.std),
            first_conv='backbone.patch_embed.proj',
            classifier='head.fc',
        )
        for name, weights in ZOO.items()
        if weights.task == 'classification'
    }
)


def _build(
    name: str,
    weights: Any,
    num_classes: int = 1000,
    in_chans: int = 3,
    global_pool: str = 'avg',
    drop_rate: float = 0.0,
    device: Any = None,
    dtype: Any = None,
    **options: Any,
) -> nn.Module:
    model = create_model(name, weights, num_classes, in_channels=in_chans, **options)
    model.drop_rate = drop_rate
    if global_pool != model.global_pool:
        model.reset_classifier(num_classes, global_pool)
    return model.to(device=device, dtype=dtype)


def _source(cfg: Any, overlay: Optional[Dict[str, Any]]) -> Union[str, Path, None]:
    """The file or address of the weights that timm's arguments name, as for ``local-dir:``; None if they name none.

    Raises:
        InputError: they hold the weights themselves.
    """
    given = asdict(cfg) if isinstance(cfg, PretrainedCfg) else cfg if isinstance(cfg, dict) else {}
    given = {**given, **(overlay or {})}
    if given.get('state_dict'):
        raise InputError(
            'expected weights in a file or at an address, but got a state_dict; create the model without pretrained, '
            'and use its load_state_dict'
        )
    if given.get('file'):
        inside = [Path(given['file'], name) for name in HUB_FILES]
        return next((path for path in inside if path.is_file()), given['file'])
    if given.get('hf_hub_id'):
        repository, _, revision = given['hf_hub_id'].partition('@')
        file = given.get('hf_hub_filename') or HUB_FILES[0]
        return f'https://huggingface.co/{repository}/resolve/{revision or "main"}/{file}'
    return given.get('url')


def _entry(name: str) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        # Weights are read here, by the safe reader and before timm cuts the model for features.
        source = (
            pretrained and _source(kwargs.get('pretrained_cfg'), kwargs.get('pretrained_cfg_overlay')) or pretrained
        )
        features = dict(out_indices=(0, 1, 2, 3), feature_cls='getter')
        return build_model_with_cfg(_build, name, False, feature_cfg=features, name=name, weights=source, **kwargs)

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f'See :func:`mmcyclemlp.create_model`, {name}.'
    return create


for _name in list_models():
    globals()[_name] = register_model(_entry(_name))
