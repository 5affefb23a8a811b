"""Time CycleMLP-B1 and its layers, computed in several ways, against others; its scaling, memory and profile."""

import argparse
import sys
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

import torch
from bench import networks
from bench.measuring import DTYPES, Candidate, Settings, measure
from bench.rows import Row, bf16_reason, merge, read_csv, write_csv
from bench.tables import conditions_of, group_table, group_title, operator_table
from bench.tasks import Task, image_task, machine_rates, noise_of
from torch import nn
from torch.profiler import ProfilerActivity

from mmcyclemlp.cli.arguments import command, parser_of
from mmcyclemlp.errors import InputError
from mmcyclemlp.models import ARCHS, CycleBlock, CycleFC
from mmcyclemlp.ops.cycle_fc import deform_conv_reason

QUICK = ['b1', 'b1-deform_conv', 'b1-linear', 'resnet18 channels last']
SIDES = (224, 448, 896)
FIXED_SIZE = 'mixer_b16_224'  # its weights mix positions, so they belong to one size
PROFILED_CALLS = 5


def stage_shapes(batch: int) -> List[Tuple[int, int, int, int]]:
    """``[B, H, W, C]`` of B1's stages at 224x224."""
    return [(batch, 56 >> stage, 56 >> stage, channels) for stage, channels in enumerate(ARCHS['b1']['embed_dims'])]


def candidates_of(
    task: Task,
    ours: networks.Makers,
    model: nn.Module,
    others: Optional[networks.Makers] = None,
    compiled: bool = False,
) -> List[Candidate]:
    """Candidates at a task; ours are checked against the definition of ``model``, a linear layer against another."""
    makers, kind = {**ours, **(others or {})}, (task.dtype, task.device)
    reasons = {name: bf16_reason(*kind) or ('deform_conv' in name and deform_conv_reason(*kind)) for name in makers}
    made = {name: make() for name, make in makers.items() if not reasons[name]}
    expected = task.expected(networks.recast(model, networks.DEFINED)) if made else None
    limit = task.expected(networks.recast(model, networks.PLAIN)) if made and isinstance(model, CycleFC) else None
    return [
        Candidate(name, reason=reasons[name])
        if reasons[name]
        else task.candidate(
            name,
            made[name],
            None if name not in ours else limit if 'linear' in name else expected,
            compiled,
            counted=not any(word in name for word in ('deform_conv', 'original', 'torchvision')),
            may_fail=name == FIXED_SIZE,
        )
        for name in makers
    ]


def measure_layer(
    settings: Settings,
    case: str,
    shape: tuple,
    backward: bool,
    mode: str,
    names: Optional[List[str]] = None,
    kernel: Tuple[int, int] = (1, 3),
) -> List[Row]:
    """The rows of one CycleFC layer on x ``[B, H, W, C]``; a kernel of (3, 1) takes the same time."""
    layer = networks.randomise(CycleFC(shape[3], shape[3], kernel))
    (ours,) = networks.choose(names, networks.layer_variants(layer, settings.device))
    task = Task(noise_of(shape, settings.device), DTYPES[settings.dtype], backward, mixed=False)
    return measure(
        task.row(settings, 'ops', case, mode, 'x'.join(map(str, kernel))),
        candidates_of(task, ours, layer, None, mode == 'compiled'),
        settings,
    )


def measure_networks(
    settings: Settings,
    batch: int,
    side: int,
    training: bool,
    mode: str,
    names: Optional[List[str]] = None,
    model: Optional[nn.Module] = None,
    suite: str = 'models',
) -> List[Row]:
    """The rows of B1, or of another classifier in its place, beside the others at one size, and the machine's rate."""
    model = networks.cyclemlp('b1') if model is None else model
    ours, others = networks.choose(names, networks.network_variants(model, 'b1'), networks.neighbours())
    task = image_task(settings, batch, side, training)
    candidates = candidates_of(task, ours, model, others, mode == 'compiled')
    if suite == 'models' and not all(candidate.reason for candidate in candidates):
        candidates += machine_rates(task.dtype, settings.device)
    return measure(task.row(settings, suite, 'network', mode), candidates, settings)


def measure_block(settings: Settings, case: str, shape: tuple, mlp_ratio: float) -> List[Row]:
    """One block on x ``[B, H, W, C]``, forward and backward: what it keeps, and what it takes at its peak."""
    model = networks.randomise(CycleBlock(shape[3], mlp_ratio))
    task = Task(noise_of(shape, settings.device), DTYPES[settings.dtype], True)
    return measure(
        task.row(settings, 'memory', case), candidates_of(task, networks.network_variants(model, 'b1'), model), settings
    )


