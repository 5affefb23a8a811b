"""What training and testing need beside the OpenMMLab libraries; importing it registers hooks, metric and wrapper."""
from .amp import CpuAmpOptimWrapper
from .config import load_config
from .cross_entropy import MeanCrossEntropy
from .curves import CurvesHook
from .report import input_errors
from .runner import ConsoleRunner
from .schedule import ResumeScheduleHook
from .train_accuracy import TrainAccuracyHook

__all__ = ['ConsoleRunner', 'CpuAmpOptimWrapper', 'CurvesHook', 'MeanCrossEntropy', 'ResumeScheduleHook',
           'TrainAccuracyHook', 'input_errors', 'load_config']
