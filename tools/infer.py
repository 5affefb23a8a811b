#!/usr/bin/env python
"""Predict on images and videos, as `mmcyclemlp infer` does, from a checkout that is not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmcyclemlp.cli.infer import main

if __name__ == '__main__':
    sys.exit(main())
