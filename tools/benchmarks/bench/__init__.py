"""What the benchmarks share; each module holds one idea."""
import sys
from pathlib import Path

# A checkout works without installation, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
