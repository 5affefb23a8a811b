"""Time CycleMLP-B1, its layers computed in several ways, against its neighbours; its scaling; a block's memory."""
import sys
from dataclasses import replace
from typing import List, Optional

import torch
from bench import cli
from bench.groups import Rival, Settings, check_names, measure, row_of
from bench.networks import (
    Makers,
    backend_reason,
    cyclemlp,
    defined,
    neighbours,
    randomise,
    require_timm,
    select,
    variants,
)
from bench.operators import DTYPES, stage_shapes
from bench.plots import plot_scaling
from bench.profile import RUNS, operators_ms
from bench.rows import Row
from bench.tables import groups_of, memory_table, profile_table, scaling_table
from bench.tasks import Task, images
from torch import nn

from mmcyclemlp.models import ARCHS, CycleBlock
from mmcyclemlp.ops import BACKENDS

QUICK = ['b1', 'b1-deform_conv', 'b1-linear', 'resnet18']
SIDES = (224, 448, 672, 896, 1120, 1344)
QUICK_SIDES = (224, 448)
PROFILED = ('b1', 'b1-linear', 'resnet18')
FIXED_SIZE = 'mixer_b16_224'  # its weights mix positions, so they belong to one size


def rivals_of(task: Task, ours: Makers, reference: nn.Module, others: Makers, compiled: bool) -> List[Rival]:
    """Rivals at a task; ours are checked against the reference form, but for the one with linear layers."""
    expected = task.expected(reference)
    result = []
    for name, make in {**ours, **others}.items():
        backend = name.partition('-')[2]
        reason = backend_reason(backend, task.dtype, task.x.device) if backend in BACKENDS else None
        if reason is not None:
            result.append(Rival(name, reason=reason))
            continue
        same = name in ours and backend != 'linear'
        # Of a training step PyTorch's counter is wrong where convolutions have groups.
        counted = not task.training and backend not in ('deform_conv', 'original', 'triton')
        result.append(task.rival(name, make(), expected if same else None, compiled, counted=counted))
    return result


def label(settings: Settings, training: bool) -> str:
    """The dtype as tables call it: training in a reduced one is mixed precision."""
    return f'{settings.dtype}-amp' if training and settings.dtype != 'fp32' else settings.dtype


def measure_networks(settings: Settings, batch: int, side: int, training: bool, compiled: bool,
                     names: Optional[List[str]] = None, model: Optional[nn.Module] = None) -> List[Row]:
    """The rows of B1, or of another classifier in its place, and its rivals at one size."""
    dtype = DTYPES[settings.dtype]
    model = cyclemlp('b1') if model is None else model
    ours, others = variants(model, 'b1', dtype, settings.device), neighbours()
    check_names(names, [*ours, *others])
    ours, others = select(ours, names), select(others, names)
    if others:
        require_timm()
    if compiled:
        torch._dynamo.reset()
        torch._dynamo.config.recompile_limit = 64  # the networks share code objects
    x, labels = images(batch, side, side, settings.device)
    task = Task(x, dtype, training, labels)
    base = row_of(settings, 'models', 'network', f'{batch}x3x{side}x{side}',
                  'training step' if training else 'inference', batch, 'compiled' if compiled else 'eager',
                  label(settings, training))
    return measure(base, rivals_of(task, ours, defined(model), others, compiled), settings)


def measure_profile(settings: Settings, batch: int, training: bool, compiled: bool, name: str) -> List[Row]:
    """Where the time of B1, or of a neighbour, goes; a row an operator."""
    dtype = DTYPES[settings.dtype]
    makers = {**variants(cyclemlp('b1'), 'b1', dtype, settings.device), **neighbours()}
    check_names([name], makers)
    x, labels = images(batch, 224, 224, settings.device)
    task = Task(x, dtype, training, labels)
    rival = task.rival(name, makers[name](), None, compiled)
    base = row_of(settings, 'profile', name, f'{batch}x3x224x224', 'training step' if training else 'inference', batch,
                  'compiled' if compiled else 'eager', label(settings, training))
    return [replace(base, rival=f'{operator} x {calls}', median_ms=ms, samples=RUNS)
            for operator, ms, calls in operators_ms(rival.call)]


