"""mmengine's Runner with a readable console, and with checkpoints that are read once and loaded strictly."""

import logging
from typing import Any, Dict, Mapping, Optional

from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint_to_model

from mmcyclemlp.checkpoints import check_fits, load_strictly, unwrapped

# What mmengine says about itself in every run.
NOISE = (
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'Exp name: ',
    'Distributed training is not used, all SyncBatchNorm',
    'paramwise_options -- ',
)


class ConsoleRunner(Runner):
    """Runner that keeps its start-up blobs (environment, config, hooks; 300 lines) to the log file."""

    _given: Optional[Dict[str, Any]] = None

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        for handler in self.logger.handlers:
            handler.removeFilter(_is_one_line)

    def give(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take what was read from ``load_from`` already, so that it is not read again.

        It is loaded when the run starts, since hooks such as EMAHook are ready for it only then.

        Raises:
            InputError: it does not fit the model; weights to fine-tune from need not, without ``strict``.
        """
        if strict:
            check_fits(self.model, checkpoint, self._load_from)
        self._strict = strict
        self._given = dict(checkpoint if 'state_dict' in checkpoint else {'state_dict': checkpoint})

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> Dict[str, Any]:
        """As mmengine's, but of the checkpoint that was given."""
        checkpoint, self._given = self._given, None
        if checkpoint is None:
            return super().load_checkpoint(filename, *args, **kwargs)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)  # EMAHook swaps weights in it
        if self._strict:
            load_strictly(self.model, checkpoint, filename)
        else:
            _load_checkpoint_to_model(unwrapped(self.model), checkpoint)
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

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
