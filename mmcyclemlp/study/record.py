"""What lies in the folder of a run of a study."""

import json
import shutil
from pathlib import Path
from typing import Dict, List, Optional

from mmcyclemlp.errors import InputError
from mmcyclemlp.files import write_json
from mmcyclemlp.tables import read_csv

from .plan import Run

STARTED, FINISHED, FAILED = 'started', 'finished', 'failed'
Row = Dict[str, float]  # a row of curves.csv, without empty cells


def read_curves(path: Path) -> List[Row]:
    """Rows of a ``curves.csv``; none if there is no such file."""
    return [{name: float(value) for name, value in row.items()} for row in read_csv(path)]


class RunFolder:
    """The folder of a run: the files of tools/train.py, and a record of settings, state and time.

    Attributes:
        path (Path): the folder.
        state (str, optional): ``started``, ``finished`` or ``failed``; None before the first start.
        seconds (float): time spent on the epochs so far, in all sessions.
    """

    def __init__(self, run: Run, work_dir: Path):
        self.run = run
        self.path = work_dir / run.folder
        self._record = self.path / 'study.json'
        content = json.loads(self._record.read_text()) if self._record.is_file() else {}
        self.state: Optional[str] = content.get('state')
        self.seconds: float = content.get('seconds', 0.0)
        self._settings: Optional[str] = content.get('settings')

    def check(self) -> None:
        """Raise InputError if the folder holds anything but this run under these settings."""
        if self.path.is_dir() and any(self.path.iterdir()) and self._settings != self.run.settings:
            raise InputError(
                f'{self.path} holds {"the run under other settings" if self._settings else "no run"} of '
                f'the study; remove it, or give another --work-dir'
            )

    def curves(self) -> List[Row]:
        return read_curves(self.path / 'curves.csv')

    @property
    def epochs(self) -> int:
        """Epochs whose row is written."""
        rows = self.curves()
        return int(rows[-1]['epoch']) if rows else 0

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is one to resume from."""
        return any(self.path.glob('epoch_*.pth')) or (self.path / 'stopped.pth').is_file()

    def start(self) -> bool:
        """Prepare the folder for a session; whether there is a checkpoint to resume from. If not, it is cleared."""
        resumes = self.has_checkpoint
        if not resumes:
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir(parents=True)
        self.write(STARTED, self.seconds if resumes else 0.0)
        return resumes

    def write(self, state: str, seconds: float) -> None:
        """Write the record."""
        self.state, self.seconds = state, seconds
        write_json(self._record, dict(settings=self.run.settings, state=state, seconds=round(seconds, 1)))
