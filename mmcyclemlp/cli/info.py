"""Print versions, which tasks and backends run here, and why the others cannot run here. Add it to bug reports."""

import platform
import sys
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path
from typing import Optional

import torch

from mmcyclemlp.config.libraries import library_reason
from mmcyclemlp.dependencies import LIBRARIES, installed, installed_version
from mmcyclemlp.ops.cycle_fc import deform_conv_reason
from mmcyclemlp.ops.shift import triton_reason
from mmcyclemlp.tables import markdown
from mmcyclemlp.version import __version__

from .arguments import command, parser_of

TASKS = {'classification': 'mmpretrain', 'detection': 'mmdet', 'segmentation': 'mmseg'}
PARSER = parser_of(__doc__)


@command(PARSER)
def main(args: Namespace) -> None:
    versions = [('mmcyclemlp', __version__, ''), ('Python', platform.python_version(), '3.10 to 3.13')]
    versions += [
        ('torch', torch.__version__, ''),
        ('torchvision', installed_version('torchvision') or 'not installed', ''),
    ]
    for name, tested in LIBRARIES.items():
        found = [f'{each.distribution} {version}' for each, version in installed(name).items()]
        versions.append(
            (name, ', '.join(found) or 'not installed', ' or '.join(str(each) for each in tested if each.minimum))
        )
    print(markdown(('package', 'installed', 'tested'), versions))

    devices = [torch.device('cpu'), *(torch.device('cuda', i) for i in range(torch.cuda.device_count()))]
    rows = [(f'{task} ({library})', said(library_reason(library))) for task, library in TASKS.items()]
    rows.append(("mmcv's compiled operators", said(None if find_spec('mmcv._ext') else 'see docs/install.md')))
    for device in devices:
        name = torch.cuda.get_device_name(device) if device.type == 'cuda' else platform.machine()
        rows.append((f"{device} ({name}): backend 'shift_gemm', the default", said(None)))
        rows.append((f'{device}: channels moved by Triton', said(triton_reason(device))))
        rows.append((f"{device}: backend 'deform_conv'", said(deform_conv_reason(torch.float32, device))))
    print('\n' + markdown(('what', 'can run'), rows))
    print(f'\nPython: {sys.executable}; mmcyclemlp: {Path(__file__).parents[1]}')


def said(reason: Optional[str]) -> str:
    return 'yes' if reason is None else f'no: {reason}'
