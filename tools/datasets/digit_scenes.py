#!/usr/bin/env python
"""Make a dataset of cluttered scenes of handwritten digits, for detection and segmentation.

    python tools/datasets/digit_scenes.py
    python tools/datasets/digit_scenes.py data/many_scenes --train 5000 --val 500

Nothing is downloaded. What can be mended is told in one line, with exit code 2.
"""
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

# A checkout works without installation, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmcyclemlp.datasets.digit_scenes import write_digit_scenes
from mmcyclemlp.errors import input_errors


def parse_args() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument('root', nargs='?', default='data/digit_scenes', metavar='ROOT',
                        help='folder to make (default: data/digit_scenes)')
    parser.add_argument('--train', type=int, default=2000, metavar='N', help='training scenes (default: 2000)')
    parser.add_argument('--val', type=int, default=100, metavar='M', help='validation scenes (default: 100)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    write_digit_scenes(args.root, args.train, args.val)
    print(f'Wrote {args.train} training and {args.val} validation scenes to {args.root}')


if __name__ == '__main__':
    with input_errors():
        main()
