"""The results of a study as pictures."""

from pathlib import Path
from typing import Dict, List, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmcyclemlp.files import written_whole

from .record import Row
from .results import Result
from .tables import COMPARED, by_name


def plot_curves(path: Path, title: str, results: Sequence[Result], published: Sequence[Row]) -> None:
    """Training and test loss and accuracy: for each run the mean over its seeds in a band of ± one standard deviation,
    and the curve of the published study (dashed) over the same epochs."""
    figure = Figure(figsize=(11, 8), layout='constrained')
    figure.suptitle(title)
    last = max((int(row['epoch']) for result in results for row in result.curves), default=0)
    for axes, name in zip(figure.subplots(2, 2).flat, COMPARED):
        for colour, (run, group) in enumerate(by_name(results).items()):
            _plot_group(axes, run, [result.curves for result in group], name, f'C{colour}')
        theirs = [(row['epoch'], row[name]) for row in published if row['epoch'] <= last]
        if theirs:
            axes.plot(*zip(*theirs), '--', color='black', linewidth=1, label='CycleMLP-B1 in the study')
        axes.set(xlabel='epoch', title=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize='small')
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _plot_group(axes: Axes, label: str, curves: Sequence[Sequence[Row]], name: str, colour: str) -> None:
    points: Dict[float, List[float]] = {}
    for row in (row for rows in curves for row in rows if name in row):
        points.setdefault(row['epoch'], []).append(row[name])
    if not points:
        return
    epochs = sorted(points)
    centre = np.array([np.mean(points[epoch]) for epoch in epochs])
    axes.plot(epochs, centre, color=colour, label=label, marker='.' if len(epochs) < 20 else None)
    if len(curves) > 1:
        spread = np.array([np.std(points[epoch], ddof=1) if len(points[epoch]) > 1 else 0.0 for epoch in epochs])
        axes.fill_between(epochs, centre - spread, centre + spread, color=colour, alpha=0.2, linewidth=0)
