"""A measured number as a row: its CSV file and its Markdown table."""
import csv
import os
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from mmcyclemlp.errors import InputError

OK = 'ok'
WRONG = 'wrong result'


@dataclass
class Row:
    """One rival in one group. A group's rivals took turns in one process, so only its rows make ratios."""
    date: str
    suite: str  # ops, models, scaling, memory, training, profile
    case: str  # what is run, in words
    shape: str  # of the input, such as 8x56x56x64
    kernel: str  # 1x3 or 3x1, for operators
    direction: str  # forward, forward+backward, inference, training step
    mode: str  # eager, compiled, graph
    dtype: str
    device: str
    device_type: str
    threads: int
    rival: str
    batch: int
    samples: int = 0
    median_ms: Optional[float] = None
    q20_ms: Optional[float] = None
    q80_ms: Optional[float] = None
    images_per_s: Optional[float] = None
    peak_mib: Optional[float] = None
    saved_mib: Optional[float] = None
    gflop: Optional[float] = None  # arithmetic of products and convolutions, a multiply-add counted as two
    error: Optional[float] = None  # relative, against float64
    status: str = OK  # or why there is no number
    commit: str = ''
    versions: str = ''

    @property
    def group(self) -> Tuple:
        """What the rows that were measured together have in common."""
        return tuple(getattr(self, name) for name in GROUP)


GROUP = ('suite', 'case', 'shape', 'kernel', 'direction', 'mode', 'dtype', 'device', 'device_type', 'threads')
_OPTIONAL = ('median_ms', 'q20_ms', 'q80_ms', 'images_per_s', 'peak_mib', 'saved_mib', 'gflop', 'error')
_INTEGERS = ('threads', 'batch', 'samples')


def group_rows(rows: Iterable[Row]) -> Dict[Tuple, List[Row]]:
    """Rows by group, in order."""
    groups: Dict[Tuple, List[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return groups


def merge(old: Iterable[Row], new: Iterable[Row]) -> List[Row]:
    """New groups take the place of old ones whole: rows of different runs never stand side by side."""
    groups = group_rows(old)
    groups.update(group_rows(new))
    return [row for group in groups.values() for row in group]


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write rows to a file, which is replaced only once the new one is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with os.fdopen(handle, 'w', newline='') as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator='\n')
            writer.writeheader()
            for row in rows:
                writer.writerow({key: _text(value) for key, value in asdict(row).items()})
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _text(value: object) -> object:
    return f'{value:.5g}' if isinstance(value, float) else value


def read_csv(path: Path) -> List[Row]:
    """Read what :func:`write_csv` wrote."""
    try:
        with open(path, newline='') as file:
            reader = csv.DictReader(file)
            expected = [field.name for field in fields(Row)]
            if reader.fieldnames != expected:
                raise InputError(f'{path} is no table of these benchmarks: its columns are {reader.fieldnames}, '
                                 f'expected {expected}')
            return [_row(record) for record in reader]
    except OSError as error:
        raise InputError(f'cannot read {path}: {error.strerror}; give a CSV that tools/benchmarks wrote') from error


def _row(record: Dict[str, str]) -> Row:
    values: Dict[str, object] = dict(record)
    for name in _OPTIONAL:
        values[name] = float(record[name]) if record[name] else None
    for name in _INTEGERS:
        values[name] = int(record[name])
    return Row(**values)


def markdown(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table; columns of numbers align right."""
    body = list(body)
    rule = ['---:' if all(cell[:1].isdigit() for cell in column if cell) else '---' for column in zip(*body)]
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in [header, rule, *body])


def conditions(row: Row) -> str:
    """Mode, dtype and device, in words."""
    threads = f', {row.threads} thread{"s"[:row.threads > 1]}' if row.device_type == 'cpu' else ''
    return f'{row.mode}, {row.dtype}, {row.device}{threads}'


def group_title(row: Row) -> str:
    """What a group's rows have in common, in words."""
    kernel = f', kernel {row.kernel}' if row.kernel else ''
    return f'{row.case}, {row.shape}{kernel}, {row.direction}, {conditions(row)}'


def group_table(rows: Sequence[Row]) -> str:
    """The rows of one group as a Markdown table; each time also as a multiple of the first rival's."""
    header = ['rival', 'median ms', '20 to 80 % ms', 'of the first', 'images/s', 'GFLOP', 'GFLOP/s', 'peak MiB',
              'saved MiB', 'error', 'note']
    first = rows[0].median_ms
    return markdown(header, [[
        row.rival, number(row.median_ms),
        f'{number(row.q20_ms)} to {number(row.q80_ms)}' if row.median_ms is not None else '',
        f'{row.median_ms / first:.2f}' if row.median_ms and first else '', number(row.images_per_s),
        number(row.gflop), number(row.gflop and row.median_ms and row.gflop / row.median_ms * 1e3),
        number(row.peak_mib), number(row.saved_mib), '' if row.error is None else f'{row.error:.1e}',
        '' if row.status == OK else row.status
    ] for row in rows])


def number(value: Optional[float]) -> str:
    """Three digits, without an exponent."""
    if value is None:
        return ''
    if abs(value) >= 100:
        return f'{value:,.0f}'
    return f'{value:.3g}'
