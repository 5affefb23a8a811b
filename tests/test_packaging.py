"""What the wheel and the source archive carry, and what the demos of the Makefile run."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest

from .helpers import REPO

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    """A copy of the files that belong to the project."""
    if not (REPO / '.git').exists():
        pytest.skip('not a git checkout')
    tree = tmp_path_factory.mktemp('tree')
    command = ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard']
    names = subprocess.run(command, cwd=REPO, check=True, capture_output=True, text=True).stdout.split('\0')
    for name in filter(None, names):
        if (REPO / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((REPO / name).read_bytes())
    return tree


def build(tree, hook, folder):
    code = f'from setuptools.build_meta import {hook}; print({hook}({str(folder)!r}))'
    run = subprocess.run([sys.executable, '-c', code], cwd=tree, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return folder / run.stdout.split()[-1]


def expected(tree):
    parts = [
        p
        for folder in ('configs', 'tools')
        for p in (tree / folder).rglob('*')
        if p.suffix in ('.py', '.sh', '.yml') and p.name != 'model_zoo.py'
    ]
    return {f'mmcyclemlp/.mim/{p.relative_to(tree)}' for p in parts} | {'mmcyclemlp/.mim/model-index.yml'}


def test_wheel(tree, tmp_path):
    with zipfile.ZipFile(build(tree, 'build_wheel', tmp_path)) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(next(n for n in names if n.endswith('METADATA'))).decode()
        entry_points = wheel.read(next(n for n in names if n.endswith('entry_points.txt'))).decode()
        wheel.extractall(tmp_path / 'installed')
    assert expected(tree) <= names and len(expected(tree)) > 10
    assert not any(name.startswith(('tests', 'configs', 'tools')) for name in names)
    modules = {str(p.relative_to(tree)) for p in (tree / 'mmcyclemlp').rglob('*.py')}
    assert modules | {'mmcyclemlp/py.typed'} <= names
    assert 'Requires-Dist: onedl-mmcv' in metadata and 'Requires-Dist: torch>=' in metadata
    assert 'mmcyclemlp = mmcyclemlp.cli.main:main' in entry_points
    # The command finds configs and scripts in the package, wherever it is called.
    calls = ['study --list', 'subset-coco --help', '--help']
    calls += ['train configs/cyclemlp/digits_b1.py --cfg-options train_cfg.max_epoch=1']
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path / 'installed')}
    done = subprocess.run(
        [sys.executable, '-c', CALL, *calls], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    studies, usage, commands = done.stdout.split('\n0\n')[:3]
    assert 'cifar10-quick ' in studies and usage.startswith('usage: mmcyclemlp subset-coco '), done.stderr
    assert '  scales ' in commands and 'model-zoo' not in commands  # it writes pages that only a checkout has
    assert done.stdout.endswith('\n2\n') and 'did you mean train_cfg.max_epochs?' in done.stderr


CALL = """
import sys
from mmcyclemlp.cli.main import main
for call in sys.argv[1:]:
    sys.argv = ['mmcyclemlp', *call.split()]
    try:
        status = main()
    except SystemExit as stop:
        status = stop.code
    print(status)
"""


def test_source_archive(tree, tmp_path):
    with tarfile.open(build(tree, 'build_sdist', tmp_path)) as archive:
        names = {name.split('/', 1)[1] for name in archive.getnames() if '/' in name}
        archive.extractall(tmp_path / 'source', filter='data')
    assert {
        'setup.py',
        'LICENSE',
        'README.md',
        'CHANGELOG.md',
        'requirements/runtime.txt',
        'configs',
        'tools/train.py',
        'mmcyclemlp/py.typed',
    } <= names
    # What it holds is enough to build the wheel from.
    (source,) = (tmp_path / 'source').iterdir()
    with zipfile.ZipFile(build(source, 'build_wheel', tmp_path)) as wheel:
        assert expected(tree) <= set(wheel.namelist())


@pytest.mark.parametrize(
    'target, run',
    [
        ('demo', 'digits_b1'),
        ('demo-detection', 'digit-scenes_retinanet_b1'),
        ('demo-segmentation', 'digit-scenes_fpn_b1'),
    ],
)
def test_the_demos_run_what_is_there(target, run):
    commands = subprocess.run(['make', '-n', target], cwd=REPO, capture_output=True, text=True)
    assert commands.returncode == 0, commands.stderr
    assert f'tools/train.py configs/cyclemlp/{run}.py' in commands.stdout
    paths = set(re.findall(r'(?:configs|tools)/\S+\.py', commands.stdout))
    assert len(paths) >= 3 and all((REPO / path).is_file() for path in paths)
