"""Time classifiers in PyTorch, under torch.compile, in onnxruntime and in OpenVINO, in float32, bfloat16 and int8.

    python tools/benchmarks/runtimes.py --prepare    export and compile into OUT: slow; needed once per commit
    python tools/benchmarks/runtimes.py              time what was prepared; keep the machine idle
    python tools/benchmarks/runtimes.py --profile    in which operators onnxruntime spends B1's time

The forms of a network at one setting take turns, and are written to OUT/export.csv as soon as they are done. What it
contains of this commit is not measured again, so an interrupted run continues.
"""

import json
import os
import sys
from argparse import Namespace
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Dict, Iterator, List, Sequence

import torch
from bench import networks
from bench.measuring import Candidate, Settings, measure
from bench.rows import Row, bf16_reason, commit, group_rows, merge, read_csv, write_csv
from bench.tables import NAMES, conditions_of, markdown, number, share
from bench.tasks import gflop_of, image_task, machine_rates
from torch import Tensor, nn

from mmcyclemlp.cli.arguments import command, parser_of
from mmcyclemlp.errors import InputError
from mmcyclemlp.export import export
from mmcyclemlp.inference.exported import Exported, library

FILES = (('onnxruntime', 'onnx', ('fp32', 'int8')), ('OpenVINO', 'openvino', ('fp32', 'bf16', 'int8')))
CONDITIONS = ((1, 1), (2, 8))  # threads, images
SIDE = 224
PROFILED_CALLS = 10

PARSER = parser_of(__doc__)
WHAT = PARSER.add_mutually_exclusive_group()
WHAT.add_argument('--prepare', action='store_true', help='export and compile only: slow; needed once per commit')
WHAT.add_argument('--profile', action='store_true', help="onnxruntime's profile of B1")
PARSER.add_argument('--quick', action='store_true', help='B1 alone, two rounds, to see that all works')
PARSER.add_argument('--seconds', type=float, default=10.0, help='of samples per group; at least five rounds')
PARSER.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks'), help='folder (default: %(default)s)')


class Loaded(nn.Module):
    """An exported file as a module: images [B, 3, H, W] -> logits [B, classes]."""

    def __init__(self, path: Path):
        super().__init__()
        self.run = Exported(path)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)[0]


def makers() -> networks.Makers:
    """B1, as it is and as the authors compute it, and the networks beside it that take images of any size."""
    ours = networks.network_variants(networks.cyclemlp('b1'), 'b1')
    return {name: ours[name] for name in ('b1', 'b1-original')} | networks.neighbours(any_size=True)


def exported(name: str, model: nn.Module, format: str, precision: str, folder: Path) -> Path:
    """The file of a network, which is written if it is not there."""
    path = folder / f'{name.split()[0]}-{precision}{".xml" if format == "openvino" else ".onnx"}'
    if not path.exists():
        random = torch.Generator().manual_seed(1)
        images = [torch.randn(1, 3, SIDE, SIDE, generator=random) for _ in range(8)] if precision == 'int8' else None
        export(model, path, format, precision, check_parity=False, calibration=images)
    return path


def forms(name: str, model: nn.Module, settings: Settings, batch: int, folder: Path) -> Iterator[Candidate]:
    """The ways to run a network, each checked against it in float64; the error of int8 is told, and has no bound."""
    tasks = {dtype: image_task(replace(settings, dtype=dtype), batch, SIDE, False) for dtype in ('fp32', 'bf16')}
    without = bf16_reason(torch.bfloat16, settings.device)
    if without:
        del tasks['bf16']
    expected = {dtype: task.expected(deepcopy(model)) for dtype, task in tasks.items()}
    for mode in ('eager', 'compiled'):
        for dtype, task in tasks.items():
            yield task.candidate(f'{mode} {dtype}', deepcopy(model), expected[dtype], mode == 'compiled', False, True)
    for runtime, format, precisions in FILES:
        for precision in precisions[:1] if name.endswith('-original') else precisions:  # which is slow to export
            form = f'{runtime} {precision}'
            try:
                if precision == 'bf16' and without:
                    raise InputError(without)
                file = Loaded(exported(name, model, format, precision, folder))
            except InputError as error:
                yield Candidate(form, reason=str(error).replace('|', '/'))
                continue
            right = expected['bf16' if precision == 'bf16' else 'fp32']
            made = tasks['fp32'].candidate(form, file, right, counted=False, may_fail=True)
            if precision == 'int8':
                made.check = lambda check=made.check: (check()[0], True)
            yield made