def measure_scaling(settings: Settings, batch: int, side: int, model: Optional[nn.Module] = None) -> List[Row]:
    """Inference at one size beside MLP-Mixer, with what a training step would keep for the backward pass."""
    require_timm()
    dtype = DTYPES[settings.dtype]
    model = cyclemlp('b1') if model is None else model
    make = variants(model, 'b1', dtype, settings.device)['b1']
    x, labels = images(batch, side, side, settings.device)
    inference, training = (Task(x, dtype, trains, labels) for trains in (False, True))
    rival = inference.rival('b1', make(), inference.expected(defined(model)), compiled=False)
    rival.saved = training.rival('b1', make(), None, compiled=False).saved
    mixer = inference.rival(FIXED_SIZE, neighbours()[FIXED_SIZE](), None, compiled=False, may_fail=True)
    base = row_of(settings, 'scaling', 'network', f'{batch}x3x{side}x{side}', 'inference', batch)
    return measure(base, [rival, mixer], settings)


def measure_block(settings: Settings, case: str, shape: tuple, mlp_ratio: float, compiled: bool = False) -> List[Row]:
    """One block on x ``[B, H, W, C]``, forward and backward: what it keeps, and what it takes at its peak."""
    dtype = DTYPES[settings.dtype]
    model = randomise(CycleBlock(shape[3], mlp_ratio))
    random = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=random).to(settings.device).requires_grad_()
    base = row_of(settings, 'memory', case, 'x'.join(map(str, shape)), 'forward+backward', shape[0],
                  'compiled' if compiled else 'eager', label(settings, True))
    makers = variants(model, 'b1', dtype, settings.device)
    return measure(base, rivals_of(Task(x, dtype, True), makers, defined(model), {}, compiled), settings)


def main(argv: Optional[List[str]] = None) -> int:
    parser = cli.parser(__doc__, seconds=20.)
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--scaling', action='store_true', help='time and memory a pixel, from 224x224 to 1344x1344')
    what.add_argument('--memory', action='store_true', help='what one block of each stage keeps for its backward pass')
    what.add_argument('--profile', action='store_true', help='in which operators B1 and ResNet-18 spend their time')
    args = parser.parse_args(argv)
    settings = cli.settings_of(args)
    cuda = settings.device.type == 'cuda'
    book = cli.Book(args.out, args.quick)
    batch = args.batch or (256 if cuda else 8)
    if args.scaling:
        for side in QUICK_SIDES if args.quick else SIDES:
            # The same number of pixels at every size, so that the device is as busy.
            largest = (QUICK_SIDES if args.quick else SIDES)[-1]
            count = max(1, (args.batch or (8 if cuda else 1)) * largest**2 // side**2)
            book.measure(f'{side}x{side}', lambda: measure_scaling(settings, count, side))  # noqa: B023
        plot_scaling(book.rows, args.out / 'scaling.png')
        print(f'\n{scaling_table(groups_of(book.rows, "scaling"))}\n\nwrote {args.out / "scaling.png"}')
    elif args.profile:
        for name in args.rivals or PROFILED:
            book.measure(name, lambda: measure_profile(settings, batch, args.train, args.compile, name))  # noqa: B023
        print(f'\n{profile_table(groups_of(book.rows, "profile"))}')
    elif args.memory:
        for stage, shape in enumerate(stage_shapes('b1', 224, 224, batch)):
            ratio = ARCHS['b1']['mlp_ratios'][stage]
            case = f'b1 block of stage {stage + 1}'
            book.measure(case, lambda: measure_block(settings, case, shape, ratio, args.compile))  # noqa: B023
        print(f'\n{memory_table(groups_of(book.rows, "memory"))}')
    else:
        names = args.rivals or (QUICK if args.quick else None)
        book.measure('networks', lambda: measure_networks(settings, batch, 224, args.train, args.compile, names))
    return book.close()


if __name__ == '__main__':
    sys.exit(cli.run(main))
