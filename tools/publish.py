#!/usr/bin/env python
"""Publish weights, as `mmcyclemlp publish` does, from a checkout that is not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmcyclemlp.cli.publish import main

if __name__ == '__main__':
    sys.exit(main())
