"""Entry points of ``torch.hub``; ``torch.hub.load`` passes arguments on to ``mmcyclemlp.create_model``."""

from functools import partial as _partial

from mmcyclemlp import create_model as _create_model
from mmcyclemlp import list_models as _list_models

dependencies = ['mmcv', 'mmengine', 'torch']
globals().update({_name: _partial(_create_model, _name) for _name in _list_models()})
