"""The OpenMMLab libraries: the versions that mmcyclemlp was tested with, the check of what is installed, and yapf."""

import importlib
import pickle
import warnings
from importlib import metadata
from pathlib import Path
from typing import Dict, NamedTuple, Tuple

from packaging.version import Version

from .errors import MissingDependencyError


class Tested(NamedTuple):
    """A distribution and its tested versions, ``minimum <= version < below``; none where both are empty."""

    distribution: str
    minimum: str
    below: str

    def __str__(self) -> str:
        return f'{self.distribution}>={self.minimum},<{self.below}'


# Import name -> the maintained fork, as in requirements/, then upstream distributions of the same import name.
LIBRARIES: Dict[str, Tuple[Tested, ...]] = {
    'mmengine': (Tested('onedl-mmengine', '0.10.12', '0.11'), Tested('mmengine', '0.10.7', '0.11')),
    'mmcv': (Tested('onedl-mmcv', '2.3.6', '2.4'), Tested('mmcv-lite', '2.1.0', '2.3'), Tested('mmcv', '2.1.0', '2.2')),
    'mmpretrain': (Tested('onedl-mmpretrain', '1.3.6', '1.4'), Tested('mmpretrain', '1.2.0', '1.3')),
    'mmdet': (Tested('onedl-mmdetection', '3.5.1', '3.6'), Tested('mmdet', '', '')),
    'mmseg': (Tested('onedl-mmsegmentation', '1.4.2', '1.5'), Tested('mmsegmentation', '', '')),
}


def installed_version(distribution: str) -> str:
    """Version of an installed distribution, or an empty string."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ''


def installed(name: str) -> Dict[Tested, str]:
    """Versions of the distributions that provide the library of an import name."""
    versions = {tested: installed_version(tested.distribution) for tested in LIBRARIES[name]}
    return {tested: version for tested, version in versions.items() if version}


def check_library(name: str) -> None:
    """Warn of a library, by import name, in versions without tests, or from two distributions at once.

    Raises:
        MissingDependencyError: it is not installed.
    """
    found, fork = installed(name), LIBRARIES[name][0]
    if not found:
        raise MissingDependencyError(f"mmcyclemlp needs {name}, which is not installed; run `pip install '{fork}'`")
    if len(found) > 1:
        names = [tested.distribution for tested in found]
        warnings.warn(
            f'{" and ".join(names)} overwrite each other, since both are imported as {name}; run '
            f"`pip uninstall -y {' '.join(names)}` and `pip install '{fork}'`",
            stacklevel=2,
        )
    for tested, version in found.items():
        if not tested.minimum or not Version(tested.minimum) <= Version(version) < Version(tested.below):
            warnings.warn(
                f'mmcyclemlp was not tested with {tested.distribution} {version}; if something fails, try '
                f"`pip install '{tested if tested.minimum else fork}'`",
                stacklevel=2,
            )


def import_yapf() -> None:
    """Import yapf, which mmengine writes configs with, also where the cache of its grammar is cut off.

    yapf 0.43 gives that cache its name before all of it is written. A process that reads it in the meantime, such as
    another one of a distributed run, fails; if the first one is killed just then, all others fail from then on. The
    cache is removed here, and yapf makes another. It is in ``platformdirs.user_cache_dir('YAPF')``.
    """
    for attempts_left in (2, 1, 0):
        try:
            importlib.import_module('yapf.yapflib.yapf_api')
            return
        except (EOFError, FileNotFoundError, pickle.UnpicklingError):
            if not attempts_left:
                raise
            from platformdirs import user_cache_dir  # comes with yapf

            for path in Path(user_cache_dir('YAPF', 'Google', installed_version('yapf'))).glob('*.pickle'):
                path.unlink(missing_ok=True)
