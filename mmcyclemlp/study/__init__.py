"""Several training runs as one study: its plan, its runs, what they gave, as tables and pictures."""

from .execute import run_study
from .plan import Run, Study, load_study
from .report import write_report

__all__ = ['Run', 'Study', 'load_study', 'run_study', 'write_report']
