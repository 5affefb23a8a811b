"""Starting the processes of a run, with or without GPUs."""

import logging
import multiprocessing
import os
import subprocess
import sys
from datetime import timedelta
from typing import Dict, Optional, Tuple

import torch
import torch.distributed
from mmengine.device import get_device

from mmcyclemlp.errors import InputError

VARIABLES = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')
# Launcher -> how to start through it, and its own names of these variables.
LAUNCHERS: Dict[str, Tuple[str, Tuple[str, ...]]] = {
    'pytorch': ('tools/dist_train.sh or torchrun', VARIABLES),
    'slurm': ('tools/slurm_train.sh or srun', ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID')),
}


def init_processes(launcher: str, local_rank: Optional[int] = None, timeout: float = 1800) -> None:
    """Join the processes that a launcher started.

    On GPUs mmengine's Runner does the joining. Without them its choice of a CUDA device fails, so the processes
    are joined here over gloo. ``local_rank`` is what old launchers hand over as an argument, ``timeout`` the seconds
    for which a process waits for another.

    Raises:
        InputError: the launcher's variables are not in the environment, or there are fewer GPUs than processes.
    """
    if local_rank is not None:
        os.environ.setdefault('LOCAL_RANK', str(local_rank))
    if launcher == 'none':
        return
    how, sources = LAUNCHERS[launcher]
    for name, source in zip(VARIABLES, sources):
        if source not in os.environ:
            raise InputError(
                f'--launcher {launcher} expects to be started by it, but {source} is not in the '
                f'environment; start through {how}, or leave --launcher out for one process'
            )
        os.environ[name] = os.environ[source]  # mmengine reads LOCAL_RANK under every launcher
    if get_device() == 'cpu':
        _join_over_gloo(launcher, timeout)
    elif get_device() == 'cuda' and int(os.environ['LOCAL_RANK']) >= torch.cuda.device_count():
        raise InputError(
            f'expected one GPU a process, but process {int(os.environ["LOCAL_RANK"]) + 1} of this machine '
            f'found {torch.cuda.device_count()}; start as many processes as there are GPUs'
        )


def leave_processes(status: int = 0) -> None:
    """End a distributed run, and with it the process; nothing may come after.

    gloo aborts a process whose peer is gone before it, hence the barrier. It also aborts now and then while the
    interpreter takes its threads apart ("terminate called without an active exception"), hence no such end.
    """
    if not torch.distributed.is_initialized():
        return
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    for child in multiprocessing.active_children():  # that load data
        child.terminate()
    logging.shutdown()
    print(end='', flush=True)
    print(end='', flush=True, file=sys.stderr)
    os._exit(status)


def _join_over_gloo(launcher: str, timeout: float) -> None:
    os.environ.setdefault('MASTER_PORT', '29500')
    if launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
        os.environ['MASTER_ADDR'] = _slurm_host()
    if 'OMP_NUM_THREADS' not in os.environ:
        # Processes that each take all cores stall one another.
        here = os.environ.get('LOCAL_WORLD_SIZE') or os.environ.get('SLURM_NTASKS_PER_NODE') or os.environ['WORLD_SIZE']
        threads = max(1, len(os.sched_getaffinity(0)) // int(here))
        os.environ['OMP_NUM_THREADS'] = str(threads)
        torch.set_num_threads(threads)
    os.environ.setdefault('MKL_NUM_THREADS', os.environ['OMP_NUM_THREADS'])  # mmengine warns where it is not set
    torch.distributed.init_process_group('gloo', timeout=timedelta(seconds=timeout))


def _slurm_host() -> str:
    """First host of the job."""
    command = ['scontrol', 'show', 'hostnames', os.environ['SLURM_JOB_NODELIST']]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]
