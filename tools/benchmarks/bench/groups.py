"""A group: rivals at one task, first checked, then timed in turns."""
from dataclasses import dataclass, replace
from typing import Callable, Dict, Iterable, List, Optional

import torch

from mmcyclemlp.errors import InputError

from . import environment
from .agreement import Check
from .memory import peak_bytes
from .rows import WRONG, Row
from .timing import Call, clock, interleave

MIB = 2**20
# What a library raises where it cannot run a call: out of memory, no kernel for the dtype, an image of another size.
FAILURES = (RuntimeError, AssertionError, ValueError)


@dataclass
class Rival:
    """One way to do a group's task.

    Args:
        name (str): how tables call it.
        call (Callable): what is timed.
        check (Callable, optional): compares what the call computes with float64; None where nothing agrees with it.
        saved (Callable, optional): bytes kept for the backward pass.
        gflop (Callable, optional): arithmetic of the call, in 10^9 floating point operations.
        reason (str, optional): why it cannot run here; then the rest is left out.
        may_fail (bool): a failure of ``call`` is a finding, not a fault of the run.
    """
    name: str
    call: Optional[Call] = None
    check: Optional[Callable[[], Check]] = None
    saved: Optional[Callable[[], int]] = None
    gflop: Optional[Callable[[], float]] = None
    reason: Optional[str] = None
    may_fail: bool = False


@dataclass
class Settings:
    """How a tool measures."""
    device: torch.device
    dtype: str
    threads: int
    seconds: float
    rounds: Optional[int] = None


def check_names(names: Optional[List[str]], available: Iterable[str]) -> None:
    """Accept a choice of rivals."""
    unknown = sorted(set(names or ()) - set(available))
    if unknown:
        raise InputError(f'--rivals: {unknown} take no part here; choose from {sorted(available)}')


def row_of(settings: Settings, suite: str, case: str, shape: str, direction: str, batch: int, mode: str = 'eager',
           dtype: Optional[str] = None, kernel: str = '') -> Row:
    """What the rows of a group share; the rival is left open."""
    return Row(date=environment.today(), suite=suite, case=case, shape=shape, kernel=kernel, direction=direction,
               mode=mode, dtype=dtype or settings.dtype, device=environment.device_name(settings.device),
               device_type=settings.device.type, threads=settings.threads, rival='', batch=batch,
               commit=environment.commit(), versions=environment.versions())


def measure(base: Row, rivals: List[Rival], settings: Settings) -> List[Row]:
    """Check the rivals, then time those that passed; a row each.

    Args:
        base (Row): what the rows share.
        rivals (list[Rival]): in the order of the table.
        settings (Settings): device and duration.
    """
    time_once = clock(settings.device)
    rows: Dict[str, Row] = {}
    calls: Dict[str, Call] = {}
    for rival in rivals:
        row = rows[rival.name] = replace(base, rival=rival.name)
        if rival.reason is not None:
            row.status = f'skipped: {rival.reason}'
            continue
        try:
            if rival.check is not None:
                result = rival.check()
                row.error = result.error
                if not result.agrees:
                    row.status = WRONG
                    continue
            rival.call()
            if base.mode != 'graph':  # a replay allocates nothing
                row.peak_mib = peak_bytes(rival.call, settings.device) / MIB
            if rival.saved is not None:
                row.saved_mib = rival.saved() / MIB
            if rival.gflop is not None:
                row.gflop = rival.gflop()
        except FAILURES as error:
            kind = 'cannot run' if rival.may_fail else 'failed'
            row.status = f'{kind}: {type(error).__name__}: {_first_line(error)}'
            row.peak_mib = row.saved_mib = None
            continue
        calls[rival.name] = rival.call
    if calls:
        for name, times in interleave(calls, time_once, settings.seconds, settings.rounds).items():
            row = rows[name]
            row.median_ms, row.q20_ms, row.q80_ms, row.samples = times
            row.images_per_s = base.batch / times.median * 1e3
    return list(rows.values())


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    # A vertical bar would end the cell of a table.
    return text.splitlines()[0][:200].replace('|', '/') if text else 'no message'


def is_fault(row: Row) -> bool:
    """Whether a row says that something is broken, as opposed to absent."""
    return row.status == WRONG or row.status.startswith('failed')