def measure_forms(name: str, make: networks.Makers, settings: Settings, batch: int, folder: Path) -> List[Row]:
    """The rows of a network's forms, and the machine's rate."""
    task = image_task(settings, batch, SIDE, False)
    gflop = gflop_of(lambda: task.forward(make[name.removesuffix('-original')]().eval()))
    torch.manual_seed(0)  # the weights that its files hold
    candidates = list(forms(name, make[name]().eval(), settings, batch, folder))
    for candidate in candidates:
        candidate.gflop = lambda: gflop
    candidates += machine_rates(torch.float32, settings.device)
    rows = measure(task.row(settings, 'runtimes', name, 'each'), candidates, settings)
    return [replace(row, peak_mib=None) for row in rows]  # other runtimes' memory is not PyTorch's


def table(groups: Sequence[List[Row]]) -> str:
    """ms of each network's forms, and as a share of the machine's float32 rate; a line a network."""
    header = dict.fromkeys(row.candidate for rows in groups for row in rows if row.images_per_s)
    body = []
    for rows in groups:
        cells = {row.candidate: f'{number(row.median_ms)} ({share(row, rows)})' for row in rows if row.median_ms}
        name = rows[0].case
        body.append([NAMES.get(name.split()[0], name), *(cells.get(form, 'none') for form in header)])
    notes = {f'- {rows[0].case}, {r.candidate}: {r.status}' for rows in groups for r in rows if r.status != 'ok'}
    return '\n'.join([conditions_of(groups[0][0]), '', markdown(['', *header], body), '', *sorted(notes)])


def profile(files: Dict[str, Path], batch: int) -> str:
    """ms an image by onnxruntime's own profiler, a line an operator."""
    onnxruntime = library('onnxruntime')
    columns = {}
    for precision, path in files.items():
        options = onnxruntime.SessionOptions()
        options.enable_profiling, options.profile_file_prefix = True, str(path.with_suffix(''))
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
        for _ in range(PROFILED_CALLS):
            session.run(None, dict(images=torch.zeros(batch, 3, SIDE, SIDE).numpy()))
        log = Path(session.end_profiling())
        columns[precision] = Counter()
        for event in json.loads(log.read_text()):
            if event['cat'] == 'Node' and event['name'].endswith('_kernel_time'):
                columns[precision][event['args']['op_name']] += event['dur'] / 1e3 / PROFILED_CALLS / batch
        log.unlink()
    total = sum(columns.values(), Counter())
    lines = [(name, *(f'{each[name]:.2f}' for each in columns.values())) for name, _ in total.most_common()]
    lines.append(('all', *(f'{each.total():.2f}' for each in columns.values())))
    return markdown(['ms an image', *columns], lines)


@command(PARSER)
def main(args: Namespace) -> int:
    folder = args.out / 'exports' / commit()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault('TORCHINDUCTOR_CACHE_DIR', str(args.out.resolve() / 'inductor'))
    torch._inductor.config.freezing = True
    path = args.out / ('export-quick.csv' if args.quick else 'export.csv')
    rows = read_csv(path) if path.exists() else []
    make = makers()
    if args.profile:
        model = make['b1']().eval()
        print(profile({each: exported('b1', model, 'onnx', each, folder) for each in ('fp32', 'int8')}, 1))
        return 0
    for threads, batch in CONDITIONS:
        torch.set_num_threads(threads)
        rounds = 0 if args.prepare else 2 if args.quick else None
        settings = Settings(torch.device('cpu'), 'fp32', threads, args.seconds, rounds)
        for name in ['b1'] if args.quick else make:
            done = any((r.case, r.threads, r.commit) == (name, threads, commit()) for r in rows)
            if done and not args.prepare:
                continue
            new = measure_forms(name, make, settings, batch, folder)
            print(f'{name}, {threads} threads, {batch} images: {", ".join(sorted({row.status for row in new}))}')
            if not args.prepare:
                rows = merge(rows, new)
                write_csv(rows, path)
        groups = [group for group in group_rows(rows).values() if group[0].threads == threads]
        if groups:
            print(f'\n{table(groups)}\n', flush=True)
    return int(any(row.is_fault for row in rows))


if __name__ == '__main__':
    sys.exit(main())
