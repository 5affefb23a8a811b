"""Where and with what a number was measured."""
import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

import mmcyclemlp

REPO = Path(__file__).resolve().parents[3]
DISTRIBUTIONS = ('torch', 'torchvision', 'triton', 'onedl-mmengine', 'onedl-mmcv', 'timm')


def device_name(device: torch.device) -> str:
    """The model of a processor and its number of cores; no name of a machine."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    info = Path('/proc/cpuinfo')
    if info.exists():
        model = next((line.split(':', 1)[1].strip() for line in info.read_text().splitlines()
                      if line.startswith('model name')), model)
    return f'{model}, {os.cpu_count()} cores'


def versions() -> str:
    """Versions of what the numbers depend on, in one line."""
    found = [f'python {platform.python_version()}', f'mmcyclemlp {mmcyclemlp.__version__}']
    for name in DISTRIBUTIONS:
        try:
            found.append(f'{name} {metadata.version(name)}')
        except metadata.PackageNotFoundError:
            continue
    if torch.cuda.is_available():
        found.append(f'CUDA {torch.version.cuda}')
    return '; '.join(found)


def commit() -> str:
    """The commit measured, with ``+`` where files differ from it; outside a checkout, ``$MMCYCLEMLP_COMMIT``."""
    if os.environ.get('MMCYCLEMLP_COMMIT'):
        return os.environ['MMCYCLEMLP_COMMIT']
    try:
        head = _git('rev-parse', '--short=12', 'HEAD')
        return head + ('+' if _git('status', '--porcelain', '--', 'mmcyclemlp', 'tools/benchmarks') else '')
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'


def _git(*arguments: str) -> str:
    return subprocess.run(['git', *arguments], cwd=REPO, check=True, capture_output=True, text=True).stdout.strip()


def today() -> str:
    """The date, UTC."""
    return datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%d')
