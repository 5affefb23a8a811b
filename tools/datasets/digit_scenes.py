#!/usr/bin/env python
"""Make a dataset of cluttered scenes of handwritten digits, for detection and segmentation.

    python tools/datasets/digit_scenes.py
    python tools/datasets/digit_scenes.py data/many_scenes --train 5000 --val 500

Downloads nothing. User errors print one line and exit with status 2.
"""

import sys
from argparse import Namespace
from pathlib import Path

# A checkout works without installation, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmcyclemlp.cli.arguments import command, parser_of
from mmcyclemlp.datasets.digit_scenes import write_digit_scenes

PARSER = parser_of(__doc__)
PARSER.add_argument(
    'root', nargs='?', default='data/digit_scenes', metavar='ROOT', help='folder to make (default: data/digit_scenes)'
)
PARSER.add_argument('--train', type=int, default=2000, metavar='N', help='training scenes (default: 2000)')
PARSER.add_argument('--val', type=int, default=100, metavar='M', help='validation scenes (default: 100)')


@command(PARSER)
def main(args: Namespace) -> None:
    write_digit_scenes(args.root, args.train, args.val)
    print(f'Wrote {args.train} training and {args.val} validation scenes to {args.root}')


if __name__ == '__main__':
    sys.exit(main())
