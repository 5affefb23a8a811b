"""A measured number as a row, where and with what it was measured, and the CSV file of rows."""

import csv
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

import torch

from mmcyclemlp import tables
from mmcyclemlp.errors import InputError

CPUINFO = Path('/proc/cpuinfo')
DISTRIBUTIONS = ('mmcyclemlp', 'torch', 'torchvision', 'triton', 'onedl-mmengine', 'onedl-mmcv', 'timm')
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
    cells = (asdict(row).items() for row in rows)
    rounded = [{key: f'{value:.5g}' if isinstance(value, float) else value for key, value in row} for row in cells]
    tables.write_csv(path, list(COLUMNS), rounded)


def read_csv(path: Path) -> List[Row]:
    """Read what :func:`write_csv` wrote."""
    read = {int: int, str: str, Optional[float]: lambda text: float(text) if text else None}
    try:
        with open(path, newline='') as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != [*COLUMNS]:
                raise InputError(
                    f'{path} is no table of these benchmarks: expected {[*COLUMNS]}, got {reader.fieldnames}'
                )
            return [Row(**{name: read[kind](record[name]) for name, kind in COLUMNS.items()}) for record in reader]
    except OSError as error:
        raise InputError(f'cannot read {path}: {error.strerror}; give a CSV that tools/benchmarks wrote') from error


def device_name(device: torch.device) -> str:
    """The model of a processor and its number of cores; no name of a machine."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    model = next(
        (line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')),
        platform.processor() or platform.machine(),
    )
    return f'{model}, {os.cpu_count()} cores'


def bf16_reason(dtype: torch.dtype, device: torch.device) -> Optional[str]:
    """Why a dtype, if it is bfloat16, is not worth a measurement on a device, or None."""
    if (
        dtype == torch.bfloat16
        and device.type == 'cpu'
        and CPUINFO.exists()
        and not {'avx512_bf16', 'amx_bf16'} & {*CPUINFO.read_text().split()}
    ):
        return 'this processor has no products in bfloat16 (neither avx512_bf16 nor amx_bf16 in /proc/cpuinfo)'
    return None


def versions() -> str:
    """Versions of what the numbers depend on, in one line."""
    installed = {found.name: found.version for found in metadata.distributions()}
    found = [f'python {platform.python_version()}', *(f'{n} {installed[n]}' for n in DISTRIBUTIONS if n in installed)]
    return '; '.join(found + [f'CUDA {torch.version.cuda}'] * torch.cuda.is_available())


def commit() -> str:
    """The commit measured, with ``+`` where files differ from it; outside a checkout, ``$MMCYCLEMLP_COMMIT``."""
    if os.environ.get('MMCYCLEMLP_COMMIT'):
        return os.environ['MMCYCLEMLP_COMMIT']
    try:
        head, changed = (
            subprocess.check_output(
                ['git', *line.split()], cwd=Path(__file__).parent, text=True, stderr=subprocess.DEVNULL
            ).strip()
            for line in ('rev-parse --short=12 HEAD', 'status --porcelain -- :/mmcyclemlp :/tools/benchmarks')
        )
        return head + '+' * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
