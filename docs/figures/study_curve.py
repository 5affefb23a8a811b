"""Compares a run's curve with that of the study, which has CycleMLP-B1 on CIFAR-10:

python docs/figures/study_curve.py docs/results/cifar10-literal/curves_longer.csv
python docs/figures/study_curve.py docs/results/cifar10-seed/cyclemlp_b1.csv 10     # every tenth epoch
"""

import sys
from pathlib import Path

from mmcyclemlp.study.record import read_curves
from mmcyclemlp.study.report import read_published
from mmcyclemlp.tables import markdown

RESULTS = Path(__file__).parents[1] / 'results'
COLUMNS = ('train accuracy', 'test accuracy')


def main():
    path, *every = sys.argv[1:]
    every = int(every[0]) if every else 1
    ours = read_curves(Path(path))
    theirs = read_published(RESULTS / 'seed' / 'cifar10_cyclemlp_b1.csv')
    pairs, body = list(zip(ours, theirs)), []  # both from epoch 1
    for pair in pairs:
        if pair[0]['epoch'] != 1 and pair[0]['epoch'] % every:
            continue
        cells = [f'{100 * row[name]:.2f} %' for name in COLUMNS for row in pair]
        difference = 100 * (pair[0]['test accuracy'] - pair[1]['test accuracy'])
        body.append([f'{pair[0]["epoch"]:.0f}', *cells, f'{difference:+.2f}'])
    header = [f'{name}: ours' if ours else 'the study' for name in COLUMNS for ours in (True, False)]
    print(markdown(['epoch', *header, 'difference, points'], body))
    for first, last in ((1, len(pairs)), (1, 10), (3, 10), (11, len(pairs))):
        print(f'\nmean absolute difference, epochs {first} to {last}:')
        for name in COLUMNS:
            differences = [abs(row[name] - other[name]) for row, other in pairs[first - 1 : last]]
            print(f'- {name}: {100 * sum(differences) / len(differences):.2f} points')


if __name__ == '__main__':
    main()
