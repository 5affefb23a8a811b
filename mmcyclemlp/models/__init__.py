"""CycleMLP and its layers."""

from .classifier import CycleMLPClassifier
from .cyclemlp import ARCHS, CycleMLP
from .layers import CycleBlock, CycleFC, CycleMixer, Downsample, OverlapPatchEmbed

__all__ = [
    'ARCHS',
    'CycleBlock',
    'CycleFC',
    'CycleMLP',
    'CycleMLPClassifier',
    'CycleMixer',
    'Downsample',
    'OverlapPatchEmbed',
]
