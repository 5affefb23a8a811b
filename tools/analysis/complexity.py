#!/usr/bin/env python
"""Count the parameters and multiply-adds of models; with --train-step, also run one step at that size.

    python tools/analysis/complexity.py configs/cyclemlp/cifar10_b1.py --shape 224 224
    python tools/analysis/complexity.py configs/cyclemlp/coco_*.py --train-step

Writes a Markdown table and a CSV file, one row per config, for the whole model and for its backbone. GMAC are 1e9
multiply-adds of matrix products and convolutions for one image. They follow the definition of the network: the form in
which CycleMLP's mixer is computed may take fewer. If a config fails, the others continue, and the exit status is 1.
"""

import sys
from argparse import Namespace
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Optional, Sequence, Tuple

# A checkout works without installation, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cost import Cost, measure, quiet
from rich.console import Console

from mmcyclemlp.cli.arguments import command, parser_of
from mmcyclemlp.errors import InputError
from mmcyclemlp.files import make_folder
from mmcyclemlp.tables import markdown, write_csv

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

PARSER = parser_of(__doc__)
PARSER.add_argument('configs', nargs='+', type=Path, metavar='CONFIG', help='configs of any task')
PARSER.add_argument(
    '--shape',
    nargs=2,
    type=int,
    metavar=('H', 'W'),
    help='size of the image (default: 224 224 for classification, 800 1333 for detection, 512 512 for segmentation)',
)
PARSER.add_argument(
    '--train-step', action='store_true', help='also run a training step on two random images, and inference on one'
)
PARSER.add_argument(
    '--out',
    type=Path,
    default=Path('work_dirs/complexity.csv'),
    metavar='FILE',
    help='CSV to write (default: %(default)s)',
)


def cost_of(config: Path, shape: Optional[Tuple[int, int]], train_step: bool) -> Cost:
    """The cost, or why there is none, measured in a separate process, which has its own memory and may be killed."""
    with ProcessPoolExecutor(1, mp_context=get_context('spawn'), initializer=quiet) as pool:
        try:
            return pool.submit(measure, config, shape, train_step).result()
        except BrokenProcessPool:
            return Cost(str(config), status='its process was killed, which a lack of memory does')
        except Exception as error:  # of any kind: the other configs shall have their turn
            return Cost(str(config), status=f'{type(error).__name__}: {error}'.splitlines()[0])


def table(costs: Sequence[Cost], columns: dict) -> str:
    """A table of those that could be measured."""
    return markdown(
        ['config', 'image', *columns],
        [
            [
                Path(cost.config).stem,
                f'{cost.height}x{cost.width}',
                *(f'{getattr(cost, name) / unit:,.{digits}f}' for name, unit, digits in columns.values()),
            ]
            for cost in costs
        ],
    )


@command(PARSER)
def main(args: Namespace) -> int:
    if args.shape and min(args.shape) < 1:
        raise InputError(f'--shape expects height and width in pixels, got {args.shape[0]} {args.shape[1]}')
    make_folder(args.out.parent, '--out')
    console, costs = Console(stderr=True), []
    for number, config in enumerate(args.configs, start=1):
        with console.status(f'{number} of {len(args.configs)}: {config}'):
            costs.append(cost_of(config, args.shape, args.train_step))
        if costs[-1].status != 'ok':
            console.print(f'error: {config}: {costs[-1].status}', style='red', markup=False, soft_wrap=True)
        # At once, should the run be stopped; failed ones with their reason.
        write_csv(args.out, [field.name for field in fields(Cost)], map(asdict, costs))
    measured = [cost for cost in costs if cost.status == 'ok']
    if measured:
        print(table(measured, {**COLUMNS, **(STEP_COLUMNS if args.train_step else {})}))
    print(f'\nwrote {args.out}')
    failed = [cost.config for cost in costs if cost.status != 'ok']
    if failed:
        print(f'error: {len(failed)} of {len(costs)} failed: {", ".join(failed)}', file=sys.stderr)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
