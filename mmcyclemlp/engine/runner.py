"""mmengine's Runner with a readable console, and with checkpoints that are read once and loaded strictly."""

import logging
from typing import Any, Dict, List, Mapping, Optional

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import EarlyStoppingHook, EMAHook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapperDict
from mmengine.runner import IterBasedTrainLoop, Runner
from mmengine.runner.checkpoint import _load_checkpoint, _load_checkpoint_to_model
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from mmcyclemlp.checkpoints import check_any_fits, check_fits, load_strictly, register_safe_loader, unwrapped
from mmcyclemlp.config.walk import name_of
from mmcyclemlp.dependencies import import_yapf
from mmcyclemlp.errors import InputError, named

from .checkpoint import EndHook, Obedient, progress, run_of
from .randomness import RandomStatesHook
from .sharding import divide_state, divided, gathered, is_sharded

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
    _meta: Dict[str, Any] = {}
    _whole: Dict[str, Any] = {}
    _gradients: Optional[List[Optional[torch.Tensor]]] = None

    def __init__(self, *args: Any, **kwargs: Any):
        import_yapf()  # before mmengine does, in all processes of a run at once
        register_safe_loader()  # which also has checkpoints written whole
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

    def _init_model_weights(self) -> None:
        if not is_sharded(self.model):  # else FSDP2 has done it
            super()._init_model_weights()

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> Dict[str, Any]:
        """As mmengine's, but of the checkpoint that was given."""
        checkpoint, self._given = self._given, None
        if checkpoint is None:
            checkpoint, self._strict = _load_checkpoint(filename, 'cpu'), False
            checkpoint = dict(checkpoint if 'state_dict' in checkpoint else {'state_dict': checkpoint})
        self._meta, self._gradients = checkpoint.get('meta', {}), checkpoint.get('gradients')
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)  # EMAHook swaps weights in it
        if is_sharded(self.model):
            checkpoint['state_dict'] = divided(self.model, checkpoint['state_dict'])
        if self._strict:
            load_strictly(self.model, checkpoint, filename)
        else:
            check_any_fits(self.model, checkpoint, filename)
            _load_checkpoint_to_model(unwrapped(self.model), checkpoint)
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    def register_hooks(self, default_hooks: Optional[dict] = None, custom_hooks: Optional[list] = None) -> None:
        """As mmengine's, with the hooks by which a run can be interrupted and resumed anywhere."""
        default_hooks = {'checkpoint': dict(type='CheckpointHook', interval=1), **(default_hooks or {})}
        if isinstance(default_hooks['checkpoint'], dict) and name_of(default_hooks['checkpoint']) == 'CheckpointHook':
            default_hooks['checkpoint'] = {**default_hooks['checkpoint'], 'type': 'WholeCheckpointHook'}
        super().register_hooks(default_hooks, custom_hooks)
        for hook in self._early_stopping():  # before the checkpoint hook, which may save after a validation
            self._hooks.remove(hook)
            self.register_hook(hook, 'LOW')
        if is_sharded(self.model) and any(isinstance(hook, EMAHook) for hook in self.hooks):
            raise InputError('FSDP2 cannot copy a model for EMAHook; leave the hook or model_wrapper_cfg out')
        self._end = EndHook()
        self.register_hook(RandomStatesHook())
        self.register_hook(self._end)

    def dump_config(self) -> None:
        """Does nothing: the config in a work dir is that of a training, and neither a test nor a training that is
        refused replaces it."""

    def train(self) -> Any:
        """As mmengine's, but it takes signals: see :class:`EndHook`."""
        super().dump_config()
        with self._end.listening():
            return super().train()

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """As mmengine's; the shards of all processes are put together first, since only the main one writes."""
        if is_sharded(self.model):
            self._whole = gathered(dict(state_dict=self.model.state_dict(), optimizer=self.optim_wrapper.state_dict()))
        else:  # gradients are left between iterations that accumulate them
            self._gradients = [None if p.grad is None else p.grad.clone() for p in self._parameters()]
            for gradient in filter(lambda each: each is not None, self._gradients):
                all_reduce(gradient, 'mean')
        try:
            super().save_checkpoint(*args, **kwargs)
        finally:
            self._whole, self._gradients = {}, None  # as large as all shards together

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """As mmengine's; InputError for a state that is not that of a run, and a word on what has changed."""
        try:
            super().resume(filename, *args, **kwargs)
            if is_sharded(self.model):
                divide_state(self.optim_wrapper.optimizer)
            elif self._gradients:
                for parameter, gradient in zip(self._parameters(), self._gradients, strict=True):
                    parameter.grad = None if gradient is None else gradient.to(parameter.device)
            for hook, (best, waited) in zip(self._early_stopping(), self._meta.get('early_stopping', ())):
                hook.best_score, hook.wait_count = float(best), int(waited)
        except InputError:
            raise
        except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f'{filename} holds a state from which this run cannot be resumed ({named(error)}); '
                f'give another checkpoint, or start from its weights by --cfg-options load_from={filename}'
            ) from error
        self._check_optimizers(filename)
        most = (self.epoch + 1) * len(self.train_dataloader.dataset)
        if not isinstance(self.train_loop, IterBasedTrainLoop) and self.iter > most:
            raise InputError(
                f'{filename} is said to hold {self.iter:,} iterations in {self.epoch} epochs, but of this data there '
                f'are at most {most:,}; give another checkpoint'
            )
        meta, now = self._meta, run_of(self)
        for key, unit in (('processes', 'processes'), ('batch', 'images in an iteration')):
            if meta.get(key, now[key]) != now[key]:
                self.logger.warning(
                    f'resumed with {now[key]} {unit} instead of {meta[key]}: an epoch has another number of '
                    'iterations, and the learning rate was meant for the other number'
                )

    def _optimizers(self) -> List[Optimizer]:
        given = self.optim_wrapper
        return [each.optimizer for each in (given.values() if isinstance(given, OptimWrapperDict) else [given])]

    def _parameters(self) -> List[torch.Tensor]:
        return [
            parameter for each in self._optimizers() for group in each.param_groups for parameter in group['params']
        ]

    def _early_stopping(self) -> List[EarlyStoppingHook]:
        return [hook for hook in self.hooks if isinstance(hook, EarlyStoppingHook)]

    def _check_optimizers(self, filename: str) -> None:
        """Raise InputError for the state of another optimizer, which torch takes, and fails by in the first step."""
        for optimizer in self._optimizers():
            absent = set(optimizer.defaults) - set(optimizer.param_groups[0])
            if absent:
                raise InputError(
                    f'{filename} holds the state of another optimizer, without the {min(absent)} of '
                    f'{type(optimizer).__name__}; go on with the optimizer of that run, or start from its weights by '
                    f'--cfg-options load_from={filename}'
                )

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """As mmengine's. A validation that was due when the run was interrupted is done before it goes on."""
        if fn_name == 'before_save_checkpoint':
            checkpoint = kwargs['checkpoint']
            checkpoint.update({key: value for key, value in self._whole.items() if key in checkpoint})
            checkpoint['meta']['early_stopping'] = [(h.best_score, h.wait_count) for h in self._early_stopping()]
            if any(gradient is not None for gradient in self._gradients or ()):
                checkpoint['gradients'] = self._gradients
        super().call_hook(fn_name, **kwargs)
        if fn_name != 'before_train' or not self._resume or self.val_loop is None:
            return
        self.train_loop._decide_current_val_interval()
        loop, done = self.train_loop, progress(self)
        last = done == (loop.max_iters if isinstance(loop, IterBasedTrainLoop) else loop.max_epochs)
        due = done >= max(1, loop.val_begin) and (done % loop.val_interval == 0 or last)
        if due and self.message_hub.runtime_info.get('scored') != done:
            self.logger.info('Validating first: the checkpoint was saved before its validation')
            self.val_loop.run()
        elif any(map(_has_ended, self._early_stopping())):
            self.train_loop.stop_training = True

    @staticmethod
    def build_dataloader(*args: Any, **kwargs: Any) -> DataLoader:
        """As mmengine's, with workers that only their parent ends."""
        loader = Runner.build_dataloader(*args, **kwargs)
        if loader.num_workers:
            loader.worker_init_fn = Obedient(loader.worker_init_fn)
        return loader

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """As mmengine's, with filters on what goes to the console."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_is_no_noise)
                handler.addFilter(_is_one_line)
        return logger


def _has_ended(hook: EarlyStoppingHook) -> bool:
    """Whether the validations that a hook has seen have ended the run."""
    reached = hook.stopping_threshold is not None and hook.rule_map[hook.rule](hook.best_score, hook.stopping_threshold)
    return reached or hook.wait_count >= hook.patience


def _is_no_noise(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(NOISE)


def _is_one_line(record: logging.LogRecord) -> bool:
    return '\n' not in record.getMessage()
