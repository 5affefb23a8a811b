"""The mathematics of CycleMLP; needs torch only."""
from .backends import BACKENDS
from .cycle_fc import cycle_fc, use_backend
from .cycle_mix import MixerWeights, cycle_mix
from .linear import linear, linear_gelu
from .offsets import staircase_offsets

__all__ = [
    'BACKENDS', 'MixerWeights', 'cycle_fc', 'cycle_mix', 'linear', 'linear_gelu', 'staircase_offsets', 'use_backend'
]
