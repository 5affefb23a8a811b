"""Fixtures of all tests: reference outputs and real data, which lie beside a checkout and may be absent, and tools."""

import gc
import os
import resource
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from .helpers import SHARED, call_tool

# The shell scripts run this interpreter, whichever `python` comes first on the caller's PATH.
os.environ['PYTHON'] = sys.executable

# Without a GPU, Triton's kernels run in its interpreter. Triton reads this variable when it is first imported,
# by whichever test comes first, so it is set here, before any test module; importing torch imports no Triton.
if not torch.cuda.is_available():
    os.environ.setdefault('TRITON_INTERPRET', '1')


def pytest_configure():
    from mmcyclemlp.dependencies import import_yapf  # after the variable above

    import_yapf()  # once, before the processes of pytest-xdist do it at the same time


def pytest_collection_finish():
    gc.freeze()  # what the libraries hold need not be gone through by each collection


@pytest.fixture(scope='session', autouse=True)
def formatted_once():
    """Keep what yapf made of a config, which mmengine asks for a dozen times a run: a third of a small one."""
    from yapf.yapflib import yapf_api

    made, format = {}, yapf_api.FormatCode

    def kept(text, **kwargs):
        if text not in made:
            made[text] = format(text, **kwargs)
        return made[text]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yapf_api, 'FormatCode', kept)
        yield


def _beside(path: Path, what: str) -> Path:
    if not path.exists():
        message = f'{what} is not at ../shared/{path.relative_to(SHARED)}'
        if os.environ.get('CI') == 'true':
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope='session')
def golden() -> Path:
    """Folder with outputs of the original implementation."""
    return _beside(SHARED / 'golden', "the original implementation's reference outputs")


@pytest.fixture(scope='session')
def reference(golden):
    """The original implementation's outputs by key."""
    return np.load(golden / 'cyclemlp_reference.npz')


@pytest.fixture(scope='session')
def formula(golden):
    """Module that makes the weights and inputs of the reference outputs."""
    import importlib.util

    spec = importlib.util.spec_from_file_location('golden_formula', golden / 'formula.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Folder with the archives of small real datasets and the script that unpacks them."""
    return _beside(SHARED / 'data', 'the folder of small real datasets')


@pytest.fixture
def tool(monkeypatch, capsys):
    """Run a tool in this process; returns exit status, stdout and stderr."""
    return lambda folder, name, *args: (call_tool(monkeypatch, folder, name, *args), *capsys.readouterr())


@pytest.fixture
def short_of_space():
    """A context in which no file of more than 50 kB can be written."""

    @contextmanager
    def context():
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return context


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Skip what failed for want of mmcv's compiled operators, where there are none; CI has them."""
    report = yield
    if report.failed and find_spec('mmcv._ext') is None and os.environ.get('CI') != 'true':
        if 'mmcv._ext' in report.longreprtext or 'compiled operators' in report.longreprtext:
            report.outcome = 'skipped'
            report.longrepr = str(item.path), None, "Skipped: needs mmcv's compiled operators; run `make ops`"
    return report


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random state."""
    torch.manual_seed(0)
