"""Time CycleMLP-B1 and its layers, computed in several ways, against others; its scaling, memory and profile."""
import sys
from pathlib import Path
from typing import List, Optional, Tuple

import torch
from bench import cli
from bench.environment import bf16_reason
from bench.measuring import DTYPES, Candidate, Settings, check_names, measure, row_of
from bench.networks import (
    DEFINED,
    PLAIN,
    Makers,
    cyclemlp,
    layer_variants,
    neighbours,
    network_variants,
    randomise,
    recast,
    require_timm,
    select,
)
from bench.rows import Row
from bench.tables import conditions, operator_table
from bench.tasks import Task, images, machine_rates
from torch import nn

from mmcyclemlp.models import ARCHS, CycleBlock, CycleFC
from mmcyclemlp.ops.cycle_fc import deform_conv_reason

QUICK = ['b1', 'b1-deform_conv', 'b1-linear', 'resnet18 channels last']
SIDES = (224, 448, 896)
FIXED_SIZE = 'mixer_b16_224'  # its weights mix positions, so they belong to one size
PROFILED_CALLS = 5
# ms of the shift and the library's product by the bandwidth of an H200: bfloat16, 256 images, in a CUDA graph.
EXPECTED_MS = {'forward': (0.11, 0.08, 0.06, 0.025), 'forward+backward': (0.46, 0.34, 0.24, 0.09)}


def stage_shapes(arch: str, height: int, width: int, batch: int) -> List[Tuple[int, int, int, int]]:
    """``[B, H, W, C]`` of the four stages for an image: the stem makes (H + 1) // 4 rows, then halves, rounded up."""
    height, width = (height + 1) // 4, (width + 1) // 4
    shapes = []
    for channels in ARCHS[arch]['embed_dims']:
        shapes.append((batch, height, width, channels))
        height, width = (height + 1) // 2, (width + 1) // 2
    return shapes


def candidates_of(task: Task, ours: Makers, model: nn.Module, others: Optional[Makers] = None,
                  compiled: bool = False) -> List[Candidate]:
    """Candidates at a task; ours are checked against the definition of ``model``, but for those with linear layers."""
    unfit = bf16_reason(task.device) if task.dtype == torch.bfloat16 else None
    expected = None if unfit else task.expected(recast(model, DEFINED))
    limit = task.expected(recast(model, PLAIN)) if isinstance(model, CycleFC) and not unfit else None
    result = []
    for name, make in {**ours, **(others or {})}.items():
        reason = unfit or (deform_conv_reason(task.dtype, task.device) if 'deform_conv' in name else None)
        if reason:
            result.append(Candidate(name, reason=reason))
            continue
        right = None if name not in ours else limit if 'linear' in name else expected
        counted = not any(word in name for word in ('deform_conv', 'original', 'torchvision'))
        result.append(task.candidate(name, make(), right, compiled, counted, name == FIXED_SIZE))
    return result


def base_row(settings: Settings, task: Task, suite: str, case: str, mode: str = 'eager', kernel: str = '') -> Row:
    """What the rows of a task share."""
    words = ('forward', 'forward+backward') if task.labels is None else ('inference', 'training step')
    return row_of(settings, suite, case, task.x.shape, words[task.training], mode,
                  settings.dtype + '-amp' * task.mixed, kernel)


def measure_layer(settings: Settings, case: str, shape: tuple, backward: bool, mode: str,
                  names: Optional[List[str]] = None, kernel: Tuple[int, int] = (1, 3),
                  extra: Optional[Makers] = None) -> List[Row]:
    """The rows of one CycleFC layer on x ``[B, H, W, C]``; a kernel of (3, 1) takes the same time."""
    layer = randomise(CycleFC(shape[3], shape[3], kernel))
    ours = {**layer_variants(layer, settings.device), **(extra or {})}
    check_names(names, ours)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(settings.device)
    task = Task(x, DTYPES[settings.dtype], backward, mixed=False)
    if mode == 'compiled':
        torch._dynamo.reset()  # else the limit on recompilations would end in eager mode after a few shapes
    return measure(base_row(settings, task, 'ops', case, mode, 'x'.join(map(str, kernel))),
                   candidates_of(task, select(ours, names), layer, {}, mode == 'compiled'), settings)


def measure_networks(settings: Settings, batch: int, side: int, training: bool, compiled: bool,
                     names: Optional[List[str]] = None, model: Optional[nn.Module] = None,
                     suite: str = 'models') -> List[Row]:
    """The rows of B1, or of another classifier in its place, beside the others at one size, and the machine's rate."""
    model = cyclemlp('b1') if model is None else model
    ours, others = network_variants(model, 'b1'), neighbours()
    check_names(names, [*ours, *others])
    ours, others = select(ours, names), select(others, names)
    if others:
        require_timm()
    if compiled:
        torch._dynamo.reset()
        torch._dynamo.config.recompile_limit = 64  # the networks share code objects
        torch._inductor.config.freezing = not training
    x, labels = images(batch, side, settings.device)
    task = Task(x, DTYPES[settings.dtype], training, labels)
    candidates = candidates_of(task, ours, model, others, compiled)
    if suite == 'models' and not all(candidate.reason for candidate in candidates):
        candidates += machine_rates(task.dtype, settings.device)
    base = base_row(settings, task, suite, 'network', 'compiled' if compiled else 'eager')
    return measure(base, candidates, settings)


