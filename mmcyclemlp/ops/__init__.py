"""The mathematics of CycleMLP; needs torch only."""

from .checks import BACKENDS
from .cycle_fc import cycle_fc, use_backend
from .cycle_mix import MixerWeights, cycle_mix
from .linear import linear, linear_gelu
from .offsets import staircase_offsets
from .shift import shift, use_shift

__all__ = [
    'BACKENDS',
    'MixerWeights',
    'cycle_fc',
    'cycle_mix',
    'linear',
    'linear_gelu',
    'shift',
    'staircase_offsets',
    'use_backend',
    'use_shift',
]
