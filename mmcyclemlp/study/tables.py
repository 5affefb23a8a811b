"""The results of a study as tables."""

from operator import attrgetter
from pathlib import Path
from statistics import mean, stdev
from typing import Dict, Iterable, List, Sequence

from mmcyclemlp.tables import markdown, write_csv

from .results import Result

# Column of runs.csv -> what of a result.
COLUMNS = {
    'run': 'run.name',
    'seed': 'run.seed',
    'state': 'state',
    'epochs': 'epochs',
    'best test accuracy': 'best',
    'epoch of best': 'best_epoch',
    'last test accuracy': 'last',
    'images/s': 'images_per_second',
    'share of time waiting for data': 'data_share',
    'hours': 'hours',
    'parameters': 'parameters',
    'multiply-adds': 'operations',
}
# Column of the table on the page -> what of a result, its factor and digits.
SHOWN = {
    'epochs': ('epochs', 1, 0),
    'best test accuracy, %': ('best', 100, 2),
    'at epoch': ('best_epoch', 1, 0),
    'last, %': ('last', 100, 2),
    'images/s': ('images_per_second', 1, 0),
    'waiting for data, %': ('data_share', 100, 1),
    'hours': ('hours', 1, 2),
    'parameters, M': ('parameters', 1e-6, 2),
    'GMAC': ('operations', 1e-9, 3),
}
COMPARED = ('train loss', 'test loss', 'train accuracy', 'test accuracy')


def by_name(results: Iterable[Result]) -> Dict[str, List[Result]]:
    """The seeds of each run together."""
    groups: Dict[str, List[Result]] = {}
    for result in results:
        groups.setdefault(result.run.name, []).append(result)
    return groups


def write_runs(path: Path, results: Sequence[Result]) -> None:
    """A CSV with a line for each run and seed; accuracies and shares are fractions."""
    rows = [{column: attrgetter(name)(result) for column, name in COLUMNS.items()} for result in results]
    write_csv(path, list(COLUMNS), rows)


def results_table(results: Sequence[Result]) -> str:
    """A line for each run; several seeds as mean ± standard deviation."""
    body = []
    for name, group in by_name(results).items():
        complete = [result for result in group if result.state == 'finished']
        shown = complete or group
        note = '' if len(complete) == len(group) else f' ({", ".join(sorted({result.state for result in group}))})'
        body.append([name + note, str(len(shown)), *(_spread(shown, *column) for column in SHOWN.values())])
    return markdown(['run', 'seeds', *SHOWN], body)


def _spread(results: Sequence[Result], name: str, factor: float, digits: int) -> str:
    values = [factor * value for value in map(attrgetter(name), results) if value is not None]
    if not values:
        return ''
    deviation = f' ± {stdev(values):.{max(digits, 1)}f}' if len(set(values)) > 1 else ''
    return f'{mean(values):.{digits}f}{deviation}'
