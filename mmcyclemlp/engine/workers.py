"""Processes that load data: no one but their parent ends them."""

import os
import signal
import threading
from typing import Callable, Optional


class Obedient:
    """``worker_init_fn`` by which SIGTERM ends a worker only if its parent sent it.

    Slurm, systemd and ``pkill`` signal all processes of a run at once. PyTorch's workers would end, and their parent
    with an error before it has saved.
    """

    def __init__(self, before: Optional[Callable[[int], None]]):
        self.before = before

    def __call__(self, worker_id: int) -> None:
        if self.before is not None:
            self.before(worker_id)
        if hasattr(signal, 'sigwaitinfo'):  # which tells the sender; a Mac has none
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Thread(target=_wait_for, args=(os.getppid(),), daemon=True).start()


def _wait_for(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
