"""The check of the libraries' versions, and what importing the package does not need."""

import subprocess
import sys
import warnings

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mmcyclemlp import dependencies
from mmcyclemlp.dependencies import LIBRARIES, check_library
from mmcyclemlp.errors import MissingDependencyError

from .helpers import REPO


@pytest.fixture
def versions(monkeypatch):
    """Pretend that exactly these distributions are installed."""
    versions = {tested.distribution: tested.minimum for tested, *_ in LIBRARIES.values()}
    monkeypatch.setattr(dependencies, 'installed_version', lambda name: versions.get(name, ''))
    return versions


def test_tested_versions_pass_in_silence(versions):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for name in LIBRARIES:
            check_library(name)
        versions['onedl-mmcv'] = '2.3.99'
        check_library('mmcv')
        versions.clear()
        versions.update({'mmengine': '0.10.7', 'mmcv-lite': '2.1.0', 'mmpretrain': '1.2.0'})
        for name in ('mmengine', 'mmcv', 'mmpretrain'):
            check_library(name)


@pytest.mark.parametrize(
    'name, distribution, version, message',
    [
        ('mmcv', 'onedl-mmcv', '2.3.5', r"not tested with onedl-mmcv 2.3.5; .*`pip install 'onedl-mmcv>=2.3.6,<2.4'`"),
        ('mmdet', 'onedl-mmdetection', '3.6.0', 'not tested with onedl-mmdetection 3.6.0'),
        ('mmcv', 'mmcv', '2.1.0', 'onedl-mmcv and mmcv overwrite each other, .*`pip uninstall -y onedl-mmcv mmcv`'),
        ('mmdet', 'mmdet', '3.3.0', r"not tested with mmdet 3.3.0; .*`pip install 'onedl-mmdetection>="),
    ],
)
def test_other_versions_warn(versions, name, distribution, version, message):
    versions[distribution] = version
    with pytest.warns(UserWarning, match=message):
        check_library(name)


def test_a_missing_library_is_named_with_the_command(versions):
    del versions['onedl-mmcv']
    with pytest.raises(MissingDependencyError, match=r"needs mmcv, which is not installed; run `pip install 'onedl-"):
        check_library('mmcv')


def test_requirements_hold_the_same_windows():
    files = [REPO / f'requirements/{name}.txt' for name in ('mminstall', 'cls', 'det', 'seg')]
    found = {r.name: r.specifier for path in files for r in map(Requirement, path.read_text().split())}
    assert found == {
        tested.distribution: SpecifierSet(f'>={tested.minimum},<{tested.below}') for tested, *_ in LIBRARIES.values()
    }


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_cache_of_yapf_that_was_cut_off_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))

    def run(code):
        args = [sys.executable, '-c', f'import sys\n{code}', str(tmp_path / 'run')]
        return subprocess.run(args, cwd=REPO, capture_output=True, text=True)

    assert run('import yapf').returncode == 0
    first, second = sorted(tmp_path.rglob('*.pickle'))
    first.write_bytes(b'')
    second.write_bytes(second.read_bytes()[:100])
    assert 'EOFError' in run('import yapf').stderr
    done = run('from tests.small_runs import Line, runner; runner(sys.argv[1], Line()).train()')
    assert done.returncode == 0, done.stderr
    assert run('import yapf').returncode == 0
