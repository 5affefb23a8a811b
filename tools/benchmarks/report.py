"""Bring docs/results/speed.md and its speed.csv up to date from what the benchmarks measured.

Tables and pictures come between the page's marker comments; all else on it is written by hand and stays.
"""
import argparse
import re
import sys
from pathlib import Path
from typing import Dict, List, Optional

from bench import cli
from bench.plots import plot_networks
from bench.rows import Row, group_rows, read_csv, write_csv
from bench.tables import by_conditions, group_table, operator_table, position_table

from mmcyclemlp.errors import InputError
from mmcyclemlp.files import written_whole

TITLES = {'cpu': 'on a CPU', 'cuda': 'on a GPU'}
BLOCK = '<!-- made by tools/benchmarks/report.py: {} -->\n{}<!-- end of what is made -->'
MARKED = re.compile(BLOCK.format(r'([\w-]+)', '.*?'), re.DOTALL)


def sections(rows: List[Row], profiles: List[Path], folder: Path) -> Dict[str, str]:
    """The blocks of the page by name; pictures go to the folder."""
    newest = max((row.date for row in rows), default='')
    result = {}
    for device_type, where in TITLES.items():
        of_device = [row for row in rows if row.device_type == device_type]
        if not of_device:
            continue
        commits = sorted({row.commit for row in of_device})
        when = 'commit' if newest in {row.date for row in of_device} else 'not measured since commit'
        note = f'{of_device[0].device}, {when} {", ".join(commits)}.'

        def add(name: str, title: str, parts: List[str]) -> None:
            if parts:
                result[f'{name}-{device_type}'] = '\n\n'.join([f'## {title} {where}', note, *parts])  # noqa: B023

        suite = {name: list(group_rows(row for row in of_device if row.suite == name).values())
                 for name in ('models', 'ops', 'scaling', 'memory')}
        parts = [f'### {title}\n\n{group_table(group)}' for title, groups in by_conditions(suite['models']).items()
                 for group in groups]
        eager = [group for group in suite['models'] if group[0].mode == 'eager' and any(row.median_ms for row in group)]
        if eager:
            plot_networks(eager[:2], folder / f'speed-{device_type}.png')
            parts.insert(0, f'![time per image of each network](speed-{device_type}.png)')
        add('networks', 'Networks', parts)
        stages = [group for group in suite['ops'] if group[0].case.startswith('b1 stage') and group[0].kernel == '1x3']
        add('operator', 'One CycleFC layer', [f'### {mode}\n\n' + operator_table(
            [group for group in stages if group[0].mode == mode])
            for mode in dict.fromkeys(group[0].mode for group in stages)])
        for name, title in (('scaling', 'Growth with the image'), ('memory', 'Memory of one block')):
            add(name, title, [position_table(suite[name])] if suite[name] else [])
        add('profile', 'Where the time goes', [f'```\n{path.read_text().strip()}\n```' for path in profiles
                                               if path.name.startswith(f'profile-{device_type}')])
    result['versions'] = '\n'.join(['## Measured with', '', *dict.fromkeys(
        f'- {row.date}, {row.device}, commit {row.commit}: {row.versions}' for row in rows)])
    return result


def page(old: str, made: Dict[str, str]) -> str:
    """The page with its blocks made anew. New ones come last; one that is not made now stays as it is."""
    made = {name: BLOCK.format(name, text + '\n\n') for name, text in made.items()}
    text = MARKED.sub(lambda match: made.pop(match[1], match[0]), old)
    return '\n\n'.join([text.rstrip(), *made.values()]) + '\n'


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('csv', nargs='+', type=Path, help='speed.csv files, each of one run; profile-*.txt lie beside')
    parser.add_argument('--out', type=Path, default=Path('docs/results'), help='folder (default: %(default)s)')
    args = parser.parse_args(argv)
    target, table = args.out / 'speed.md', args.out / 'speed.csv'
    old = target.read_text(encoding='utf-8') if target.exists() else '# Speed'
    if target.exists() and not MARKED.search(old):
        raise InputError(f'{target} has no marker comments, so that nothing on it can be made anew; remove it, or put '
                         f'in {BLOCK.format("networks-cpu", "")!r}')
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
    return 0


if __name__ == '__main__':
    sys.exit(cli.run(main))
