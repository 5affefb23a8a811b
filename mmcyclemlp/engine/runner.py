"""mmengine's Runner with a console that a person can read."""
import logging
from typing import Any

from mmengine.logging import MMLogger
from mmengine.runner import Runner

# What mmengine says about itself in every run.
NOISE = ('"FileClient" will be deprecated', '"HardDiskBackend" is the alias', 'Exp name: ',
         'Distributed training is not used, all SyncBatchNorm', 'paramwise_options -- ')


class ConsoleRunner(Runner):
    """Runner that keeps its start-up blobs (environment, config, hooks; 300 lines) to the log file."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        for handler in self.logger.handlers:
            handler.removeFilter(_is_one_line)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """As mmengine's, with filters on what goes to the console."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_is_no_noise)
                handler.addFilter(_is_one_line)
        return logger


def _is_no_noise(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(NOISE)


def _is_one_line(record: logging.LogRecord) -> bool:
    return '\n' not in record.getMessage()
