"""The picture of measured networks."""
from pathlib import Path
from typing import Sequence

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

from .rows import Row  # noqa: E402
from .tables import conditions, number, plain  # noqa: E402


def plot_networks(groups: Sequence[Sequence[Row]], path: Path) -> None:
    """Time per image of each network, the fastest on top, a panel a group."""
    groups = [sorted((row for row in rows if row.images_per_s), key=lambda row: -row.median_ms) for rows in groups]
    height = 0.8 + 0.24 * max(map(len, groups))
    figure, axes = plt.subplots(1, len(groups), figsize=(4.8 * len(groups), height), squeeze=False,
                                layout='constrained')
    for axis, rows in zip(axes[0], groups):
        ms = [row.median_ms / row.batch for row in rows]
        colours = [{'b1': 'tab:red'}.get(row.candidate, 'tab:orange' if row.candidate[:3] == 'b1-' else 'tab:blue')
                   for row in rows]
        bars = axis.barh([plain(row).strip('*') for row in rows], ms, color=colours)
        axis.bar_label(bars, map(number, ms), padding=3, fontsize=8)
        axis.set_title(f'ms per image: {conditions(rows[0])}', fontsize=8, loc='right')
        axis.margins(x=0.15, y=0.01)
        axis.tick_params(labelsize=8)
        axis.spines[['top', 'right']].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={'Software': None})
    plt.close(figure)
