"""Where the checkout lies, what lies beside it, and what a machine may lack."""

from importlib.util import find_spec
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
SHARED = REPO.parent / 'shared'

# On a machine without a compiler, such as one lent for its GPU, what needs no operators is still tested.
NEEDS_OPERATORS = pytest.mark.skipif(
    find_spec('mmcv._ext') is None, reason='mmcv was installed without its compiled operators; run `make ops`'
)
