"""Draws docs/figures/idea.png: `python docs/figures/idea.py`."""

from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402

from mmcyclemlp.ops import staircase_offsets  # noqa: E402

CHANNELS, WIDTH, CENTRE = 9, 7, 3
COLOURS = {0: '#4c78a8', 1: '#f58518', -1: '#54a24b'}


def draw(axis, title, offset_of, shifted):
    """Cells (position, channel); filled where the output at CENTRE reads, outlined by shift."""
    for channel in range(CHANNELS):
        offset = offset_of(channel)
        for position in range(WIDTH):
            source = position + offset if shifted else position
            outside = not 0 <= source < WIDTH
            read = position == (CENTRE if shifted else CENTRE + offset)
            axis.add_patch(
                Rectangle(
                    (position, channel),
                    1,
                    1,
                    ec='white',
                    lw=1.5,
                    fc=COLOURS[offset] if read else '#f2f2f2' if outside else '#d9d9d9',
                )
            )
            label = '' if outside else str(source)
            axis.text(
                position + 0.5,
                channel + 0.53,
                label,
                ha='center',
                va='center',
                fontsize=8,
                color='white' if read else '#888888',
            )
    axis.set(
        xlim=(-0.1, WIDTH + 0.1),
        ylim=(CHANNELS + 0.1, -0.1),
        aspect='equal',
        xticks=[],
        xlabel='position along W',
        yticks=[c + 0.5 for c in range(CHANNELS)],
        yticklabels=range(CHANNELS),
    )
    axis.set_title(title, fontsize=10)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def main():
    offsets = [dx for _, dx in staircase_offsets(CHANNELS, (1, 3))]
    figure, axes = plt.subplots(1, 3, figsize=(11, 5.2))
    draw(axes[0], 'Channel FC: one position,\nno context', lambda c: 0, False)
    draw(axes[1], 'CycleFC (1, 3): channel c reads its own\nneighbour, at the same cost', offsets.__getitem__, False)
    draw(axes[2], 'Computed here: shift the channels once,\nthen one matrix product', offsets.__getitem__, True)
    axes[0].set_ylabel('channel')
    handles = [Rectangle((0, 0), 1, 1, fc=COLOURS[o]) for o in (0, 1, -1)]
    handles.append(Rectangle((0, 0), 1, 1, fc='#f2f2f2', ec='#cccccc'))
    labels = ['offset 0', 'offset +1', 'offset -1', 'outside the map: 0']
    figure.legend(handles, labels, loc='lower center', ncol=4, frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 0.97))
    figure.savefig(Path(__file__).with_suffix('.png'), dpi=110)


if __name__ == '__main__':
    main()
