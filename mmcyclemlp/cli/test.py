"""Test a checkpoint of any task with its config, and print the metrics.

    mmcyclemlp test configs/cyclemlp/digits_b1.py work_dirs/digits_b1/epoch_15.pth
    tools/dist_test.sh configs/cyclemlp/cifar10_b1.py work_dirs/cifar10_b1/epoch_100.pth 8

User errors print one line and exit with status 2.
"""

from argparse import Namespace
from numbers import Real
from pathlib import Path

from mmengine.dist import is_main_process

from mmcyclemlp.checkpoints import read_checkpoint
from mmcyclemlp.checks import check_data
from mmcyclemlp.config import load_config
from mmcyclemlp.config.edits import edited, launched, work_dir
from mmcyclemlp.engine import ConsoleRunner
from mmcyclemlp.errors import InputError
from mmcyclemlp.files import make_folder, write_json

from .arguments import add_config, add_run, command, parser_of
from .processes import init_processes, leave_processes

PARSER = parser_of(__doc__)
add_config(PARSER)
PARSER.add_argument('--out', type=Path, metavar='FILE', help='write the metrics to FILE as JSON')
add_run(PARSER)


@command(PARSER)
def main(args: Namespace) -> None:
    if args.out and (args.out.is_dir() or not args.out.absolute().parent.is_dir()):
        raise InputError(
            f'--out expects a file in an existing folder, but '
            f'{f"{args.out} is a folder" if args.out.is_dir() else f"{args.out.parent} is no folder; create it first"}'
        )
    config = load_config(args.config, args.cfg_options)
    init_processes(args.launcher, args.local_rank, args.timeout)
    config = edited(
        config,
        work_dir(args.work_dir, args.config, 'test'),
        launched(args.launcher, args.timeout),
        {'load_from': args.checkpoint, 'resume': False},
    )
    if not config.get('test_dataloader'):
        raise InputError(f'expected a config with a test_dataloader, but {args.config} has none; add one')
    checkpoint = read_checkpoint(args.checkpoint)
    check_data(config, 'test', checkpoint=checkpoint)
    make_folder(config.work_dir, '--work-dir')
    runner = ConsoleRunner.from_cfg(config)
    runner.give(checkpoint)
    # Tensors and arrays, such as a confusion matrix, as lists.
    found = {name: getattr(value, 'tolist', lambda value=value: value)() for name, value in runner.test().items()}
    metrics = {name: value for name, value in found.items() if isinstance(value, (Real, list))}
    if is_main_process():
        for name, value in metrics.items():
            if isinstance(value, Real):
                print(f'{name}: {value:.4f}')
        if args.out:
            write_json(args.out, metrics)
    leave_processes()
