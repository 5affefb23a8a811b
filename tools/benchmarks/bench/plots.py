"""Pictures of measured rows."""
from pathlib import Path
from typing import Dict, List, Sequence

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

from .rows import Row, conditions  # noqa: E402

MIB = 2**20


def side_of(row: Row) -> int:
    """Image side from a shape such as 8x3x224x224."""
    return int(row.shape.rsplit('x', 1)[1])


def pixels_of(row: Row) -> int:
    """Pixels of the whole batch."""
    batch, _, height, width = map(int, row.shape.split('x'))
    return batch * height * width


def plot_scaling(rows: Sequence[Row], path: Path) -> None:
    """Time and memory a pixel over the image's side; flat is linear in the pixels."""
    rows = [row for row in rows if row.suite == 'scaling']
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout='constrained')
    for axis, title, value in (
        (axes[0], 'inference, ns a pixel', lambda row: row.median_ms and row.median_ms * 1e6 / pixels_of(row)),
        (axes[1], 'peak of inference, bytes a pixel', lambda row: row.peak_mib and row.peak_mib * MIB / pixels_of(row)),
        (axes[2], 'kept for the backward pass, bytes a pixel',
         lambda row: row.saved_mib and row.saved_mib * MIB / pixels_of(row)),
    ):
        lines: Dict[str, List[tuple]] = {}
        for row in rows:
            if value(row):
                lines.setdefault(f'{row.rival}, {row.dtype}, {row.device_type}', []).append((side_of(row), value(row)))
        for name, points in lines.items():
            axis.plot(*zip(*sorted(points)), marker='o', label=name)
        sides = sorted({side_of(row) for row in rows})
        axis.set(title=title, xlabel='side of the image, pixels', xscale='log')
        axis.set_ylim(0, 1.2 * max((y for points in lines.values() for _, y in points), default=1))
        axis.set_xticks(sides, map(str, sides))
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        if lines:
            axis.legend(fontsize='small')
    _save(figure, path)


def plot_networks(groups: Sequence[Sequence[Row]], path: Path) -> None:
    """Images a second of each network, a panel a group."""
    height = 0.6 + 0.24 * max(len(rows) for rows in groups)
    figure, axes = plt.subplots(len(groups), 1, figsize=(8, height * len(groups)), squeeze=False, layout='constrained')
    for axis, rows in zip(axes[:, 0], groups):
        rows = sorted((row for row in rows if row.images_per_s), key=lambda row: row.images_per_s)
        colours = ['tab:red' if row.rival == 'b1' else 'tab:orange' if row.rival.startswith('b1-') else 'tab:blue'
                   for row in rows]
        bars = axis.barh([row.rival for row in rows], [row.images_per_s for row in rows], color=colours)
        axis.bar_label(bars, fmt=lambda value: f'{value:,.0f}' if value >= 1000 else f'{value:.3g}', padding=3,
                       fontsize='small')
        axis.set_title(f'{rows[0].direction}, images/s, {conditions(rows[0])}', fontsize='small')
        axis.margins(x=0.12)
        axis.tick_params(labelsize='small')
    _save(figure, path)


def plot_operators(groups: Sequence[Sequence[Row]], path: Path) -> None:
    """Time of each way to compute the layer as a multiple of a linear layer's, a panel a set of conditions."""
    panels: Dict[str, List[Sequence[Row]]] = {}
    for rows in groups:
        panels.setdefault(f'{rows[0].direction}, {conditions(rows[0])}', []).append(rows)
    figure, axes = plt.subplots(len(panels), 1, figsize=(10, 3.2 * len(panels)), squeeze=False, layout='constrained')
    for axis, (title, members) in zip(axes[:, 0], panels.items()):
        lines: Dict[str, Dict[int, float]] = {}
        for column, rows in enumerate(members):
            ms = {row.rival: row.median_ms for row in rows}
            for rival, value in ms.items():
                if value and ms.get('linear'):
                    lines.setdefault(rival, {})[column] = value / ms['linear']
        for marker, (rival, points) in zip('os^Dvx*P', lines.items()):
            axis.plot(list(points), list(points.values()), marker=marker, fillstyle='none', linestyle='none',
                      label=rival)
        axis.set_xticks(range(len(members)), [f'{rows[0].case} {rows[0].kernel}' for rows in members], rotation=45,
                        ha='right', fontsize='x-small')
        axis.set_yscale('log')
        axis.set_title(f'time as a multiple of a linear layer\'s: {title}', fontsize='small')
        axis.grid(alpha=0.3)
        axis.yaxis.set_major_formatter('{x:g}')
        axis.legend(fontsize='x-small', loc='center left', bbox_to_anchor=(1, 0.5))
    _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={'Software': None})
    plt.close(figure)
