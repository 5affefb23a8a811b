#!/usr/bin/env python
"""Test a checkpoint, as `mmcyclemlp test` does, from a checkout that is not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmcyclemlp.cli.test import main

if __name__ == '__main__':
    sys.exit(main())
