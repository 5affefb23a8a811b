"""What a study says of its runs: sizes, means over seeds, and what is published."""

import re
import runpy

import pytest

from mmcyclemlp.config import load_config
from mmcyclemlp.study import load_study
from mmcyclemlp.study.report import read_published
from mmcyclemlp.study.results import Result, size_of
from mmcyclemlp.study.tables import results_table

from .helpers import REPO
from .small_study import PUBLISHED, write_study


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    return load_study(write_study(tmp_path_factory.mktemp('plan'), seeds=[0, 1]))


def result(run, accuracies, state='finished'):
    curves = [
        {'epoch': float(i), 'train loss': 2.0, 'test loss': 2.0, 'train accuracy': 0.5, 'test accuracy': accuracy}
        for i, accuracy in enumerate(accuracies, 1)
    ]
    best = max(accuracies)
    return Result(
        run, state, curves, best, accuracies.index(best) + 1, accuracies[-1], 100.0, 0.02, 0.5, 2000000, 44000000
    )


@pytest.mark.parametrize(
    'name, side, parameters, operations',
    [
        ('cyclemlp/cifar10_b1.py', 32, 14647530, 0.044),
        ('cyclemlp/imagenet_b1.py', 224, 15155400, 2.122),  # the authors' numbers, as the next two
        ('baselines/imagenet_resnet18.py', 224, 11689512, 1.82),
        ('baselines/imagenet_vit.py', 224, 5717416, 1.26),  # 1.08 without what attention multiplies
    ],
)
def test_sizes_are_the_published_ones(name, side, parameters, operations):
    found = size_of(load_config(REPO / 'configs' / name), side)
    assert found == (parameters, pytest.approx(1e9 * operations, rel=0.01))


def test_seeds_become_mean_and_deviation(study):
    narrow = [run for run in study.runs if run.name == 'narrow']
    wide = [run for run in study.runs if run.name == 'wide steps']
    table = results_table(
        [
            result(narrow[0], [0.1, 0.5, 0.4]),
            result(narrow[1], [0.3, 0.2, 0.2]),
            result(wide[0], [0.25]),
            result(wide[1], [0.9], state='failed'),
        ]
    )
    _, _, first, second = table.splitlines()
    # Best 50 and 30 %, in epochs 2 and 1; last 40 and 20 %.
    assert first == ('| narrow | 2 | 3 | 40.00 ± 14.14 | 2 ± 0.7 | 30.00 ± 14.14 | 100 | 2.0 | 0.50 | 2.00 | 0.044 |')
    assert second == ('| wide steps (failed, finished) | 1 | 1 | 25.00 | 1 | 25.00 | 100 | 2.0 | 0.50 | 2.00 | 0.044 |')


def test_epochs_are_counted_where_not_each_is_validated(study):
    rare = result(study.runs[0], [0.4])
    assert rare._replace(curves=[{**rare.curves[0], 'epoch': 10.0}]).epochs == 10
    assert rare._replace(curves=[]).epochs == 0


def test_the_published_epochs_count_from_zero():
    rows = read_published(PUBLISHED / 'cifar10_cyclemlp_b1.csv')
    assert len(rows) == 100 and rows[0] == {
        'epoch': 1.0,
        'train loss': 2.349471,
        'test loss': 2.312655,
        'train accuracy': 0.10748,
        'test accuracy': 0.1224,
    }
    assert read_published(PUBLISHED / 'imagenet_cyclemlp_b1.csv') == []


@pytest.mark.parametrize(
    'arguments, rows', [(['cifar10-literal/curves_longer.csv'], 19), (['cifar10-seed/cyclemlp_b1.csv', '10'], 11)]
)
def test_the_page_has_the_table_that_the_script_prints(capsys, monkeypatch, arguments, rows):
    curves, *every = arguments
    monkeypatch.setattr('sys.argv', ['study_curve.py', str(REPO / 'docs/results' / curves), *every])
    runpy.run_path(str(REPO / 'docs/figures/study_curve.py'), run_name='__main__')
    printed, page = capsys.readouterr().out, (REPO / 'docs/results/classification.md').read_text()
    lines = [line for line in printed.splitlines() if line.startswith('| ') and '---' not in line][1:]
    assert len(lines) == rows and all(f'{line}\n' in page for line in lines)
    means = re.findall('- test accuracy: (.* points)', printed)
    assert every or f'**{means[0]} over the {rows} epochs**' in page
