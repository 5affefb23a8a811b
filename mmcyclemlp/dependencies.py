"""The OpenMMLab packages that mmcyclemlp was tested with, and the check that they are what is installed."""

from importlib import metadata
from typing import Dict, NamedTuple, Optional

from packaging.version import Version

from .errors import MissingDependencyError


class Window(NamedTuple):
    """Tested versions: ``minimum <= version < below``."""

    distribution: str  # the maintained fork
    upstream: str  # the distribution it replaces, with the same import name
    minimum: str
    below: str
    required: bool


# Import name -> window; requirements/{mminstall,optional}.txt hold the same numbers.
WINDOWS: Dict[str, Window] = {
    'mmengine': Window('onedl-mmengine', 'mmengine', '0.10.12', '0.11', True),
    'mmcv': Window('onedl-mmcv', 'mmcv', '2.3.6', '2.4', True),
    'mmpretrain': Window('onedl-mmpretrain', 'mmpretrain', '1.3.6', '1.4', False),
    'mmdet': Window('onedl-mmdetection', 'mmdet', '3.5.1', '3.6', False),
    'mmseg': Window('onedl-mmsegmentation', 'mmsegmentation', '1.4.2', '1.5', False),
}


def installed_version(distribution: str) -> Optional[str]:
    """Version of an installed distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def check_versions() -> None:
    """Raise MissingDependencyError for a required package that is missing and any outside its window."""
    for name, window in WINDOWS.items():
        command = f"pip install '{window.distribution}>={window.minimum},<{window.below}'"
        upstream = installed_version(window.upstream)
        if upstream is not None:
            raise MissingDependencyError(
                f'mmcyclemlp needs {window.distribution}, which replaces {window.upstream} under the same import '
                f'name, but {window.upstream} {upstream} is installed; run `pip uninstall -y {window.upstream}` '
                f'and `{command}`'
            )
        version = installed_version(window.distribution)
        if version is None:
            if window.required:
                raise MissingDependencyError(f'mmcyclemlp needs {name}, which is not installed; run `{command}`')
        elif not Version(window.minimum) <= Version(version) < Version(window.below):
            raise MissingDependencyError(
                f'mmcyclemlp was tested with {window.distribution} from {window.minimum} to '
                f'below {window.below}, but {version} is installed; run `{command}`'
            )
