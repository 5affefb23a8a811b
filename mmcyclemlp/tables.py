"""The one writer of Markdown tables, and the one writer and reader of CSV files."""

import csv
import re
from pathlib import Path
from typing import Any, Dict, Iterable, List, Sequence

from .files import written_whole


def markdown(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table without a line break at its end; columns of numbers are aligned to the right."""
    body = list(body)
    columns = list(zip(*body)) or [()] * len(header)
    rule = [
        '---:' if any(cells) and all(re.match(r'[-+]?\d', cell) for cell in cells if cell) else '---'
        for cells in columns
    ]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in [header, rule, *body])


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Dict[str, Any]]) -> None:
    """Write rows as a whole or not at all; what a row lacks stays empty."""
    with written_whole(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, header, lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> List[Dict[str, str]]:
    """Rows without their empty cells; none if there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline='', encoding='utf-8') as file:
        return [{column: value for column, value in row.items() if value} for row in csv.DictReader(file)]
