"""What the commands have in common."""
import functools
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any, Callable, Optional, Sequence

from mmengine import DictAction

from mmcyclemlp.errors import InputError, tell

from .processes import LAUNCHERS

Arguments = Optional[Sequence[str]]


def command(main: Callable[[Arguments], Optional[int]]) -> Callable[[Arguments], int]:
    """A main that returns its exit status: 0, what it returned, or 2 after an InputError, which is told in one line."""

    @functools.wraps(main)
    def run(argv: Arguments = None) -> int:
        try:
            return main(argv) or 0
        except InputError as error:
            tell(error)
            return 2

    return run


def parser_of(doc: Optional[str]) -> ArgumentParser:
    """A parser whose help starts with the docstring of its module."""
    return ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter)


class OptionAction(DictAction):
    """mmengine's parser of KEY=VALUE, with a usage message for what it cannot parse."""

    def __call__(self, parser: ArgumentParser, namespace: Any, values: Any, option_string: Optional[str] = None):
        try:
            super().__call__(parser, namespace, values, option_string)
        except (AssertionError, ValueError):  # unbalanced brackets; no `=`
            parser.error(f'--cfg-options takes KEY=VALUE pairs such as train_cfg.max_epochs=5, got {" ".join(values)}')


def add_config(parser: ArgumentParser, checkpoint: bool = True) -> None:
    """Add CONFIG, CHECKPOINT if wanted, and --cfg-options."""
    parser.add_argument('config', metavar='CONFIG', help='a file under configs/')
    if checkpoint:
        parser.add_argument('checkpoint', metavar='CHECKPOINT', help='a file that train saved, or its URL')
    parser.add_argument('--cfg-options', nargs='+', action=OptionAction, default={}, metavar='KEY=VALUE',
                        help='change settings of the config by dotted key, such as train_dataloader.batch_size=64 '
                        'param_scheduler.0.T_max=100 model.backbone.arch=b2; lists as KEY="[a,b]"; unknown keys are '
                        'rejected')


def add_run(parser: ArgumentParser) -> None:
    """Add the arguments of a run: where results go, and what started its processes."""
    parser.add_argument('--work-dir', metavar='DIR', help='where results go')
    parser.add_argument('--launcher', choices=['none', *LAUNCHERS], default='none',
                        help='what started the processes of a distributed run; tools/dist_*.sh and tools/slurm_*.sh '
                        'set it')
    parser.add_argument('--local-rank', '--local_rank', type=int, metavar='N',
                        help='given by old launchers; the environment says it otherwise')
