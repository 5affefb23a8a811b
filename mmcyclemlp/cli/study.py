"""Run a study: several training runs, one after the other, their results in one table and one picture.

    mmcyclemlp study --list
    python tools/study.py cifar10-quick
    python tools/study.py cifar10-seed --work-dir /elsewhere/cifar10-seed --device cuda

A study is a file of configs/studies. Finished runs are kept: after an interruption, the same command continues. Each
call, interrupted or not, ends with tables and pictures of all results so far. User errors print one line and exit with
status 2. A run that fails is reported, the others continue, and the exit status is 1.
"""

import os
import re
import signal
import sys
from argparse import Namespace
from difflib import get_close_matches
from pathlib import Path
from typing import Dict

import torch

from mmcyclemlp.errors import InputError
from mmcyclemlp.files import PROJECT
from mmcyclemlp.study import load_study, run_study, write_report
from mmcyclemlp.study.plan import read_plan

from .arguments import command, parser_of

STUDIES = PROJECT / 'configs' / 'studies'

PARSER = parser_of(__doc__)
PARSER.add_argument('name', metavar='NAME', nargs='?', help='a study of configs/studies, or a .yml file')
PARSER.add_argument('--list', action='store_true', help='list the studies')
PARSER.add_argument(
    '--work-dir', type=Path, metavar='DIR', help='where runs and results go (default: work_dirs/studies/NAME)'
)
PARSER.add_argument('--device', metavar='DEVICE', help='cpu, cuda or cuda:N (default: a GPU if there is one)')


def find(name: str) -> Path:
    """The file of a study."""
    if name.endswith('.yml'):
        if not Path(name).is_file():
            raise InputError(f'expected a study, but {name} does not exist; check the path')
        return Path(name)
    names = [path.stem for path in STUDIES.glob('*.yml')]
    if name not in names:
        near = get_close_matches(name, names, 1, 0.4)
        hint = f'did you mean {near[0]}?' if near else 'tools/study.py --list shows them'
        raise InputError(f'there is no study {name} in {STUDIES}; {hint}')
    return STUDIES / f'{name}.yml'


def environment(device: str) -> Dict[str, str]:
    """Environment of the training processes, which take the first GPU that they see."""
    if device is None:
        return dict(os.environ)
    if not re.fullmatch(r'cpu|cuda(:\d+)?', device):
        raise InputError(f'--device expects cpu, cuda or cuda:N, but got {device}')
    if device == 'cpu':
        return {**os.environ, 'CUDA_VISIBLE_DEVICES': ''}
    index, count = int(device.partition(':')[2] or 0), torch.cuda.device_count()
    if index >= count:
        raise InputError(
            f'--device {device} expects {index + 1} or more GPUs, but PyTorch sees {count}; use --device cpu'
        )
    visible = os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',')
    return {**os.environ, 'CUDA_VISIBLE_DEVICES': visible[index] if visible[0] else str(index)}


@command(PARSER)
def main(args: Namespace) -> int:
    if not args.list and args.name is None:
        PARSER.error('NAME of a study is needed; --list shows them')
    if args.list:
        for path in sorted(STUDIES.glob('*.yml')):
            print(f'{path.stem:16} {read_plan(path)["title"]}')
        return 0
    env = environment(args.device)
    study = load_study(find(args.name))
    work_dir = args.work_dir or Path('work_dirs', 'studies', study.name)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the training process is ended as well
    print(f'{study.name}: {study.title}', flush=True)
    failed, stopped = [], False
    try:
        failed = run_study(study, work_dir, PROJECT / 'tools' / 'train.py', env, lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        stopped = True
    print(f'\n{write_report(study, work_dir, PROJECT / "docs" / "results" / "seed")}\n')
    print(f'Results: {work_dir / "report.md"}, runs.csv and pictures')
    if stopped:
        print('stopped; the same command continues', file=sys.stderr)
        return 130
    for run in failed:
        print(f'error: {run.title} failed', file=sys.stderr)
    return 1 if failed else 0
