"""What the commands have in common."""

import functools
import os
import select
import sys
import time
from argparse import Action, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from typing import Any, Callable, Optional, Sequence

from mmcyclemlp.config.building import about_config
from mmcyclemlp.config.first_batch import about_first_batch
from mmcyclemlp.config.options import Typed
from mmcyclemlp.errors import InputError, tell

from .processes import LAUNCHERS


def command(parser: ArgumentParser) -> Callable[[Callable[[Namespace], Optional[int]]], Callable[..., int]]:
    """Turn a function of parsed arguments into a main, which takes a list of arguments (default: the process's own) and
    returns the exit status: 0, what the function returned, 2 after an InputError, which prints one line, or 141 if the
    reader of the output has ended, as ``head`` does."""

    def decorate(main: Callable[[Namespace], Optional[int]]) -> Callable[..., int]:

        @functools.wraps(main)
        def run(argv: Optional[Sequence[str]] = None) -> int:
            parser.prog = os.path.basename(sys.argv[0])
            try:
                status = main(parser.parse_args(argv)) or 0
                print(end='', flush=True)  # now, while it can be told from an error; without a stdout, nothing
                return status
            except Exception as error:
                if isinstance(error, BrokenPipeError) and _reader_has_ended():
                    return 141  # as the shell calls a process that SIGPIPE ended
                told = error if isinstance(error, InputError) else about_config(error) or about_first_batch(error)
                if told is None:
                    raise
                if os.environ.get('RANK', '0') != '0':
                    time.sleep(10)  # if the first process says the same, the launcher ends this one meanwhile
                tell(told)
                return 2

        return run

    return decorate


def _reader_has_ended() -> bool:
    """Whether stdout, and no other pipe, is broken; what it still holds is dropped then."""
    poll = select.poll()
    poll.register(sys.stdout, 0)  # nothing but errors
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def parser_of(doc: Optional[str]) -> ArgumentParser:
    """A parser whose help starts with the docstring of its module."""
    return ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter)


class OptionAction(Action):
    """Take KEY=VALUE pairs, with a usage message for others; the config decides what a value means."""

    def __call__(self, parser: ArgumentParser, namespace: Any, values: Any, option_string: Optional[str] = None):
        if not all('=' in value for value in values):
            parser.error(f'--cfg-options takes KEY=VALUE pairs such as train_cfg.max_epochs=5, got {" ".join(values)}')
        pairs = (value.split('=', 1) for value in values)
        setattr(
            namespace,
            self.dest,
            {**(getattr(namespace, self.dest) or {}), **{key: Typed(value) for key, value in pairs}},
        )


def add_config(parser: ArgumentParser, checkpoint: bool = True) -> None:
    """Add CONFIG, CHECKPOINT if wanted, and --cfg-options."""
    parser.add_argument(
        'config', metavar='CONFIG', help='a config file; configs/... is also found inside the installed package'
    )
    if checkpoint:
        parser.add_argument(
            'checkpoint', metavar='CHECKPOINT', help='a file that train saved, its URL, or cyclemlp://NAME'
        )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionAction,
        default={},
        metavar='KEY=VALUE',
        help='change settings of the config by dotted key, such as train_dataloader.batch_size=64 '
        'param_scheduler.0.T_max=100 model.backbone.arch=b2; lists as KEY="[a,b]"; unknown keys are '
        'rejected',
    )


def add_run(parser: ArgumentParser) -> None:
    """Add the arguments of a run: where results go, and what started its processes."""
    parser.add_argument('--work-dir', metavar='DIR', help='where results go')
    parser.add_argument(
        '--launcher',
        choices=['none', *LAUNCHERS],
        default='none',
        help='what started the processes of a distributed run; tools/dist_*.sh and tools/slurm_*.sh set it',
    )
    parser.add_argument(
        '--timeout',
        type=float,
        default=1800,
        metavar='S',
        help='end a distributed run when its processes have waited S seconds for one of them (default: 1800)',
    )
    parser.add_argument(
        '--local-rank',
        '--local_rank',
        type=int,
        metavar='N',
        help='set by old launchers; otherwise read from the environment',
    )
