"""What training and testing need beside the OpenMMLab libraries; importing it registers hooks and the like."""
from .amp import CpuAmpOptimWrapper
from .config import load_config
from .cross_entropy import MeanCrossEntropy
from .curves import CurvesHook
from .report import input_errors
from .runner import ConsoleRunner
from .schedule import ResumeScheduleHook
from .train_accuracy import TrainAccuracyHook
from .unreadable import LoadReadableImage

__all__ = ['ConsoleRunner', 'CpuAmpOptimWrapper', 'CurvesHook', 'LoadReadableImage', 'MeanCrossEntropy',
           'ResumeScheduleHook', 'TrainAccuracyHook', 'input_errors', 'load_config']
