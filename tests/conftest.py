"""Where tests find reference outputs and real data; both lie beside a checkout and may be absent."""
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

REPO = Path(__file__).resolve().parents[1]
SHARED = REPO.parent / 'shared'

# Without a GPU, Triton's kernels run in its interpreter. Triton reads this variable when it is first imported,
# by whichever test comes first, so it is set here, before any test module; importing torch imports no Triton.
if not torch.cuda.is_available():
    os.environ.setdefault('TRITON_INTERPRET', '1')

# On a machine without a compiler, such as one lent for its GPU, what needs no operators is still tested.
NEEDS_OPERATORS = pytest.mark.skipif(find_spec('mmcv._ext') is None,
                                     reason="mmcv was installed without its compiled operators; run `make ops`")


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
    return _beside(SHARED / 'golden', 'the original implementation\'s reference outputs')


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


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random state."""
    torch.manual_seed(0)
