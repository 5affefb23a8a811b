"""What goes wrong with one image, as a sentence that names it; a bound that makes a lack of memory such an error."""

import os
import re
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional

import cv2
import torch

from mmcyclemlp.config.building import is_own
from mmcyclemlp.errors import InputError, named

# What pipelines, models and drawing raise for a single image. Others are faults of the program and keep a traceback.
OF_AN_IMAGE = (AssertionError, ArithmeticError, IndexError, MemoryError, RuntimeError, ValueError, cv2.error)
SPARE = 256 << 20  # bytes that the rest of the machine keeps


@contextmanager
def about(source: str) -> Iterator[None]:
    """Turn what may be wrong with one image into an InputError that names it."""
    try:
        yield
    except InputError as error:
        if source in str(error):
            raise
        raise InputError(f'could not predict on {source}: {error}') from error
    except OF_AN_IMAGE as error:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        reason = named(error)[:200]
        if isinstance(error, MemoryError) or re.search('memory|bad_alloc', reason, re.IGNORECASE):
            raise InputError(
                f'could not predict on {source}: it needs more memory than this machine has left; make the image '
                'smaller, or resize it in the test pipeline'
            ) from error
        raise InputError(f'could not predict on {source} ({reason}); check the image, or leave it out') from error
    except (AttributeError, KeyError, TypeError) as error:
        if is_own([frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]):
            raise
        raise InputError(
            f'could not predict on {source} ({named(error):.200}); let the test pipeline give what the model needs, '
            'such as by meta_keys of its last step'
        ) from error


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Let allocations beyond the machine's memory fail, so that one image is named; else Linux kills the process."""
    free = _free_memory()
    if free is None:
        yield
        return
    import resource

    used = int(re.search(r'VmData:\s*(\d+)', Path('/proc/self/status').read_text())[1]) << 10
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = used + max(free - SPARE, 0)
    limits = [limit for limit in (wanted, soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _free_memory() -> Optional[int]:
    """Bytes that this process may still take, on Linux without a GPU; None elsewhere."""
    if torch.cuda.is_available() or not os.path.isfile('/proc/meminfo'):
        return None
    lines = dict(re.findall(r'(\w+):\s*(\d+)', Path('/proc/meminfo').read_text()))
    free = (int(lines['MemAvailable']) + int(lines['SwapFree'])) << 10
    group = Path('/sys/fs/cgroup')
    try:  # a container's own bound
        most, used = (int((group / f'memory.{name}').read_text()) for name in ('max', 'current'))
        files = int(re.search(r'^inactive_file (\d+)', (group / 'memory.stat').read_text(), re.MULTILINE)[1])
        return min(free, most - used + files)
    except (OSError, ValueError):  # no such file, or "max"
        return free
