"""What the benchmarks share; each module holds one idea."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # a checkout works without installation, from any folder
os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # the profiler's library announces itself on stderr otherwise
