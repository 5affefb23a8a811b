"""`make soak`: what the tests do a few times, for long.

    python -m tests.soak [--kills 40] [--examples 2000] [--minutes 10] [--seed 0]

Exits with 1 if a killed run ended otherwise than one that never stopped, an operator differs from its definition, or a
reader raised anything but an InputError or crashed.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from mmcyclemlp.checks import newest_checkpoint

from . import mutations, operators
from .kills import CONFIGS, differences, end, killed_in_write, log, start, write_config

WHEN = ('half', 'before', 'after')
OPTIONS = '--deterministic', '--work-dir'


def kills(folder: Path, number: int, draw: random.Random) -> int:
    """Kill ``number`` runs, half of them in a write and half at any time, resume them and compare; returns failures."""
    failed, straight = 0, {}
    for i in range(number):
        name = list(CONFIGS)[i // 2 % len(CONFIGS)]
        if name not in straight:
            begun, config = time.monotonic(), write_config(folder, name)
            if end(start(folder, [config, *OPTIONS, name])):
                raise RuntimeError(f'{name} does not run at all:\n{log(folder)}')
            straight[name] = config, time.monotonic() - begun
        config, seconds = straight[name]
        args, how, times = [config, *OPTIONS, f'{name}-{i}'], '', 0
        while True:  # until the run is through; a second kill hits what the first resumed
            resume = ['--resume'] if newest_checkpoint(folder / args[-1]) else []
            if times == 1 + i % 4 // 3:
                status = end(start(folder, [*args, *resume]))
                break
            if i % 2:
                count, when = draw.randint(1, 14), draw.choice(WHEN)
                process = start(folder, [*args, *resume], killed_in_write(count, when))
                how += f' write {count} ({when})'
            else:
                process, wait = start(folder, [*args, *resume]), draw.uniform(0, seconds)
                how += f' after {wait:.2f} s'
                time.sleep(wait)
                os.kill(process, signal.SIGKILL)  # not awaited yet, so it is there even if it has ended
            end(process)
            times += 1
        found = [f'status {status}'] if status else differences(folder / name, folder / args[-1])
        failed += bool(found)
        print(f'kill {i + 1:2} of {name}:{how}: {"; ".join(found) or "equal to the bit"}', flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=40)
    parser.add_argument('--examples', type=int, default=2000, help='of each operator')
    parser.add_argument('--minutes', type=float, default=10, help='of damaged files')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    draw, failed = random.Random(args.seed), Counter()
    with tempfile.TemporaryDirectory() as folder:
        if args.minutes:
            failed['damaged files'] = mutations.run(Path(folder), 60 * args.minutes, draw)
        if args.kills:
            failed['kills'] = kills(Path(folder), args.kills, draw)
        if args.examples:
            failed['operators'] = operators.run(args.examples)
    print('failed:', dict(failed))
    return int(any(failed.values()))


if __name__ == '__main__':
    sys.exit(main())
