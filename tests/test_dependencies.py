"""The import-time check of versions, and what importing the package does not need."""

import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mmcyclemlp import dependencies
from mmcyclemlp.dependencies import WINDOWS, check_versions

from .helpers import REPO


@pytest.fixture
def installed(monkeypatch):
    """Pretend that exactly these distributions are installed."""
    versions = {window.distribution: window.minimum for window in WINDOWS.values()}
    monkeypatch.setattr(dependencies, 'installed_version', versions.get)
    return versions


def test_accepts_the_window(installed):
    check_versions()
    installed['onedl-mmcv'] = '2.3.99'
    del installed['onedl-mmdetection']
    check_versions()


@pytest.mark.parametrize(
    'distribution, version, message',
    [
        (
            'onedl-mmcv',
            '2.3.5',
            r"from 2.3.6 to below 2.4, but 2.3.5 is installed; run `pip install 'onedl-mmcv>=2.3.6",
        ),
        ('onedl-mmengine', '0.11.0', r'from 0.10.12 to below 0.11, but 0.11.0 is installed'),
        ('onedl-mmdetection', '3.6.0', r'onedl-mmdetection from 3.5.1 to below 3.6, but 3.6.0 is installed'),
        ('onedl-mmcv', None, r'needs mmcv, which is not installed; run `pip install'),
        ('mmcv', '2.2.0', r'replaces mmcv under the same import name, but mmcv 2.2.0 is installed; run `pip unin'),
    ],
)
def test_refuses_what_is_outside(installed, distribution, version, message):
    installed[distribution] = version
    with pytest.raises(ImportError, match=message):
        check_versions()


def test_requirements_hold_the_same_windows():
    lines = [
        line
        for name in ('mminstall', 'optional')
        for line in (REPO / 'requirements' / f'{name}.txt').read_text().split()
    ]
    found = {r.name: r.specifier for r in map(Requirement, lines)}
    assert found == {w.distribution: SpecifierSet(f'>={w.minimum},<{w.below}') for w in WINDOWS.values()}


def test_imports_without_optional_packages():
    # None in sys.modules is what an absent module amounts to.
    code = """
import sys
for name in ('mmdet', 'mmseg', 'mmpretrain', 'triton', 'mmcv.ops', 'mmcv._ext', 'timm', 'onnx'):
    sys.modules[name] = None
import torch, mmcyclemlp
from mmengine.registry import MODELS
model = MODELS.build(dict(type='CycleMLP', out_indices=(0, 1)))
print([tuple(o.shape) for o in model(torch.zeros(1, 3, 32, 32))])
"""
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=REPO)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == '[(1, 64, 8, 8), (1, 128, 4, 4)]'
