"""Layer-wise learning-rate decay, in mmpretrain, mmdet and mmseg alike."""

from typing import Any, List

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from mmcyclemlp.errors import InputError


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, with learning rates that fall from the last layer of a backbone to its stem::

        optim_wrapper = dict(
            optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
            constructor='LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.8, norm_decay_mult=0.))

    Layer i of n learns at ``layer_decay_rate ** (n - 1 - i)`` of the rate that the other settings give. Layers are
    those of ``get_layer_depth``, which CycleMLP and most backbones of mmpretrain have. All other parts, such as
    necks and heads, count as the last layer. mmdet's and mmseg's own constructors know ConvNeXt and BEiT only.

    Raises:
        InputError: ``layer_decay_rate`` is missing or lies outside (0, 1]; no rate; no backbone with layers.
    """

    def add_params(self, params: List[dict], module: nn.Module, prefix: str = '', **kwargs: Any) -> None:
        super().add_params(params, module, prefix=prefix, **kwargs)
        if prefix:  # mmengine calls this method for each child
            return
        rate = self.paramwise_cfg.get('layer_decay_rate')
        if not isinstance(rate, (int, float)) or not 0 < rate <= 1 or self.base_lr is None:
            raise InputError(
                'LayerDecayOptimWrapperConstructor expects paramwise_cfg.layer_decay_rate above 0 and at most 1, and '
                f'optimizer.lr, got {rate!r} and {self.base_lr!r}'
            )
        layered = {name: part for name, part in module.named_modules() if hasattr(part, 'get_layer_depth')}
        # A classifier of mmpretrain passes on what its backbone says; only the innermost are asked.
        backbones = {
            f'{name}.' if name else '': part
            for name, part in layered.items()
            if not any(other != name and f'{other}.'.startswith(f'{name}.' if name else '') for other in layered)
        }
        if not backbones:
            raise InputError(
                'LayerDecayOptimWrapperConstructor expects a backbone with get_layer_depth, such as CycleMLP, but '
                f'{type(module).__name__} has none; leave the constructor out'
            )
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        for group in params:
            name = names[id(group['params'][0])]
            lr = group.get('lr', self.base_lr)
            for prefix, backbone in backbones.items():
                if name.startswith(prefix):
                    layer, layers = backbone.get_layer_depth(name, prefix)
                    lr *= rate ** (layers - 1 - layer)
            group['lr'] = lr
