"""What mmengine builds for a run: hooks, runner, mixed precision, metrics; importing it registers them."""

# Configs that import this package alone use the loader.
from mmcyclemlp.datasets.load_images import LoadReadableImage

from .amp import CpuAmpOptimWrapper
from .checkpoint import EndHook, WholeCheckpointHook
from .cross_entropy import MeanCrossEntropy
from .curves import CurvesHook, TrainAccuracyHook
from .layer_decay import LayerDecayOptimWrapperConstructor
from .randomness import RandomStatesHook
from .runner import ConsoleRunner
from .schedule import ResumeScheduleHook
from .sharding import FSDP2

__all__ = [
    'ConsoleRunner',
    'CpuAmpOptimWrapper',
    'CurvesHook',
    'EndHook',
    'FSDP2',
    'LayerDecayOptimWrapperConstructor',
    'LoadReadableImage',
    'MeanCrossEntropy',
    'RandomStatesHook',
    'ResumeScheduleHook',
    'TrainAccuracyHook',
    'WholeCheckpointHook',
]
