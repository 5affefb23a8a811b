"""The learning rate of a resumed run, and the optimizer's other numbers."""

import warnings
from typing import Any, List

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop

# What changes from step to step; the rest of a scheduler's state is its plan.
PROGRESS = ('last_step', '_global_step', '_last_value', 'base_values', 'verbose')


@HOOKS.register_module()
class ResumeScheduleHook(Hook):
    """Lets a resumed run follow the schedule and the optimizer's numbers of its config.

    mmengine restores the schedulers with their ``end`` and ``T_max``: a run resumed with a larger ``max_epochs`` would
    keep the last, smallest learning rate, and one with another batch size would not know that its epochs have another
    number of iterations. It also restores the rate and weight decay, whatever the config says. If the config differs
    from the checkpoint, this hook takes what the config says, and steps through its schedule up to the resumed epoch.
    """

    def __init__(self):
        self._planned: List[dict] = []
        self._groups: List[dict] = []
        self._batches = 0  # done in the epoch that was cut off

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Keep what was built from the config, before the checkpoint's state replaces it."""
        if isinstance(runner.optim_wrapper, OptimWrapper):
            self._groups = [_numbers(group) for group in runner.optim_wrapper.param_groups]
            if isinstance(runner.param_schedulers, list):
                self._planned = [dict(scheduler.state_dict()) for scheduler in runner.param_schedulers]
        self._batches = (checkpoint.get('meta') or {}).get('batches', 0)

    def before_train(self, runner) -> None:
        """Take the config's numbers and step through its schedule if they are others than the checkpoint's."""
        if not self._groups or runner.iter == 0:  # not resumed
            return
        schedulers = runner.param_schedulers if self._planned else []
        scheduled = {scheduler.param_name for scheduler in schedulers}
        groups = runner.optim_wrapper.param_groups
        changes = [
            {key: value for key, value in planned.items() if key not in scheduled and _other(value, group.get(key))}
            for planned, group in zip(self._groups, groups)
        ]
        if not any(changes) and all(
            _plan(scheduler.state_dict()) == _plan(state) for scheduler, state in zip(schedulers, self._planned)
        ):
            return
        if any(getattr(scheduler, 'need_val_args', False) for scheduler in schedulers):
            runner.logger.warning(
                'the schedule of the config differs from that of the checkpoint, but depends on '
                'past metrics; going on with that of the checkpoint'
            )
            return
        for group, change in zip(groups, changes):
            group.update(change)
        for scheduler, state in zip(schedulers, self._planned):
            scheduler.load_state_dict(dict(state, last_step=-1, _global_step=-1))
            initial = f'initial_{scheduler.param_name}'
            scheduler.base_values = [group[initial] for group in scheduler.optimizer.param_groups]
            for group in scheduler.optimizer.param_groups:
                group[scheduler.param_name] = group[initial]
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # that the optimizer has not stepped in this process
            _step_through(schedulers, runner, self._batches)
        rate = runner.optim_wrapper.get_lr()['lr'][0]
        changed = sorted({key.replace('initial_', '') for change in changes for key in change})
        runner.logger.info(
            f'The {" and ".join(changed) or "schedule"} of the config differs from that of the checkpoint: going on '
            f"with the config's, at learning rate {rate:.3e}"
        )


def _numbers(group: dict) -> dict:
    """What an optimizer's parameter group holds of rates, decays and the like, without its switches."""
    return {
        key: value
        for key, value in group.items()
        if key != 'params'
        and all(type(each) in (int, float) for each in (value if isinstance(value, (list, tuple)) else [value]))
    }


def _other(value: Any, found: Any) -> bool:
    return list(value) != list(found) if isinstance(value, (list, tuple)) and found else value != found


def _plan(state: dict) -> dict:
    return {key: value for key, value in state.items() if key not in PROGRESS}


def _step_through(schedulers: List[_ParamScheduler], runner, batches: int) -> None:
    """The steps of ParamSchedulerHook from the start of training to the resumed iteration.

    A schedule that the config gives in epochs is stepped by epochs, which may have another number of iterations now.
    """
    for scheduler in schedulers:
        scheduler.step()  # what building one does
    epochs, length = 0, 1
    done = by_epochs = runner.iter
    if not isinstance(runner.train_loop, IterBasedTrainLoop) and runner.epoch:
        epochs, length = runner.epoch, len(runner.train_dataloader)
        before = max(1, (runner.iter - batches) // epochs)
        by_epochs = epochs * length + batches * length // before
    settings = runner.cfg.get('param_scheduler') or []
    settings = [settings] if isinstance(settings, dict) else settings
    converted = [isinstance(each, dict) and each.get('convert_to_iter_based', False) for each in settings]
    # Where schedulers were given as objects, none was converted.
    converted += [False] * (len(schedulers) - len(converted))
    for i in range(1, max(done, by_epochs) + 1):
        for scheduler, in_epochs in zip(schedulers, converted):
            if scheduler.by_epoch:
                due = epochs and i % length == 0 and i <= epochs * length
            else:
                due = i <= (by_epochs if in_epochs else done)
            if due:
                scheduler.step()
