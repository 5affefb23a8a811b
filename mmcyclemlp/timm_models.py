"""CycleMLP among timm's models; importing this module, which needs timm, registers them."""

from typing import Any, Callable

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from .checkpoints import create_model
from .checkpoints.zoo import ZOO, list_models

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


def _entry(name: str) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        # Weights are read here, by the safe reader and before timm cuts the model for features.
        source = pretrained and (kwargs.get('pretrained_cfg_overlay') or {}).get('file') or pretrained
        features = dict(out_indices=(0, 1, 2, 3), feature_cls='getter')
        return build_model_with_cfg(_build, name, False, feature_cfg=features, name=name, weights=source, **kwargs)

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f'See :func:`mmcyclemlp.create_model`, {name}.'
    return create


for _name in list_models():
    globals()[_name] = register_model(_entry(_name))
