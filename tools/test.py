#!/usr/bin/env python
"""Test a checkpoint of any task as its config says, and print the metrics.

    python tools/test.py configs/cyclemlp/digits_b1.py work_dirs/digits_b1/epoch_15.pth
    tools/dist_test.sh configs/cyclemlp/cifar10_b1.py work_dirs/cifar10_b1/epoch_100.pth 8

What can be mended is told in one line, with exit code 2.
"""
import json
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from numbers import Real
from pathlib import Path

# A checkout works without installation, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine.dist import is_main_process

from mmcyclemlp.checkpoints import check_fits, read_checkpoint
from mmcyclemlp.engine import ConsoleRunner, input_errors
from mmcyclemlp.engine.annotations import check_annotations
from mmcyclemlp.engine.command_line import add_arguments, prepare
from mmcyclemlp.engine.processes import leave_processes
from mmcyclemlp.engine.segmentation import check_masks
from mmcyclemlp.errors import InputError


def parse_args() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='CONFIG', help='a file under configs/')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='a file that tools/train.py saved')
    parser.add_argument('--out', type=Path, metavar='FILE', help='write the metrics to FILE as json')
    add_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.out and not args.out.absolute().parent.is_dir():
        raise InputError(f'--out expects a file in an existing folder, but {args.out.parent} is none; create it first')
    config = prepare(args, default_folder='test')
    if not config.get('test_dataloader'):
        raise InputError(f'expected a config with a test_dataloader, but {args.config} has none; add one')
    checkpoint = read_checkpoint(args.checkpoint)
    config.load_from, config.resume = args.checkpoint, False
    check_annotations(config, 'test')
    check_masks(config, 'test')
    runner = ConsoleRunner.from_cfg(config)
    check_fits(runner.model, checkpoint, args.checkpoint)
    metrics = {name: float(value) for name, value in runner.test().items() if isinstance(value, Real)}
    if is_main_process():
        for name, value in metrics.items():
            print(f'{name}: {value:.4f}')
        if args.out:
            args.out.write_text(json.dumps(metrics, indent=2) + '\n')
    leave_processes()


if __name__ == '__main__':
    with input_errors():
        main()
