"""The mathematics of CycleMLP; needs torch only."""
from .backends import BACKENDS
from .cycle_fc import cycle_fc, use_backend
from .offsets import staircase_offsets

__all__ = ['BACKENDS', 'cycle_fc', 'staircase_offsets', 'use_backend']
