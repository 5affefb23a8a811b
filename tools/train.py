#!/usr/bin/env python
"""Train a model of any task as its config says.

    python tools/train.py configs/cyclemlp/digits_b1.py
    python tools/train.py configs/cyclemlp/cifar10_b1.py --cfg-options train_cfg.max_epochs=5
    tools/dist_train.sh configs/cyclemlp/cifar10_b1.py 8

Checkpoints, logs and curves go to work_dirs/CONFIG NAME. What can be mended is told in one line, with exit code 2.
"""
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

# A checkout works without installation, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine.dist import is_main_process

from mmcyclemlp.checkpoints import check_fits
from mmcyclemlp.engine import ConsoleRunner, input_errors
from mmcyclemlp.engine.annotations import check_annotations
from mmcyclemlp.engine.command_line import add_arguments, prepare
from mmcyclemlp.engine.processes import leave_processes
from mmcyclemlp.engine.segmentation import check_masks
from mmcyclemlp.engine.training import (
    check_start,
    last_checkpoint,
    resume,
    scale_learning_rate,
    set_randomness,
    use_amp,
)


def parse_args() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='CONFIG', help='a file under configs/')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='FILE',
                        help='go on from FILE, or from the last checkpoint in the work dir')
    parser.add_argument('--amp', action='store_true',
                        help='mixed precision: float16 on a GPU; bfloat16 on a CPU, which is faster there only if the '
                        'processor multiplies in it (lscpu: avx512_bf16 or amx_bf16)')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help="scale the learning rate by the total batch size over the config's "
                        'auto_scale_lr.base_batch_size')
    parser.add_argument('--seed', type=int, metavar='N', help="seed of all random numbers (default: the config's)")
    parser.add_argument('--deterministic', action='store_true', help='only deterministic operators (slower)')
    add_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    config = prepare(args)
    set_randomness(config, args.seed, args.deterministic)
    if args.amp:
        use_amp(config)
    if args.auto_scale_lr:
        scale_learning_rate(config)
    checkpoint = resume(config, args.resume) if args.resume else None
    if checkpoint is None:
        check_start(config)
    check_annotations(config, 'train', 'val')
    check_masks(config, 'train', 'val')
    runner = ConsoleRunner.from_cfg(config)
    if checkpoint is not None:
        check_fits(runner.model, checkpoint, config.load_from)
    runner.train()
    if is_main_process():
        print(f'Checkpoint: {last_checkpoint(config.work_dir)}')
        print(f'Curves: {Path(config.work_dir) / "curves.csv"} and curves.png')
    leave_processes()


if __name__ == '__main__':
    with input_errors():
        main()
