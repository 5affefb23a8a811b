"""What the command lines of the benchmarks share."""
import argparse
import sys
from pathlib import Path
from typing import Callable, List, Sequence

import torch
from rich.console import Console

from mmcyclemlp.engine import input_errors
from mmcyclemlp.errors import InputError

from .groups import Settings, is_fault
from .rows import Row, group_table, group_title, merge, read_csv, write_csv
from .targets import judge, verdict_table


def parser(description: str, seconds: float) -> argparse.ArgumentParser:
    """Options of every benchmark that measures."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    result.add_argument('--dtype', default='fp32', choices=('fp32', 'bf16', 'fp16'),
                        help='inference converts the weights; training keeps them float32 under autocast')
    result.add_argument('--threads', type=positive, help='CPU threads; default as PyTorch finds them')
    result.add_argument('--batch', type=positive,
                        help='default 8 on a CPU, 256 on CUDA; with --scaling, at the largest size, 1 and 8')
    result.add_argument('--seconds', type=float, default=seconds,
                        help='for the samples of one group of rivals; 5 rounds at least (default: %(default)s)')
    result.add_argument('--iters', type=positive, help='rounds a group, instead of --seconds')
    result.add_argument('--compile', action='store_true', help='measure the rivals under torch.compile')
    result.add_argument('--train', action='store_true',
                        help='measure forward and backward (networks: a training step) instead of inference')
    result.add_argument('--rivals', nargs='+', metavar='NAME', help='only these rivals')
    result.add_argument('--quick', action='store_true', help='few rivals and rounds, to see that all works')
    result.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks'),
                        help='folder of speed.csv, whose groups are replaced by new ones (default: %(default)s)')
    return result


def positive(text: str) -> int:
    """An integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'expected at least 1, got {value}')
    return value


def settings_of(args: argparse.Namespace) -> Settings:
    """Check device and threads, and set the number of threads."""
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise InputError('--device cuda needs a CUDA GPU, but PyTorch sees none here; use --device cpu')
    if args.dtype == 'fp16' and args.device == 'cpu':
        raise InputError('--dtype fp16 is for GPUs; on a CPU use fp32 or bf16')
    if args.threads:
        torch.set_num_threads(args.threads)
    return Settings(torch.device(args.device), args.dtype, torch.get_num_threads(), args.seconds,
                    3 if args.quick and not args.iters else args.iters)


class Book:
    """Takes groups as they are measured: prints each and keeps the file complete, should the run be stopped."""

    def __init__(self, folder: Path, quick: bool):
        # Numbers of a quick run never replace others.
        self.path = folder / ('speed-quick.csv' if quick else 'speed.csv')
        self.old = read_csv(self.path) if self.path.exists() else []
        self.rows: List[Row] = []
        self.console = Console(stderr=True)

    def measure(self, label: str, make: Callable[[], Sequence[Row]]) -> List[Row]:
        """Run ``make`` under a progress line, and take in its rows."""
        with self.console.status(label):
            rows = list(make())
        self.rows += rows
        print(f'\n{group_title(rows[0])}\n\n{group_table(rows)}', flush=True)
        write_csv(merge(self.old, self.rows), self.path)
        return rows

    def close(self) -> int:
        """Print conditions, verdicts and the file; 1 if a result was wrong or a rival failed."""
        first = self.rows[0]
        print(f'\ncommit {first.commit}, {first.date}; {first.versions}')
        verdicts = judge(self.rows)
        if verdicts:
            print(f'\n{verdict_table(verdicts)}')
        elif first.suite in ('ops', 'models'):
            print('\nNo target speaks of these conditions; on a CPU they are for 2 threads, float32 and batch 8, '
                  'on a GPU for bfloat16 and batch 256.')
        print(f'\nwrote {self.path}')
        faults = [row for row in self.rows if is_fault(row)]
        for row in faults:
            print(f'error: {row.rival}: {row.status} ({group_title(row)})', file=sys.stderr)
        return 1 if faults else 0


def run(main: Callable[[], int]) -> int:
    """Run a tool; an error that its user can mend is one sentence and exit code 2."""
    with input_errors():
        return main()
