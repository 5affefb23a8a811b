"""Make docs/results/speed.md, its pictures and its speed.csv from the CSV files of the benchmarks."""
import argparse
import sys
from pathlib import Path
from typing import Callable, List, Optional

from bench import cli
from bench.groups import is_fault
from bench.plots import plot_networks, plot_operators, plot_scaling
from bench.rows import Row, group_table, merge, read_csv, write_csv
from bench.tables import (
    by_conditions,
    groups_of,
    memory_table,
    operator_table,
    profile_table,
    reasons,
    scaling_table,
    training_table,
)
from bench.targets import judge, verdict_table

INTRODUCTION = """# Speed

Made by `tools/benchmarks/report.py` from [`speed.csv`](speed.csv); do not edit it by hand.

The rivals of a group take turns in one process, in shuffled order, after a warm-up; a time is the median of the
samples, with the device's work included, and the CSV holds the quantiles at 20 and 80 % and the number of samples.
Ratios are made within a group only. Before anything is timed, each way to compute CycleMLP is compared with the
definition in float64, on the same input: the output and, where there is a backward pass, each gradient. Each may be
off by at most twice what the definition itself is in the rival's dtype, or by 1e-5 or one rounding to that dtype.
What is off by more gets no number. "error" is the relative error of all of these as one vector.

`b1` and `auto` are what users get; `b1-NAME` and `NAME` force a backend, `deform_conv` being mmcv's deformable
convolution; `b1-original` and `torchvision` call torchvision's as the authors' code does (it has no bfloat16 kernel:
there it computes in float32, as it does under autocast, and with `_fp16` in half precision); `b1-linear` and `linear`
have a linear layer without any shift, the limit; `b1-linear` and `linear-ours` compute it by the library that our own
backends take. The other networks are timm's, untrained, with 1000 classes. A training step is forward, cross entropy,
backward and AdamW. "bf16" converts weights and input, "bf16-amp" is autocast over float32 weights; "graph" times
replays of a CUDA graph.
On a CPU, peak memory is what PyTorch's allocator held at most beyond the start, on CUDA the same from its statistics;
"saved" counts what the forward pass keeps for the backward pass, parameters left out.
"""

TARGETS = """## Targets

Where a target speaks of several cases, the worst decides. "No shift at all" is the ratio that a plain linear layer in
CycleFC's place reaches in that case, computed by the library that ours takes: what is missed there too cannot be
reached by a faster shift.

Two targets are beyond any shift on a CPU. In the last stages (7x7 positions, 512 channels) the product is most of the
deformable convolution's time too, so that even the plain layer is not 15 times faster. And B1 does 15 % more
arithmetic than ResNet-18 (GFLOP), at about the same rate in its products, with the GELUs, norms and sums of a
transformer-like block on top ("Where the time goes"). Against B1 of plain linear layers the shifts themselves cost
their copies (`copy_` and `_ShiftCopy`), which is about what the single product of the first stage and fewer passes
over the maps save; a compiler merges such passes by itself, so that the two are even there.

On a GPU, a call of the Triton kernel from Python costs some 0.1 ms, which the small layers show in eager mode, CUDA
graphs do not, and whole networks at these batches do not either. In graphs the kernel is faster than `shift_gemm`
forwards in all stages but B5's last; forwards and backwards together only in B1's first two, for its backward pass is
the slower one.
B1 is within 3 % of B1 of plain linear layers there, so what keeps it from four and five times the original's speed is
not the shift: with no shift at all it would be as far from it. The run on the H200 ended at its time limit: what is
missing of it below, such as a compiled training step and the profile, has not been measured.

"""

COMMANDS = """## Again

```
pip install -r requirements/benchmarks.txt
python tools/benchmarks/models.py --quick                   # under a minute, to see that all works
python tools/benchmarks/ops.py --threads 2                  # and again with --train
python tools/benchmarks/models.py --threads 2               # and again with --train, --compile, --compile --train,
                                                            # --scaling, --memory, --profile, --profile --compile
python tools/benchmarks/training.py work_dirs/cifar10_b1 --out work_dirs/benchmarks
bash tools/benchmarks/gpu.sh benchmarks-out                 # on a CUDA machine
python tools/benchmarks/report.py work_dirs/benchmarks/speed.csv benchmarks-out/speed.csv
```
"""


def _sections(groups: List[List[Row]], table: Callable[[List[List[Row]]], str]) -> List[str]:
    return [f'### {title}\n\n{table(members)}{reasons(members)}\n' for title, members in by_conditions(groups).items()]


def document(rows: List[Row], folder: Path) -> str:
    """The document; its pictures go to the same folder."""
    parts = [INTRODUCTION]
    verdicts = judge(rows)
    if verdicts:
        parts.append(f'{TARGETS}{verdict_table(verdicts)}\n')
    operators, networks = groups_of(rows, 'ops'), groups_of(rows, 'models')
    if operators:
        parts.append('## One CycleFC layer\n')
        parts += _sections(operators, operator_table)
        if any(row.median_ms for group in operators for row in group):
            plot_operators(operators, folder / 'speed-operators.png')
            parts.append('![time over a linear layer\'s](speed-operators.png)\n')
    if networks:
        parts.append('## Networks\n')
        parts += [f'### {title}, {group[0].shape}\n\n{group_table(group)}\n'
                  for title, groups in by_conditions(networks).items() for group in groups]
        plot_networks(networks, folder / 'speed-networks.png')
        parts.append('![images a second](speed-networks.png)\n')
    scaling = groups_of(rows, 'scaling')
    if scaling:
        plot_scaling(rows, folder / 'speed-scaling.png')
        parts.append('## Growth with the image\n\nAbout the same number of pixels in each batch.\n')
        parts += _sections(scaling, scaling_table)
        parts.append('![time and memory a pixel](speed-scaling.png)\n')
    memory = groups_of(rows, 'memory')
    if memory:
        parts.append('## Memory of one block\n\nA position is one of the stage\'s map; a float32 map has the size of '
                     'the block\'s input.\n')
        parts += _sections(memory, memory_table)
    profiles = groups_of(rows, 'profile')
    if profiles:
        parts.append('## Where the time goes\n\nPyTorch\'s operators and how often a call runs them, the time of what '
                     'they call left out; the sums hold some time of the profiler\'s own.\n')
        parts += _sections(profiles, profile_table)
    training = groups_of(rows, 'training')
    if training:
        parts.append('## Training outside the model\n\nWaiting for batches, and hooks, as mmengine\'s timer sees '
                     f'them; medians of the logged iterations.\n\n{training_table(training)}\n')
    parts.append(COMMANDS)
    parts.append('## Measured with\n\n' + '\n'.join(dict.fromkeys(
        f'- {row.date}, {row.device}, commit {row.commit}: {row.versions}' for row in rows)) + '\n')
    return '\n'.join(parts)


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('csv', nargs='+', type=Path, help='speed.csv files; where groups repeat, the last counts')
    parser.add_argument('--out', type=Path, default=Path('docs/results'), help='folder (default: %(default)s)')
    args = parser.parse_args(argv)
    rows: List[Row] = []
    for path in args.csv:
        rows = merge(rows, read_csv(path))
    write_csv(rows, args.out / 'speed.csv')
    target = args.out / 'speed.md'
    target.write_text(document(rows, args.out), encoding='utf-8')
    print(f'wrote {target}: {len(rows)} rows, {sum(map(is_fault, rows))} wrong or failed')
    return 0


if __name__ == '__main__':
    sys.exit(cli.run(main))
