"""What the benchmarks share; each module holds one idea."""
import os
import sys
from pathlib import Path

# A checkout works without installation, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
# The profiler's library announces itself on stderr otherwise.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')