def profile(settings: Settings, batch: int, training: bool, mode: str, name: str, folder: Path) -> None:
    """Print and keep the profiler's own table of a network; on its first line what it is of."""
    (makers,) = networks.choose(
        [name], {**networks.network_variants(networks.cyclemlp('b1'), 'b1'), **networks.neighbours()}
    )
    task = image_task(settings, batch, 224, training)
    row = task.row(settings, 'profile', name, mode)
    call = task.candidate(name, makers[name](), compiled=mode == 'compiled').call
    for _ in range(3):
        call()
    device = settings.device.type
    with torch.profiler.profile(
        activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA][: 1 + (device == 'cuda')], acc_events=True
    ) as profiler:
        for _ in range(PROFILED_CALLS):
            call()
    table = profiler.key_averages().table(
        'self_cuda_time_total' if device == 'cuda' else 'self_cpu_time_total', row_limit=10, max_name_column_width=40
    )
    text = f'{name}, {conditions_of(row)}, {PROFILED_CALLS} calls; {row.device}, commit {row.commit}\n{table}'
    print(f'\n{text}')
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'profile {device} {name} {conditions_of(row)}.txt'.replace(',', '').replace(' ', '-')).write_text(text)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = parser_of(__doc__)
    add, what = result.add_argument, result.add_mutually_exclusive_group()
    for name, text in (
        ('layers', 'one CycleFC of each stage; --train adds its backward pass'),
        ('scaling', 'as many pixels in larger and larger images'),
        ('memory', 'what one block of each stage keeps for its backward pass'),
        ('profile', 'in which operators the time goes, of b1 by default'),
    ):
        what.add_argument(f'--{name}', action='store_true', help=f'instead of networks: {text}')
    add('--device', default='cpu', choices=('cpu', 'cuda'))
    add('--dtype', default='fp32', choices=DTYPES, help='bf16 on a CPU, and in training, is autocast')
    add('--threads', type=positive, nargs='+', help='on a CPU; several go with --batch in pairs')
    add('--batch', type=positive, nargs='+', help='images at once')
    add(
        '--seconds', type=float, default=20.0, help='of samples per group; a few rounds at least (default: %(default)s)'
    )
    add('--iters', type=positive, help='rounds per group, instead of --seconds')
    add('--compile', action='store_true', help='measure under torch.compile, inference with freezing')
    add('--train', action='store_true', help='a training step (layers: forward and backward, too)')
    add('--candidates', nargs='+', metavar='NAME', help='only these')
    add('--quick', action='store_true', help='few candidates and rounds, to see that all works')
    add(
        '--out',
        type=Path,
        default=Path('work_dirs/benchmarks'),
        help='folder of speed.csv, whose groups are replaced by new ones (default: %(default)s)',
    )
    return result


def positive(text: str) -> int:
    """An integer of at least 1."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected at least 1, got {text}')
    return int(text)


def conditions(args: argparse.Namespace, cores: int) -> List[Tuple[Settings, int]]:
    """Settings and batch of each group: threads and batches in pairs, or one of either with each of the other.

    By default one image on one thread and 8 on all, in training 8 on both; under a compiler, and for layers and blocks,
    8 on all alone; 256 on CUDA.
    """
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise InputError('--device cuda needs a CUDA GPU, but PyTorch sees none here; use --device cpu')
    if args.dtype == 'fp16' and args.device == 'cpu':
        raise InputError('--dtype fp16 is for GPUs; on a CPU use fp32 or bf16')
    threads, batch = [1, cores], [8, 8] if args.train else [1, 8]
    if args.device == 'cuda' or args.layers or args.scaling or args.memory or args.compile:
        threads, batch = [cores], [1 if args.scaling else 256 if args.device == 'cuda' else 8]
    threads, batch = args.threads or threads, args.batch or batch
    if len(threads) != len(batch) and 1 not in (len(threads), len(batch)):
        raise InputError(
            f'--threads has {len(threads)} values and --batch {len(batch)}; give as many of each, or one of either'
        )
    rounds = 0 if args.memory else args.iters or (2 if args.quick else None)
    return [
        (
            Settings(torch.device(args.device), args.dtype, threads[i % len(threads)], args.seconds, rounds),
            batch[i % len(batch)],
        )
        for i in range(max(len(threads), len(batch)))
    ]


@command(parser())
def main(args: argparse.Namespace) -> int:
    path = args.out / ('speed-quick.csv' if args.quick else 'speed.csv')  # a quick run's never replace others
    old, new, groups = read_csv(path) if path.exists() else [], [], []
    mode = 'compiled' if args.compile else 'graph' if args.device == 'cuda' and args.layers else 'eager'
    if args.compile:
        torch._dynamo.config.recompile_limit = 64  # layers and networks share code objects
        torch._inductor.config.freezing = not args.train

    def add(function: Callable[..., Sequence[Row]], *arguments: object) -> None:
        """Measure a group, print it, and keep the file complete, should the run be stopped."""
        groups.append(function(settings, *arguments))
        new.extend(groups[-1])
        print(f'\n{group_title(new[-1])}' + ('' if args.layers else f'\n\n{group_table(groups[-1])}'), flush=True)
        write_csv(merge(old, new), path)

    for settings, count in conditions(args, torch.get_num_threads()):
        torch.set_num_threads(settings.threads)
        for name in (args.candidates or ['b1']) if args.profile else ():
            profile(settings, count, args.train, mode, name, args.out)
        for backward in (False, True)[: 1 + args.train] if args.layers else ():
            for stage, shape in enumerate(stage_shapes(count), 1):
                add(measure_layer, f'b1 stage {stage}', shape, backward, mode, args.candidates)
        for stage, shape in enumerate(stage_shapes(count), 1) if args.memory else ():
            add(measure_block, f'b1 block of stage {stage}', shape, ARCHS['b1']['mlp_ratios'][stage - 1])
        sides = SIDES[:2] if args.quick else SIDES
        for side in sides if args.scaling else ():  # with as many pixels in all, so that the device is as busy
            add(
                measure_networks,
                count * (sides[-1] // side) ** 2,
                side,
                False,
                mode,
                ['b1', FIXED_SIZE],
                None,
                'scaling',
            )
        if not (args.profile or args.layers or args.memory or args.scaling):
            add(measure_networks, count, 224, args.train, mode, args.candidates or (QUICK if args.quick else None))
    if args.layers:
        print(f'\n{operator_table(groups)}')
    if new:
        print(f'\ncommit {new[0].commit}, {new[0].date}; {new[0].versions}\n\nwrote {path}')
    sys.stderr.writelines(f'error: {row.candidate}: {row.status} ({group_title(row)})\n' for row in new if row.is_fault)
    return int(any(row.is_fault for row in new))


if __name__ == '__main__':
    sys.exit(main())
