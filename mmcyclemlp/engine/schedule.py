"""The learning rate of a resumed run."""

import warnings
from typing import List

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop

# What changes from step to step; the rest of a scheduler's state is its plan.
PROGRESS = ('last_step', '_global_step', '_last_value', 'base_values', 'verbose')


@HOOKS.register_module()
class ResumeScheduleHook(Hook):
    """Lets a resumed run follow the schedule of its config.

    mmengine restores the schedulers with their ``end`` and ``T_max``: a run resumed with a larger ``max_epochs`` would
    keep the last, smallest learning rate. If the schedule of the config differs from that of the checkpoint, this hook
    steps through the config's up to the resumed epoch.
    """

    def __init__(self):
        self._planned: List[dict] = []

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Keep the schedulers' state as built from the config, before the checkpoint's replaces it."""
        if isinstance(runner.optim_wrapper, OptimWrapper) and isinstance(runner.param_schedulers, list):
            self._planned = [dict(scheduler.state_dict()) for scheduler in runner.param_schedulers]

    def before_train(self, runner) -> None:
        """Step through the config's schedule if it is another than the checkpoint's."""
        if not self._planned or runner.iter == 0:  # not resumed
            return
        schedulers = runner.param_schedulers
        if all(_plan(scheduler.state_dict()) == _plan(state) for scheduler, state in zip(schedulers, self._planned)):
            return
        if any(getattr(scheduler, 'need_val_args', False) for scheduler in schedulers):
            runner.logger.warning(
                'the schedule of the config differs from that of the checkpoint, but depends on '
                'past metrics; going on with that of the checkpoint'
            )
            return
        for scheduler, state in zip(schedulers, self._planned):
            scheduler.load_state_dict(dict(state, last_step=-1, _global_step=-1))
            initial = f'initial_{scheduler.param_name}'
            scheduler.base_values = [group[initial] for group in scheduler.optimizer.param_groups]
            for group in scheduler.optimizer.param_groups:
                group[scheduler.param_name] = group[initial]
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # that the optimizer has not stepped in this process
            _step_through(schedulers, runner)
        rate = runner.optim_wrapper.get_lr()['lr'][0]
        runner.logger.info(
            f'The schedule of the config differs from that of the checkpoint: going on with the '
            f"config's, at learning rate {rate:.3e}"
        )


def _plan(state: dict) -> dict:
    return {key: value for key, value in state.items() if key not in PROGRESS}


def _step_through(schedulers: List[_ParamScheduler], runner) -> None:
    """The steps of ParamSchedulerHook from the start of training to the resumed iteration."""
    by_epoch = [scheduler for scheduler in schedulers if scheduler.by_epoch]
    by_iter = [scheduler for scheduler in schedulers if not scheduler.by_epoch]
    for scheduler in schedulers:
        scheduler.step()  # what building one does
    length = 0 if isinstance(runner.train_loop, IterBasedTrainLoop) else len(runner.train_dataloader)
    # With another batch size, the epochs that were done count as many iterations as they have now.
    same = not length or runner.iter // length == runner.epoch
    for i in range(1, (runner.iter if same else runner.epoch * length) + 1):
        for scheduler in by_iter:
            scheduler.step()
        if length and i % length == 0:
            for scheduler in by_epoch:
                scheduler.step()
