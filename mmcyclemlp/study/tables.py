"""The results of a study as tables."""

from pathlib import Path
from statistics import mean, stdev
from typing import Callable, Dict, Iterable, List, Optional, Sequence

from mmcyclemlp.tables import markdown, write_csv

from .record import Row
from .results import Result

COLUMNS = (
    'run',
    'seed',
    'state',
    'epochs',
    'best test accuracy',
    'epoch of best',
    'last test accuracy',
    'images/s',
    'share of time waiting for data',
    'hours',
    'parameters',
    'multiply-adds',
)
HEADER = (
    'run',
    'seeds',
    'epochs',
    'best test accuracy, %',
    'at epoch',
    'last, %',
    'images/s',
    'waiting for data, %',
    'hours',
    'parameters, M',
    'GMAC',
)


def by_name(results: Iterable[Result]) -> Dict[str, List[Result]]:
    """The seeds of each run together."""
    groups: Dict[str, List[Result]] = {}
    for result in results:
        groups.setdefault(result.run.name, []).append(result)
    return groups


def write_runs(path: Path, results: Sequence[Result]) -> None:
    """A CSV with a line for each run and seed; accuracies and shares are fractions."""
    write_csv(
        path,
        COLUMNS,
        [
            dict(
                zip(
                    COLUMNS,
                    (
                        result.run.name,
                        result.run.seed,
                        result.state,
                        result.epochs,
                        result.best,
                        result.best_epoch,
                        result.last,
                        _round(result.images_per_second, 1),
                        _round(result.data_share, 4),
                        round(result.hours, 4),
                        result.parameters,
                        result.operations,
                    ),
                )
            )
            for result in results
        ],
    )


def results_table(results: Sequence[Result]) -> str:
    """A line for each run; several seeds as mean ± standard deviation."""
    body = []
    for name, group in by_name(results).items():
        complete = [result for result in group if result.state == 'finished']
        shown = complete or group
        note = '' if len(complete) == len(group) else f' ({", ".join(sorted({result.state for result in group}))})'
        body.append(
            [
                name + note,
                str(len(shown)),
                _spread(shown, lambda result: result.epochs, 0),
                _spread(shown, lambda result: result.best, 2, 100),
                _spread(shown, lambda result: result.best_epoch, 0),
                _spread(shown, lambda result: result.last, 2, 100),
                _spread(shown, lambda result: result.images_per_second, 0),
                _spread(shown, lambda result: result.data_share, 1, 100),
                _spread(shown, lambda result: result.hours, 2),
                f'{shown[0].parameters / 1e6:.2f}',
                f'{shown[0].operations / 1e9:.3f}',
            ]
        )
    return markdown(HEADER, body)


def comparison(ours: Sequence[Row], seed: Sequence[Row]) -> str:
    """Our curve and that of the study, epoch by epoch, and their mean absolute differences.

    Args:
        ours (Sequence[dict]): rows with ``epoch`` and the four columns of curves.csv.
        seed (Sequence[dict]): the same.
    """
    theirs = {int(row['epoch']): row for row in seed}
    pairs = [(row, theirs[int(row['epoch'])]) for row in ours if int(row['epoch']) in theirs]
    body = [
        [
            f'{int(row["epoch"])}',
            *(f'{each[name]:.3f}' for name in ('train loss', 'test loss') for each in (row, other)),
            *(f'{100 * each[name]:.2f}' for name in ('train accuracy', 'test accuracy') for each in (row, other)),
            f'{100 * (row["test accuracy"] - other["test accuracy"]):+.2f}',
        ]
        for row, other in pairs
    ]
    header = [
        'epoch',
        *(
            f'{name}, {whose}'
            for name in ('train loss', 'test loss', 'train accuracy, %', 'test accuracy, %')
            for whose in ('ours', 'seed')
        ),
        'difference, points',
    ]
    differences = (
        {
            name: 100 * mean(abs(row[name] - other[name]) for row, other in pairs)
            for name in ('train accuracy', 'test accuracy')
        }
        if pairs
        else {}
    )
    summary = '; '.join(f'{name}: {value:.2f} points' for name, value in differences.items())
    return f'{markdown(header, body)}\n\nMean absolute difference over {len(pairs)} epochs: {summary or "none"}.'


def _spread(
    results: Sequence[Result], value: Callable[[Result], Optional[float]], digits: int, factor: float = 1
) -> str:
    values = [factor * value(result) for result in results if value(result) is not None]
    if not values:
        return ''
    deviation = f' ± {stdev(values):.{max(digits, 1)}f}' if len(set(values)) > 1 else ''
    return f'{mean(values):.{digits}f}{deviation}'


def _round(value: Optional[float], digits: int) -> Optional[float]:
    return None if value is None else round(value, digits)
