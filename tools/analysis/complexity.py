#!/usr/bin/env python
"""Count a model's parameters and multiplications; with --train-step, also run one step at that size.

    python tools/analysis/complexity.py configs/cyclemlp/cifar10_b1.py --shape 224 224
    python tools/analysis/complexity.py configs/cyclemlp/coco_*.py --train-step

One row a config, for the whole model and its backbone alone: a Markdown table, and a CSV file. GMAC are 1e9
multiplications of matrix products and convolutions for one image, by the definition of the network: the form in
which CycleMLP's mixer is computed may take fewer. A config that fails does not stop the others; then the exit code
is 1.
"""
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from csv import DictWriter
from dataclasses import asdict, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Optional, Sequence, Tuple

# A checkout works without installation, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from measuring import Cost, measure, quiet
from rich.console import Console

from mmcyclemlp.engine import input_errors
from mmcyclemlp.errors import InputError
from mmcyclemlp.files import written_whole

# Column -> (its values, what a value is in the file for one in the table, digits).
COLUMNS = {
    'parameters, M': ('parameters', 1e6, 2),
    'GMAC': ('macs', 1e9, 2),
    'backbone: parameters, M': ('backbone_parameters', 1e6, 2),
    'backbone: GMAC': ('backbone_macs', 1e9, 2),
}
STEP_COLUMNS = {
    'loss': ('loss', 1, 2),
    'training step, s': ('train_s', 1, 1),
    'inference, s': ('inference_s', 1, 1),
    'peak memory, GiB': ('peak_bytes', 2**30, 2),
}


def parse_args() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', type=Path, metavar='CONFIG', help='of any task')
    parser.add_argument('--shape', nargs=2, type=int, metavar=('H', 'W'),
                        help='of the image (default: 224 224 for classification, 800 1333 for detection, 512 512 for '
                        'segmentation)')
    parser.add_argument('--train-step', action='store_true',
                        help='also take a training step on two made images and run inference on one')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/complexity.csv'), metavar='FILE',
                        help='CSV to write (default: %(default)s)')
    return parser.parse_args()


def cost_of(config: Path, shape: Optional[Tuple[int, int]], train_step: bool) -> Cost:
    """The cost, or why there is none, measured in a process of its own: for its memory, and should it be killed."""
    with ProcessPoolExecutor(1, mp_context=get_context('spawn'), initializer=quiet) as pool:
        try:
            return pool.submit(measure, config, shape, train_step).result()
        except BrokenProcessPool:
            return Cost(str(config), status='its process was killed, which a lack of memory does')
        except Exception as error:  # of any kind: the other configs shall have their turn
            return Cost(str(config), status=f'{type(error).__name__}: {error}'.splitlines()[0])


def markdown(costs: Sequence[Cost], columns: dict) -> str:
    """A table of those that could be measured."""
    rows = [['config', 'image', *columns], ['---', '---', *('---:' for _ in columns)]]
    for cost in costs:
        cells = [f'{getattr(cost, name) / unit:,.{digits}f}' for name, unit, digits in columns.values()]
        rows.append([Path(cost.config).stem, f'{cost.height}x{cost.width}', *cells])
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def write_csv(costs: Sequence[Cost], path: Path) -> None:
    """All costs, failed ones with their reason, as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = DictWriter(file, [field.name for field in fields(Cost)], lineterminator='\n')
        writer.writeheader()
        writer.writerows(asdict(cost) for cost in costs)


def main() -> int:
    args = parse_args()
    if args.shape and min(args.shape) < 1:
        raise InputError(f'--shape expects height and width in pixels, got {args.shape[0]} {args.shape[1]}')
    console, costs = Console(stderr=True), []
    for number, config in enumerate(args.configs, start=1):
        with console.status(f'{number} of {len(args.configs)}: {config}'):
            costs.append(cost_of(config, args.shape, args.train_step))
        if costs[-1].status != 'ok':
            console.print(f'error: {config}: {costs[-1].status}', style='red', markup=False, soft_wrap=True)
        write_csv(costs, args.out)  # at once, should the run be stopped
    measured = [cost for cost in costs if cost.status == 'ok']
    if measured:
        print(markdown(measured, {**COLUMNS, **(STEP_COLUMNS if args.train_step else {})}))
    print(f'\nwrote {args.out}')
    failed = [cost.config for cost in costs if cost.status != 'ok']
    if failed:
        print(f'error: {len(failed)} of {len(costs)} failed: {", ".join(failed)}', file=sys.stderr)
    return 1 if failed else 0


if __name__ == '__main__':
    with input_errors():
        sys.exit(main())
