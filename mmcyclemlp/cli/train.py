"""Train a model of any task with a config.

    mmcyclemlp train configs/cyclemlp/digits_b1.py
    python tools/train.py configs/cyclemlp/cifar10_b1.py --cfg-options train_cfg.max_epochs=5
    tools/dist_train.sh configs/cyclemlp/cifar10_b1.py 8

Checkpoints, logs and curves go to work_dirs/CONFIG NAME. User errors print one line and exit with status 2.
"""

import errno
import os
import re
import shutil
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict, Tuple, Union

import torch
from mmengine.dist import is_main_process
from torch import nn

from mmcyclemlp.checkpoints import read_checkpoint, starting_weights
from mmcyclemlp.checks import (
    check_data,
    check_pretrained,
    check_resumable,
    checkpoints_in,
    last_checkpoint,
    newest_checkpoint,
)
from mmcyclemlp.checks.common import warn
from mmcyclemlp.config import edits, load_config
from mmcyclemlp.engine import ConsoleRunner
from mmcyclemlp.errors import InputError, RunStopped
from mmcyclemlp.files import claim

from .arguments import add_config, add_run, command, parser_of
from .processes import init_processes, leave_processes

PARSER = parser_of(__doc__)
add_config(PARSER, checkpoint=False)
PARSER.add_argument(
    '--resume',
    nargs='?',
    const='auto',
    metavar='FILE',
    help='resume from FILE, or from the newest whole checkpoint in the work dir',
)
PARSER.add_argument(
    '--amp',
    action='store_true',
    help='mixed precision: float16 on a GPU, bfloat16 on a CPU; on a CPU it is faster only if the '
    'processor has bfloat16 instructions (lscpu: avx512_bf16 or amx_bf16)',
)
PARSER.add_argument(
    '--auto-scale-lr',
    action='store_true',
    help='scale the learning rate by the total batch size divided by auto_scale_lr.base_batch_size of the config',
)
PARSER.add_argument('--seed', type=int, metavar='N', help='random seed (default: that of the config)')
PARSER.add_argument('--deterministic', action='store_true', help='use deterministic operators only (slower)')
add_run(PARSER)


@command(PARSER)
def main(args: Namespace) -> int:
    if args.seed is not None and not 0 <= args.seed < 2**32:
        raise InputError(f'--seed expects a whole number from 0 to 2**32 - 1, got {args.seed}')
    config = load_config(args.config, args.cfg_options)
    init_processes(args.launcher, args.local_rank, args.timeout)
    config = edits.edited(
        config,
        edits.work_dir(args.work_dir, args.config),
        edits.launched(args.launcher, args.timeout),
        edits.randomness(args.seed, args.deterministic),
        args.amp and edits.mixed_precision,
        args.auto_scale_lr and edits.scaled_learning_rate,
    )
    if config.randomness.get('deterministic'):
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # cuBLAS is refused without
    source, checkpoint = config.get('load_from'), None
    if int(os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)) and newest_checkpoint(config.work_dir):
        args.resume = 'auto'  # torchrun has started this anew
    if args.resume:
        source, checkpoint = _resumed(args.resume, config.work_dir)
        check_resumable(config, checkpoint, source)
        seed = checkpoint['meta'].get('seed')
        if args.seed not in (None, seed):
            raise InputError(
                f'--resume goes on with the seed of {source}, {seed}, but got --seed {args.seed}; leave it out'
            )
        config = edits.edited(
            config,
            edits.from_random_weights,
            edits.randomness(seed, args.deterministic),
            {'load_from': str(source), 'resume': True},
        )
    elif held := checkpoints_in(config.work_dir):
        warn(f'{held[0]} is of an earlier run: until this one has saved its first, --resume would go on from it')
    if not args.resume and source and '://' not in source:  # of weights to start from, mmengine knows more addresses
        checkpoint = {'state_dict': starting_weights(read_checkpoint(source), source)}
    check_pretrained(config)
    check_data(config, 'train', 'val', checkpoint=checkpoint if args.resume else None)
    if is_main_process():
        claim(config.work_dir)
    runner = ConsoleRunner.from_cfg(config)
    if is_main_process():
        _check_space(config.work_dir, runner.model)
    if checkpoint is not None:
        runner.give(checkpoint, strict=bool(args.resume))
    try:
        runner.train()
    except RunStopped as stop:
        if is_main_process():
            print(stop, file=sys.stderr)
        leave_processes(128 + stop.number)
        return 128 + stop.number
    except RuntimeError as error:
        lost = re.search('(?i)timed? ?out|connection (closed|reset)', str(error))
        if not torch.distributed.is_initialized() or not lost:
            raise
        raise InputError(
            f'another process did not answer (--timeout {args.timeout:g}), or ended; all are ended; --resume goes on'
        ) from error
    except OSError as error:  # a log, a table; checkpoints say it themselves
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO):
            raise
        raise InputError(
            f'could not write {error.filename or config.work_dir} ({error.strerror}); check the permissions and the '
            'free space, and go on by --resume'
        ) from error
    if is_main_process():
        print(f'Checkpoint: {last_checkpoint(config.work_dir)}')
        if (curves := Path(config.work_dir) / 'curves.csv').is_file():  # not without a validation
            print(f'Curves: {curves} and curves.png')
    leave_processes()
    return 0


def _resumed(given: str, work_dir: str) -> Tuple[Union[str, Path], Dict[str, Any]]:
    """Path or address, and content of the checkpoint to resume from."""
    found = newest_checkpoint(work_dir) if given == 'auto' else (given, read_checkpoint(given))
    if found is None:
        raise InputError(
            f'--resume expects a checkpoint in {work_dir}, but nothing was saved there; start without --resume, or '
            'give --work-dir or --resume FILE'
        )
    return found


def _check_space(work_dir: str, model: nn.Module) -> None:
    """Raise InputError where three checkpoints have no room: weights and two averages of them each, two of which are
    kept while a third is written."""
    needed = 9 * sum(value.numel() * value.element_size() for value in model.state_dict().values())
    free = shutil.disk_usage(work_dir).free
    if free < needed:
        raise InputError(
            f'expected {needed / 1e6:,.0f} MB of free space for three checkpoints, but {work_dir} has '
            f'{free / 1e6:,.0f} MB; make room, or give another by --work-dir'
        )
