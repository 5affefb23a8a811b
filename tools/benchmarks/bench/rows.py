"""A measured number as a row, and the CSV file of rows."""
import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from mmcyclemlp.errors import InputError
from mmcyclemlp.files import written_whole

OK = 'ok'
WRONG = 'wrong result'


@dataclass
class Row:
    """One candidate in one group. A group's candidates took turns in one process, so only its rows make ratios."""
    date: str
    suite: str  # ops, models, scaling, memory
    case: str  # what is run, in words
    shape: str  # of the input, such as 8x56x56x64
    kernel: str  # such as 1x3, for layers
    direction: str  # forward, forward+backward, inference, training step
    mode: str  # eager, compiled, graph
    dtype: str
    device: str
    device_type: str
    threads: int
    candidate: str
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
    def is_fault(self) -> bool:
        """Whether it says that something is broken, as opposed to absent."""
        return self.status == WRONG or self.status.startswith('failed')


COLUMNS = {field.name: field.type for field in fields(Row)}
GROUP = ('suite', 'case', 'shape', 'kernel', 'direction', 'mode', 'dtype', 'device', 'device_type', 'threads')


def group_rows(rows: Iterable[Row]) -> Dict[Tuple, List[Row]]:
    """Rows by what those that were measured together have in common, in order."""
    groups: Dict[Tuple, List[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(getattr(row, name) for name in GROUP), []).append(row)
    return groups


def merge(old: Iterable[Row], new: Iterable[Row]) -> List[Row]:
    """New groups take the place of old ones whole: rows of different runs never stand side by side."""
    return [row for group in {**group_rows(old), **group_rows(new)}.values() for row in group]


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write rows to a file, which is replaced only once the new one is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary, open(temporary, 'w', newline='') as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator='\n')
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f'{value:.5g}' if isinstance(value, float) else value
                             for key, value in asdict(row).items()})


def read_csv(path: Path) -> List[Row]:
    """Read what :func:`write_csv` wrote."""
    read = {int: int, str: str, Optional[float]: lambda text: float(text) if text else None}
    try:
        with open(path, newline='') as file:
            reader = csv.DictReader(file)
            found = ['candidate' if name == 'rival' else name for name in reader.fieldnames or ()]  # its former name
            if found != [*COLUMNS]:
                raise InputError(f'{path} is no table of these benchmarks: its columns are {found}, expected '
                                 f'{[*COLUMNS]}')
            reader.fieldnames = found
            return [Row(**{name: read[kind](record[name]) for name, kind in COLUMNS.items()}) for record in reader]
    except OSError as error:
        raise InputError(f'cannot read {path}: {error.strerror}; give a CSV that tools/benchmarks wrote') from error
