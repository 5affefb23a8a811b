"""Time CycleFC against deformable convolutions and a plain linear layer, at the sizes of B1 and B5."""
import sys
from typing import Dict, List, Optional

import torch
from bench import cli
from bench.groups import Settings, check_names, measure, row_of
from bench.operators import DTYPES, KERNELS, Operator, operator_rivals, stage_shapes
from bench.rows import Row


def cases(batch: int, large_batch: int, quick: bool) -> Dict[str, tuple]:
    """What is run, in words -> shape of x."""
    result = {f'b1 stage {i}': shape for i, shape in enumerate(stage_shapes('b1', 224, 224, batch), 1)}
    if not quick:
        result.update({f'b5 stage {i}': shape for i, shape in enumerate(stage_shapes('b5', 224, 224, batch), 1)})
        result.update({f'b1 at 800x1344, stage {i}': shape
                       for i, shape in enumerate(stage_shapes('b1', 800, 1344, large_batch), 1)})
    return result


def measure_operator(settings: Settings, case: str, shape: tuple, kernel: tuple, backward: bool, mode: str,
                     names: Optional[List[str]] = None, extra: Optional[Dict[str, Operator]] = None) -> List[Row]:
    """The rows of one group of operators."""
    if mode == 'compiled':
        torch._dynamo.reset()  # else the limit on recompilations would end in eager mode after a few shapes
    rivals = operator_rivals(shape, kernel, DTYPES[settings.dtype], settings.device, backward, mode, extra)
    check_names(names, [rival.name for rival in rivals])
    rivals = [rival for rival in rivals if names is None or rival.name in names]
    base = row_of(settings, 'ops', case, 'x'.join(map(str, shape)), 'forward+backward' if backward else 'forward',
                  shape[0], mode, kernel='x'.join(map(str, kernel)))
    return measure(base, rivals, settings)


def main(argv: Optional[List[str]] = None) -> int:
    args = cli.parser(__doc__, seconds=2.).parse_args(argv)
    settings = cli.settings_of(args)
    cuda = settings.device.type == 'cuda'
    batch = args.batch or (256 if cuda else 8)
    modes = ['compiled'] if args.compile else ['eager', 'graph'] if cuda else ['eager']
    book = cli.Book(args.out, args.quick)
    for case, shape in cases(batch, max(1, batch // 32) if cuda else 1, args.quick).items():
        for kernel in KERNELS[:1] if args.quick else KERNELS:
            for mode in modes:
                book.measure(f'{case}, {mode}', lambda: measure_operator(  # noqa: B023 (called at once)
                    settings, case, shape, kernel, args.train, mode, args.rivals))  # noqa: B023
    return book.close()


if __name__ == '__main__':
    sys.exit(cli.run(main))
