"""Print which share of a training's time was not spent in the model, from the log of an mmengine Runner.

An example is CIFAR-10's images of 32x32, which are so quickly learned from that loading them may take as long.
"""
import argparse
import json
import sys
from pathlib import Path
from typing import List, Optional, Tuple

import torch
from bench import cli
from bench.groups import Settings, row_of
from bench.rows import Row, merge, read_csv, write_csv
from bench.tables import groups_of, training_table
from bench.timing import summary

from mmcyclemlp.errors import InputError


def find_log(path: Path) -> Path:
    """A ``scalars.json``, or the newest one in a work_dir."""
    if path.is_dir():
        logs = sorted(path.glob('**/vis_data/scalars.json'))
        if not logs:
            raise InputError(f'{path} holds no vis_data/scalars.json; give the work_dir of a training, or the file')
        return logs[-1]
    if not path.exists():
        raise InputError(f'{path} does not exist; give the work_dir of a training, or its vis_data/scalars.json')
    return path


def read_times(path: Path) -> List[Tuple[float, float]]:
    """``(time, data_time)`` in seconds of each logged training iteration but the first, in which workers start.

    ``data_time`` is what mmengine's timer sees between two iterations: waiting for a batch, and hooks.
    """
    times = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f'{path}, line {number}, is not JSON ({error}); expected the scalars.json of a '
                             'Runner') from error
        if {'lr', 'time', 'data_time'} <= record.keys():  # validation has no learning rate
            times.append((record['time'], record['data_time']))
    if len(times) < 2:
        raise InputError(f'{path} holds {len(times)} training records with time and data_time, and at least 2 are '
                         'needed; train longer, or log more often (default_hooks.logger.interval)')
    return times[1:]


def rows_of(times: List[Tuple[float, float]], name: str, settings: Settings) -> List[Row]:
    """Two rows: the iteration, and what of it was not the model."""
    rows = []
    for rival, values in zip(('iteration', 'outside the model'), zip(*times)):
        row = row_of(settings, 'training', name, '', 'training step', 0)
        row.rival = rival
        row.median_ms, row.q20_ms, row.q80_ms, row.samples = summary([1e3 * value for value in values])
        rows.append(row)
    return rows


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('log', type=Path, help='work_dir of a training, or its vis_data/scalars.json')
    parser.add_argument('--name', help='what was trained, for the table; default the name of the work_dir')
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'), help='which of this machine')
    parser.add_argument('--dtype', default='fp32', help='precision of the training, for the table')
    parser.add_argument('--out', type=Path, help='folder of speed.csv to add the row to')
    args = parser.parse_args(argv)
    path = find_log(args.log)
    name = args.name or (path.resolve().parents[2].name if path.parent.name == 'vis_data' else path.stem)
    settings = Settings(torch.device(args.device), args.dtype, torch.get_num_threads(), 0.)
    rows = rows_of(read_times(path), name, settings)
    print(training_table(groups_of(rows, 'training')))
    if args.out:
        table = args.out / 'speed.csv'
        write_csv(merge(read_csv(table) if table.exists() else [], rows), table)
        print(f'wrote {table}')
    return 0


if __name__ == '__main__':
    sys.exit(cli.run(main))
