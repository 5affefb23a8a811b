"""What tools/train.py and tools/test.py have in common."""
import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, Optional

from mmengine import Config, DictAction

from mmcyclemlp.checkpoints import register_safe_loader

from .config import load_config
from .processes import LAUNCHERS, init_processes


class OptionAction(DictAction):
    """mmengine's parser of KEY=VALUE, with a usage message for what it cannot parse."""

    def __call__(self, parser: ArgumentParser, namespace: Any, values: Any, option_string: Optional[str] = None):
        try:
            super().__call__(parser, namespace, values, option_string)
        except (AssertionError, ValueError):  # unbalanced brackets; no `=`
            parser.error(f'--cfg-options takes KEY=VALUE pairs such as train_cfg.max_epochs=5, got {" ".join(values)}')


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of every run; CONFIG is the caller's."""
    parser.add_argument('--work-dir', metavar='DIR', help='where results go')
    parser.add_argument('--cfg-options', nargs='+', action=OptionAction, default={}, metavar='KEY=VALUE',
                        help='settings to change in the config, by dotted key, such as '
                        'train_dataloader.batch_size=64 param_scheduler.0.T_max=100 model.backbone.arch=b2; '
                        'lists as KEY="[a,b]"; an unknown key is refused')
    parser.add_argument('--launcher', choices=['none', *LAUNCHERS], default='none',
                        help='what started the processes of a distributed run; tools/dist_*.sh and tools/slurm_*.sh '
                        'set it')
    parser.add_argument('--local-rank', '--local_rank', type=int, metavar='N',
                        help='given by old launchers; the environment says it otherwise')


def prepare(args: Any, default_folder: str = '') -> Config:
    """Config with its options, work dir and processes, as the arguments of :func:`add_arguments` say.

    The work dir is ``--work-dir``, else the config's, else ``work_dirs/CONFIG NAME/default_folder``.
    """
    # The libraries read checkpoints with unrestricted pickle otherwise.
    os.environ.setdefault('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    register_safe_loader()
    if args.local_rank is not None:
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    config = load_config(args.config, args.cfg_options)
    config.work_dir = args.work_dir or config.get('work_dir') or str(
        Path('work_dirs', Path(args.config).stem, default_folder))
    init_processes(config, args.launcher)
    return config