def measure_block(settings: Settings, case: str, shape: tuple, mlp_ratio: float) -> List[Row]:
    """One block on x ``[B, H, W, C]``, forward and backward: what it keeps, and what it takes at its peak."""
    model = randomise(CycleBlock(shape[3], mlp_ratio))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(settings.device)
    task = Task(x, DTYPES[settings.dtype], True)
    return measure(base_row(settings, task, 'memory', case), candidates_of(task, network_variants(model, 'b1'), model),
                   settings)


def profile(settings: Settings, batch: int, training: bool, compiled: bool, name: str, folder: Path) -> None:
    """Print and keep the profiler's own table of a network; on its first line what it is of."""
    makers = {**network_variants(cyclemlp('b1'), 'b1'), **neighbours()}
    check_names([name], makers)
    x, labels = images(batch, 224, settings.device)
    task = Task(x, DTYPES[settings.dtype], training, labels)
    row = base_row(settings, task, 'profile', name, 'compiled' if compiled else 'eager')
    call = task.candidate(name, makers[name](), compiled=compiled).call
    for _ in range(3):
        call()
    activities = [torch.profiler.ProfilerActivity.CPU] + [torch.profiler.ProfilerActivity.CUDA] * x.is_cuda
    with torch.profiler.profile(activities=activities, acc_events=True) as profiler:
        for _ in range(PROFILED_CALLS):
            call()
    table = profiler.key_averages().table(f'self_{"device" if x.is_cuda else "cpu"}_time_total', row_limit=10,
                                          max_name_column_width=40)
    text = f'{name}, {conditions(row)}, {PROFILED_CALLS} calls; {row.device}, commit {row.commit}\n{table}'
    print(f'\n{text}')
    folder.mkdir(parents=True, exist_ok=True)
    words = f'profile {row.device_type} {name} {conditions(row)}'.replace(',', '').replace(' ', '-')
    (folder / f'{words}.txt').write_text(text)


def main(argv: Optional[List[str]] = None) -> int:
    parser = cli.parser(__doc__, seconds=20.)
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--layers', action='store_true', help='one CycleFC of each stage; --train adds its backward pass')
    what.add_argument('--scaling', action='store_true', help='time and memory per pixel, from 224x224 to 896x896')
    what.add_argument('--memory', action='store_true', help='what one block of each stage keeps for its backward pass')
    what.add_argument('--profile', action='store_true', help='in which operators the time goes, of b1 by default')
    args = parser.parse_args(argv)
    cores = torch.get_num_threads()
    threads, batch = [1, cores], [8, 8] if args.train else [1, 8]
    if args.layers or args.scaling or args.memory or args.compile:
        threads, batch = [cores], [1 if args.scaling else 8]
    book, layers = cli.Book(args), []
    mode = 'compiled' if args.compile else 'graph' if args.device == 'cuda' else 'eager'
    for settings, count in cli.conditions(args, threads, batch):

        def add(function, *arguments, show=True) -> List[Row]:
            return book.measure(settings, lambda: function(settings, *arguments), show)  # noqa: B023 (called at once)

        if args.layers:
            layers += [add(measure_layer, f'b1 stage {stage}', shape, backward, mode, args.candidates, show=False)
                       for backward in (False, True)[:1 + args.train]
                       for stage, shape in enumerate(stage_shapes('b1', 224, 224, count), 1)]
        elif args.memory:
            settings.rounds = 0
            for stage, shape in enumerate(stage_shapes('b1', 224, 224, count)):
                add(measure_block, f'b1 block of stage {stage + 1}', shape, ARCHS['b1']['mlp_ratios'][stage])
        elif args.scaling:
            sides = SIDES[:2] if args.quick else SIDES
            for side in sides:  # with the same number of pixels, so that the device is as busy
                add(measure_networks, count * (sides[-1] // side)**2, side, False, False, ['b1', FIXED_SIZE], None,
                    'scaling')
        elif args.profile:
            torch.set_num_threads(settings.threads)
            for name in args.candidates or ['b1']:
                profile(settings, count, args.train, args.compile, name, args.out)
        else:
            names = args.candidates or (QUICK if args.quick else None)
            add(measure_networks, count, 224, args.train, args.compile, names)
    if layers:
        expected = {(f'b1 stage {stage}', direction): ms for direction, values in EXPECTED_MS.items()
                    for stage, ms in enumerate(values, 1)}
        print(f'\n{operator_table(layers, expected if mode == "graph" else {})}')
    return book.close()


if __name__ == '__main__':
    sys.exit(cli.run(main))
