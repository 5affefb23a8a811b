"""Tables that put several groups side by side."""
from itertools import zip_longest
from typing import Dict, Iterable, List, Sequence

from .plots import MIB, pixels_of
from .rows import OK, Row, conditions, group_rows, markdown, number


def groups_of(rows: Iterable[Row], suite: str) -> List[List[Row]]:
    """The groups of a suite."""
    return list(group_rows(row for row in rows if row.suite == suite).values())


def by_conditions(groups: Iterable[List[Row]]) -> Dict[str, List[List[Row]]]:
    """Groups by direction, mode, dtype and device, in words."""
    result: Dict[str, List[List[Row]]] = {}
    for rows in groups:
        result.setdefault(f'{rows[0].direction}, {conditions(rows[0])}', []).append(rows)
    return result


def operator_table(groups: Sequence[Sequence[Row]]) -> str:
    """Median ms of each rival, a line a group."""
    rivals = list(dict.fromkeys(row.rival for rows in groups for row in rows))
    body = []
    for rows in groups:
        cells = {row.rival: number(row.median_ms) or _short(row) for row in rows}
        body.append([rows[0].case, rows[0].shape, rows[0].kernel, *(cells.get(rival, '') for rival in rivals)])
    return markdown(['ms', 'B x H x W x C', 'kernel', *rivals], body)


def _short(row: Row) -> str:
    return '' if row.status == OK else row.status.partition(':')[0]


def reasons(groups: Iterable[Sequence[Row]]) -> str:
    """Why rivals have no number, each reason once, as a Markdown list to follow a table."""
    found = dict.fromkeys(f'- `{row.rival}` {row.status}' for rows in groups for row in rows if row.status != OK)
    return '\n\n' + '\n'.join(found) if found else ''


def scaling_table(groups: Iterable[Sequence[Row]]) -> str:
    """Time and memory a pixel, a line a size and rival."""
    body = []
    for row in (row for rows in groups for row in rows):
        pixels = pixels_of(row)
        body.append([
            row.shape, row.rival, number(row.median_ms),
            number(row.median_ms and row.median_ms * 1e6 / pixels),
            number(row.peak_mib and row.peak_mib * MIB / pixels),
            number(row.saved_mib and row.saved_mib * MIB / pixels), _short(row)
        ])
    return markdown(['images', 'rival', 'median ms', 'ns a pixel', 'peak bytes a pixel',
                     'bytes a pixel kept for backward', 'note'], body)


def memory_table(groups: Iterable[Sequence[Row]]) -> str:
    """What one block keeps for its backward pass, in bytes a position and in float32 maps of its input's size."""
    body = []
    for rows in groups:
        first = rows[0].saved_mib
        for row in rows:
            batch, height, width, channels = map(int, row.shape.split('x'))
            positions = batch * height * width
            saved = row.saved_mib and row.saved_mib * MIB
            body.append([
                row.case, row.rival, number(saved and saved / positions),
                number(saved and saved / positions / channels / 4),
                f'{row.saved_mib / first:.2f}' if saved and first else '',
                number(row.peak_mib and row.peak_mib * MIB / positions), _short(row)
            ])
    header = ['block', 'rival', 'bytes a position', 'float32 maps', 'of the first', 'peak bytes a position', 'note']
    return markdown(header, body)


def profile_table(groups: Iterable[Sequence[Row]]) -> str:
    """The operators of each call and their share of its time, a column a network."""
    columns = [[f'{row.rival}: {number(row.median_ms)} ms ({row.median_ms / sum(r.median_ms for r in rows):.0%})'
                for row in rows] for rows in groups]
    names = [rows[0].case for rows in groups]
    return markdown(names, zip_longest(*columns, fillvalue=''))


def training_table(groups: Iterable[Sequence[Row]]) -> str:
    """The share of an iteration outside the model."""
    body = []
    for rows in groups:
        ms = {row.rival: row for row in rows}
        waiting, whole = ms['outside the model'], ms['iteration']
        body.append([whole.case, whole.device, number(whole.median_ms), number(waiting.median_ms),
                     f'{100 * waiting.median_ms / whole.median_ms:.1f} %'])
    return markdown(['run', 'device', 'iteration, ms', 'outside the model, ms', 'share'], body)
