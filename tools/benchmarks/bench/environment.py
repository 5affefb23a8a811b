"""Where and with what a number was measured."""
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Optional

import torch

CPUINFO = Path('/proc/cpuinfo')
DISTRIBUTIONS = ('mmcyclemlp', 'torch', 'torchvision', 'triton', 'onedl-mmengine', 'onedl-mmcv', 'timm')


def device_name(device: torch.device) -> str:
    """The model of a processor and its number of cores; no name of a machine."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    model = next((line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')),
                 platform.processor() or platform.machine())
    return f'{model}, {os.cpu_count()} cores'


def bf16_reason(device: torch.device) -> Optional[str]:
    """Why bfloat16 is not worth a measurement on a device, or None."""
    if device.type == 'cpu' and CPUINFO.exists() and not {'avx512_bf16', 'amx_bf16'} & {*CPUINFO.read_text().split()}:
        return 'this processor has no products in bfloat16 (neither avx512_bf16 nor amx_bf16 in /proc/cpuinfo)'
    return None


def versions() -> str:
    """Versions of what the numbers depend on, in one line."""
    installed = {found.name: found.version for found in metadata.distributions()}
    found = [f'python {platform.python_version()}', *(f'{n} {installed[n]}' for n in DISTRIBUTIONS if n in installed)]
    return '; '.join(found + [f'CUDA {torch.version.cuda}'] * torch.cuda.is_available())


def commit() -> str:
    """The commit measured, with ``+`` where files differ from it; outside a checkout, ``$MMCYCLEMLP_COMMIT``."""

    def git(*arguments: str) -> str:
        return subprocess.run(['git', '-C', Path(__file__).parent, *arguments], check=True, capture_output=True,
                              text=True).stdout.strip()

    if os.environ.get('MMCYCLEMLP_COMMIT'):
        return os.environ['MMCYCLEMLP_COMMIT']
    try:
        changed = git('status', '--porcelain', '--', ':/mmcyclemlp', ':/tools/benchmarks')
        return git('rev-parse', '--short=12', 'HEAD') + '+' * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
