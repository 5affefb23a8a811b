"""Which part of the package may import which, and what importing a hook must not bring along."""

import ast
import re
import subprocess
import sys
from collections import defaultdict

import pytest

from .helpers import REPO

# From the bottom up. A part imports parts of lower layers, and of its own as long as that makes no circle.
LAYERS = (
    {'errors', 'files', 'images', 'pickles', 'tables', 'untrusted', 'version'},
    {'dependencies'},
    {'ops'},
    {'flops', 'models'},
    {'checkpoints'},
    {'timm_models'},
    {'integrations'},
    {'config', 'datasets', 'engine'},
    {'checks', 'export', 'inference', 'study'},
    {'cli'},
    {'tools'},
)
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}


def imported(path, root=REPO):
    """Parts of the package that a file imports, at its top or within a function."""
    package = path.relative_to(root).with_suffix('').parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = '.'.join(
                (*package[: len(package) - node.level + 1], *([node.module] if node.module else []))
                if node.level
                else [node.module]
            )
            names = [f'{base}.{alias.name}' for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith('mmcyclemlp.') and (part := name.split('.')[1]) in LAYER:
                yield part


def arrows(root=REPO):
    """Importing part -> imported part -> the files that do it."""
    found = defaultdict(lambda: defaultdict(set))
    paths = {
        path: path.relative_to(root).parts
        for folder in ('mmcyclemlp', 'tools')
        for path in (root / folder).rglob('*.py')
        if '.mim' not in path.parts
    }
    for path, parts in paths.items():
        own = 'tools' if parts[0] == 'tools' else parts[1].removesuffix('.py')
        if own != '__init__':  # the package's face
            for part in imported(path, root):
                if part != own:
                    found[own][part].add(str(path.relative_to(root)))
    return found


def test_every_part_has_a_layer():
    parts = {
        path.stem
        for path in (REPO / 'mmcyclemlp').iterdir()
        if path.suffix == '.py' or (path.is_dir() and any(path.glob('*.py')))
    }
    assert parts - {'__init__'} <= set(LAYER)


def test_no_arrow_points_up():
    up = {
        f'{own} -> {part}': sorted(files)
        for own, others in arrows().items()
        for part, files in others.items()
        if LAYER[own] < LAYER[part]
    }
    assert not up


def test_there_is_no_circle():
    graph = {own: set(others) for own, others in arrows().items()}
    assert {'cli', 'config', 'datasets', 'engine'} <= set(graph)  # the arrows are seen at all
    while graph:
        free = {part for part, others in graph.items() if not others & set(graph)}
        assert free, f'a circle among {sorted(graph)}'
        graph = {part: others for part, others in graph.items() if part not in free}


@pytest.mark.parametrize(
    'code, part',
    [
        ('from ..config import load_config', 'config'),
        ('from ..config.load import load_config', 'config'),
        ('from .. import config', 'config'),
        ('import mmcyclemlp.cli.train', 'cli'),
        ('from mmcyclemlp.study import run_study', 'study'),
        ('def lazy():\n    from mmcyclemlp import inference', 'inference'),
        ('from .reading import read_checkpoint', 'checkpoints'),
    ],
)
def test_every_way_of_importing_is_seen(tmp_path, code, part):
    path = tmp_path / 'mmcyclemlp' / 'checkpoints' / 'new.py'
    path.parent.mkdir(parents=True)
    path.write_text(code)
    assert list(imported(path, tmp_path)) == [part]


def test_the_engine_holds_only_what_mmengine_builds():
    assert len(list((REPO / 'mmcyclemlp' / 'engine').glob('*.py'))) <= 10


@pytest.mark.slow
def test_importing_hooks_loads_no_plots_and_no_command():
    code = 'import sys, mmcyclemlp.engine; print(*sys.modules)'
    loaded = subprocess.run(
        [sys.executable, '-c', code], cwd=REPO, capture_output=True, text=True, check=True
    ).stdout.split()
    assert 'mmcyclemlp.engine.curves' in loaded
    unwanted = ('matplotlib', 'mmcyclemlp.cli', 'mmcyclemlp.study', 'mmcyclemlp.inference', 'mmcyclemlp.checks')
    assert not [name for name in loaded if name.startswith(unwanted)]


def test_what_tests_share_is_no_test():
    files = (REPO / 'tests').glob('*.py')
    assert not [path.name for path in files if re.search('^from .test_', path.read_text(), re.MULTILINE)]
