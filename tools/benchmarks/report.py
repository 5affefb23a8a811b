"""Bring docs/results/speed.md and its speed.csv up to date from what the benchmarks measured.

Tables and pictures come between the page's marker comments; all else on it is written by hand and stays.
"""

import re
import sys
from argparse import Namespace
from pathlib import Path
from typing import Dict, List, Sequence

import matplotlib
from bench.rows import Row, group_rows, read_csv, write_csv
from bench.tables import conditions_of, group_table, number, operator_table, plain

from mmcyclemlp.cli.arguments import command, parser_of
from mmcyclemlp.errors import InputError
from mmcyclemlp.files import written_whole

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

TITLES = {'cpu': 'on a CPU', 'cuda': 'on a GPU'}
PARSER = parser_of(__doc__)
PARSER.add_argument('csv', nargs='+', type=Path, help='speed.csv files, each of one run; profile-*.txt lie beside')
PARSER.add_argument('--out', type=Path, default=Path('docs/results'), help='folder (default: %(default)s)')
BLOCK = '<!-- made by tools/benchmarks/report.py: {} -->\n{}<!-- end of what is made -->'
MARKED = re.compile(BLOCK.format(r'([\w-]+)', '.*?'), re.DOTALL)


def sections(rows: List[Row], profiles: List[Path], folder: Path) -> Dict[str, str]:
    """The blocks of the page by name; pictures go to the folder."""
    result = {}
    for device_type, where in TITLES.items():
        of_device = [row for row in rows if row.device_type == device_type]
        ops, models, scaling, memory = (
            list(group_rows(row for row in of_device if row.suite == suite).values())
            for suite in ('ops', 'models', 'scaling', 'memory')
        )
        ops = [group for group in ops if group[0].case.startswith('b1 stage') and group[0].kernel == '1x3']
        eager = [group for group in models if group[0].mode == 'eager' and any(row.median_ms for row in group)]
        picture = f'speed-{device_type}.png'
        if eager:
            plot_networks(eager[:2], folder / picture)
        new = max(row.date for row in rows) in {row.date for row in of_device}
        for name, title, parts in (
            (
                'networks',
                'Networks',
                [f'![time per image of each network]({picture})'] * bool(eager)
                + [f'### {conditions_of(g[0])}\n\n{group_table(g)}' for g in models if not skipped(g)]
                + [
                    f'Not measured: {"; ".join(conditions_of(g[0]) for g in models if skipped(g) == reason)}.\n{reason}'
                    for reason in dict.fromkeys(map(skipped, models))
                    if reason
                ],
            ),
            (
                'layer',
                'One CycleFC layer',
                [
                    f'### {mode}\n\n{operator_table(groups)}'
                    for mode in ('eager', 'graph')
                    if (groups := [group for group in ops if group[0].mode == mode])
                ],
            ),
            ('scaling', 'Growth with the image', [f'### {g[0].shape}\n\n{group_table(g)}' for g in scaling]),
            ('memory', 'Memory of one block', [f'### {g[0].case}, {g[0].shape}\n\n{group_table(g)}' for g in memory]),
            (
                'profile',
                'Where the time goes',
                [
                    f'```\n{path.read_text().strip()}\n```'
                    for path in profiles
                    if path.name.startswith(f'profile-{device_type}')
                ],
            ),
        ):
            if parts:
                when = 'commit' if new else 'not measured since commit'
                note = f'{of_device[0].device}, {when} {", ".join(sorted({row.commit for row in of_device}))}.'
                result[f'{name}-{device_type}'] = '\n\n'.join([f'## {title} {where}', note, *parts])
    result['versions'] = '\n'.join(
        [
            '## Measured with',
            '',
            *dict.fromkeys(f'- {row.date}, {row.device}, commit {row.commit}: {row.versions}' for row in rows),
        ]
    )
    return result


def skipped(rows: Sequence[Row]) -> str:
    """Why nothing of a group was measured, if all of it was skipped for one reason; else nothing."""
    status, *others = {row.status for row in rows}
    return '' if others or not status.startswith('skipped: ') else f'S{status[1:]}.'


def plot_networks(groups: Sequence[Sequence[Row]], path: Path) -> None:
    """Time per image of each network, the fastest on top, a panel a group."""
    groups = [sorted((row for row in rows if row.images_per_s), key=lambda row: -row.median_ms) for rows in groups]
    figure, axes = plt.subplots(
        1,
        len(groups),
        figsize=(4.8 * len(groups), 0.8 + 0.24 * max(map(len, groups))),
        squeeze=False,
        layout='constrained',
    )
    for axis, rows in zip(axes[0], groups):
        ms = [row.median_ms / row.batch for row in rows]
        colours = [
            {'b1': 'tab:red'}.get(row.candidate, 'tab:orange' if row.candidate[:2] == 'b1' else 'tab:blue')
            for row in rows
        ]
        bars = axis.barh([plain(row).strip('*') for row in rows], ms, color=colours)
        axis.bar_label(bars, map(number, ms), padding=3, fontsize=8)
        axis.set_title(f'ms per image: {conditions_of(rows[0])}', fontsize=8, loc='right')
        axis.margins(x=0.15, y=0.01)
        axis.tick_params(labelsize=8)
        axis.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=110, metadata={'Software': None})
    plt.close(figure)


def page(old: str, made: Dict[str, str]) -> str:
    """The page with its blocks made anew. New ones come last; one that is not made now stays as it is."""
    made = {name: BLOCK.format(name, text + '\n\n') for name, text in made.items()}
    text = MARKED.sub(lambda match: made.pop(match[1], match[0]), old)
    return '\n\n'.join([text.rstrip(), *made.values()]) + '\n'


@command(PARSER)
def main(args: Namespace) -> None:
    target, table = args.out / 'speed.md', args.out / 'speed.csv'
    old = target.read_text(encoding='utf-8') if target.exists() else '# Speed'
    if target.exists() and not MARKED.search(old):
        raise InputError(f'{target} has no marker comments; remove it, or put in {BLOCK.format("networks-cpu", "")!r}')
    rows = read_csv(table) if table.exists() else []
    for path in args.csv:
        new = read_csv(path)
        # A run takes the place of all that was measured on such a device before.
        rows = [row for row in rows if row.device_type not in {row.device_type for row in new}] + new
    profiles = sorted(found for path in args.csv for found in path.parent.glob('profile-*.txt'))
    write_csv(rows, table)
    with written_whole(target) as temporary:
        temporary.write_text(page(old, sections(rows, profiles, args.out)), encoding='utf-8')
    print(f'wrote {target}: {len(rows)} rows, {sum(row.is_fault for row in rows)} wrong or failed')


if __name__ == '__main__':
    sys.exit(main())
