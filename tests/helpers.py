"""Where the checkout lies, what lies beside it, what a machine may lack, how a tool is called, and a table read."""

import csv
import os
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from mmengine.utils import ManagerMixin

REPO = Path(__file__).resolve().parents[1]
SHARED = REPO.parent / 'shared'

# Without mmcv's compiled operators, what needs none is still tested; CI has them.
NEEDS_OPERATORS = pytest.mark.skipif(
    find_spec('mmcv._ext') is None and os.environ.get('CI') != 'true',
    reason='mmcv was installed without its compiled operators; run `make ops`',
)


def call_tool(patch, folder, name, *args):
    """Run tools/NAME from a folder in this process, which saves its start; returns the exit status."""
    patch.chdir(folder)
    kinds = [ManagerMixin]
    for kind in kinds:  # log, message hub, default scope and visualizers of an earlier run in this process
        kind._instance_dict.clear()
        kinds.extend(kind.__subclasses__())
    patch.setattr(sys, 'argv', [name, *map(str, args)])
    try:
        runpy.run_path(str(REPO / 'tools' / name), run_name='__main__')
    except SystemExit as stop:
        return stop.code
    return 0


def read_table(path):
    """The rows of a CSV file, as dictionaries."""
    with open(path, newline='') as file:
        return list(csv.DictReader(file))
