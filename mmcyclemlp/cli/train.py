"""Train a model of any task with a config.

    mmcyclemlp train configs/cyclemlp/digits_b1.py
    python tools/train.py configs/cyclemlp/cifar10_b1.py --cfg-options train_cfg.max_epochs=5
    tools/dist_train.sh configs/cyclemlp/cifar10_b1.py 8

Checkpoints, logs and curves go to work_dirs/CONFIG NAME. User errors print one line and exit with status 2.
"""

import os
from argparse import Namespace
from pathlib import Path

from mmengine.dist import is_main_process

from mmcyclemlp.checkpoints import read_checkpoint
from mmcyclemlp.checks import check_data, check_pretrained, check_resumable, last_checkpoint
from mmcyclemlp.config import edits, load_config
from mmcyclemlp.engine import ConsoleRunner
from mmcyclemlp.errors import InputError

from .arguments import add_config, add_run, command, parser_of
from .processes import init_processes, leave_processes

PARSER = parser_of(__doc__)
add_config(PARSER, checkpoint=False)
PARSER.add_argument(
    '--resume',
    nargs='?',
    const='auto',
    metavar='FILE',
    help='resume from FILE, or from the last checkpoint in the work dir',
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
def main(args: Namespace) -> None:
    if args.deterministic:
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # cuBLAS is refused without
    config = load_config(args.config, args.cfg_options)
    init_processes(args.launcher, args.local_rank)
    config = edits.edited(
        config,
        edits.work_dir(args.work_dir, args.config),
        edits.launched(args.launcher),
        edits.randomness(args.seed, args.deterministic),
        args.amp and edits.mixed_precision,
        args.auto_scale_lr and edits.scaled_learning_rate,
    )
    if args.resume:
        path = last_checkpoint(config.work_dir) if args.resume == 'auto' else args.resume
        if path is None:
            raise InputError(
                f'--resume expects a checkpoint in {config.work_dir}, but nothing was saved there; start '
                'without --resume, or give --work-dir or --resume FILE'
            )
        config = edits.edited(config, edits.from_random_weights, {'load_from': str(path), 'resume': True})
    source, checkpoint = config.get('load_from'), None
    if args.resume or (source and '://' not in source):  # of weights to start from, mmengine knows more addresses
        checkpoint = read_checkpoint(source)
    if args.resume:
        check_resumable(config, checkpoint, source)
    check_pretrained(config)
    check_data(config, 'train', 'val')
    runner = ConsoleRunner.from_cfg(config)
    if checkpoint is not None:
        runner.give(checkpoint, strict=bool(args.resume))
    runner.train()
    if is_main_process():
        print(f'Checkpoint: {last_checkpoint(config.work_dir)}')
        print(f'Curves: {Path(config.work_dir) / "curves.csv"} and curves.png')
    leave_processes()
