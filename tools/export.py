#!/usr/bin/env python
"""Export a trained model, as `mmcyclemlp export` does, from a checkout that is not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmcyclemlp.cli.export import main

if __name__ == '__main__':
    sys.exit(main())
