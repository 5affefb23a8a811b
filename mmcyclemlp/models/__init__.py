"""CycleMLP and its layers."""

from .cyclemlp import ARCHS, CycleMLP
from .layers import CycleBlock, CycleFC, CycleMixer, Downsample, OverlapPatchEmbed

__all__ = ['ARCHS', 'CycleBlock', 'CycleFC', 'CycleMLP', 'CycleMixer', 'Downsample', 'OverlapPatchEmbed']
