"""Writes the results of a study: tables, pictures and a page with all of them."""

from pathlib import Path
from typing import Dict, List

from mmcyclemlp.files import written_whole

from .plan import Study
from .plots import plot_curves
from .record import Row, read_curves
from .results import Result, collect
from .tables import results_table, write_runs


def write_report(study: Study, work_dir: Path, published: Path) -> str:
    """Write ``runs.csv``, ``DATASET.png`` and ``report.md`` to the work dir.

    Args:
        study (Study): its plan.
        work_dir (Path): where its runs are, finished or not.
        published (Path): folder of ``DATASET_cyclemlp_b1.csv``, the curves of the published study; they may be missing.

    Returns:
        str: the table of results.
    """
    results = collect(study, work_dir)
    table = results_table(results)
    page = [f'# {study.name}', study.title, table]
    datasets: Dict[str, List[Result]] = {}
    for result in results:
        datasets.setdefault(result.run.dataset, []).append(result)
    for dataset, members in datasets.items():
        theirs = read_published(published / f'{dataset}_cyclemlp_b1.csv')
        plot_curves(work_dir / f'{dataset}.png', f'{study.name}: {dataset}', members, theirs)
        page.append(f'![loss and accuracy on {dataset}]({dataset}.png)')
    write_runs(work_dir / 'runs.csv', results)
    with written_whole(work_dir / 'report.md') as temporary:
        temporary.write_text('\n\n'.join(page) + '\n', encoding='utf-8')
    return table


def read_published(path: Path) -> List[Row]:
    """A curve of the published study with epochs from 1 as ours, not from 0; empty if the file is missing."""
    return [{**row, 'epoch': row['epoch'] + 1} for row in read_curves(path)]
