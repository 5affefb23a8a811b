#!/usr/bin/env python
"""torchrun, after which the error of the process that failed is the last on the screen, and its status that of all.

dist_train.sh and dist_test.sh call it with torchrun's arguments.
"""

import logging
import signal
import sys

from torch.distributed import DistError, run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousError


def main() -> int:
    logging.disable()  # in this process only
    try:
        run.main()
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        if failure.exitcode > 0:
            return failure.exitcode
        name = signal.Signals(-failure.exitcode).name
        print(f'error: process {rank} was ended by {name}, and all others with it', file=sys.stderr)
        return 128 - failure.exitcode
    except SignalException as stopped:
        return 128 + stopped.sigval
    except (DistError, RendezvousError) as error:
        reason = str(error).splitlines()[0]
        print(
            f'error: the processes could not be brought together ({reason}); check that PORT is free, and on several '
            'machines that each runs this with its own NODE_RANK and the same NNODES, MASTER_ADDR and PORT',
            file=sys.stderr,
        )
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
