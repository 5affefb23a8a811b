"""What the command lines of the benchmarks share."""
import argparse
import sys
from pathlib import Path
from typing import Callable, List, Sequence, Tuple

import torch

from mmcyclemlp.engine import input_errors
from mmcyclemlp.errors import InputError

from .measuring import DTYPES, Settings
from .rows import Row, merge, read_csv, write_csv
from .tables import group_table, group_title


def parser(description: str, seconds: float) -> argparse.ArgumentParser:
    """Options of every benchmark that measures."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    result.add_argument('--dtype', default='fp32', choices=DTYPES,
                        help='bf16 on a CPU, and training, is autocast; inference on CUDA converts the weights')
    result.add_argument('--threads', type=positive, nargs='+', metavar='N',
                        help='CPU threads, several to measure each with the batch at its place in --batch')
    result.add_argument('--batch', type=positive, nargs='+', metavar='N', help='images at once')
    result.add_argument('--seconds', type=float, default=seconds,
                        help='for the samples of a group; a few rounds at least (default: %(default)s)')
    result.add_argument('--iters', type=positive, help='rounds a group, instead of --seconds')
    result.add_argument('--compile', action='store_true', help='measure under torch.compile, inference with freezing')
    result.add_argument('--train', action='store_true', help='forward and backward (networks: a training step)')
    result.add_argument('--candidates', nargs='+', metavar='NAME', help='only these')
    result.add_argument('--quick', action='store_true', help='few candidates and rounds, to see that all works')
    result.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks'),
                        help='folder of speed.csv, whose groups are replaced by new ones (default: %(default)s)')
    return result


def positive(text: str) -> int:
    """An integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'expected at least 1, got {value}')
    return value


def conditions(args: argparse.Namespace, threads: List[int], batch: List[int]) -> List[Tuple[Settings, int]]:
    """Settings and batch of each group, from the options or else from the defaults; one of either goes with each.

    On CUDA the default is one group of 256 images.
    """
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise InputError('--device cuda needs a CUDA GPU, but PyTorch sees none here; use --device cpu')
    if args.dtype == 'fp16' and args.device == 'cpu':
        raise InputError('--dtype fp16 is for GPUs; on a CPU use fp32 or bf16')
    if args.device == 'cuda':
        threads, batch = threads[-1:], [256]
    threads, batch = args.threads or threads, args.batch or batch
    if len(threads) != len(batch) and 1 not in (len(threads), len(batch)):
        raise InputError(f'--threads {threads} and --batch {batch} are not as many; give as many, or one of either')
    count, rounds = max(len(threads), len(batch)), 2 if args.quick and not args.iters else args.iters
    return [(Settings(torch.device(args.device), args.dtype, t, args.seconds, rounds), b)
            for t, b in zip(threads * (count // len(threads)), batch * (count // len(batch)))]


class Book:
    """Takes groups as they are measured: prints each and keeps the file complete, should the run be stopped."""

    def __init__(self, args: argparse.Namespace):
        # Numbers of a quick run never replace others.
        self.path = args.out / ('speed-quick.csv' if args.quick else 'speed.csv')
        self.old = read_csv(self.path) if self.path.exists() else []
        self.rows: List[Row] = []

    def measure(self, settings: Settings, make: Callable[[], Sequence[Row]], show: bool = True) -> List[Row]:
        """Run ``make`` on the threads of the settings, and take in its rows."""
        torch.set_num_threads(settings.threads)
        rows = list(make())
        self.rows += rows
        print(f'\n{group_title(rows[0])}' + (f'\n\n{group_table(rows)}' if show else ''), flush=True)
        write_csv(merge(self.old, self.rows), self.path)
        return rows

    def close(self) -> int:
        """Print the conditions and the file; 1 if a result was wrong or a candidate failed."""
        if not self.rows:
            return 0
        print(f'\ncommit {self.rows[0].commit}, {self.rows[0].date}; {self.rows[0].versions}\n\nwrote {self.path}')
        for row in self.rows:
            if row.is_fault:
                print(f'error: {row.candidate}: {row.status} ({group_title(row)})', file=sys.stderr)
        return int(any(row.is_fault for row in self.rows))


def run(main: Callable[[], int]) -> int:
    """Run a tool; an error that its user can mend is one sentence and exit code 2."""
    with input_errors():
        return main()
