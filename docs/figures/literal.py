"""Compares the literal recipe's curve with the study's, epoch by epoch: `python docs/figures/literal.py`."""

from pathlib import Path

from mmcyclemlp.study.record import read_curves
from mmcyclemlp.study.report import read_seed
from mmcyclemlp.study.tables import comparison

RESULTS = Path(__file__).parents[1] / 'results'


def main():
    ours = read_curves(RESULTS / 'cifar10-literal' / 'curves_longer.csv')
    seed = read_seed(RESULTS / 'seed' / 'cifar10_cyclemlp_b1.csv')
    print(comparison(ours, seed))
    for first, last in ((1, 10), (3, 10), (11, len(ours))):
        print(f'\nepochs {first} to {last}: {comparison(ours[first - 1 : last], seed).splitlines()[-1]}')


if __name__ == '__main__':
    main()
