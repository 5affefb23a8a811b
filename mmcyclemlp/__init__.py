"""CycleMLP on the OpenMMLab libraries; importing it registers the backbone."""

from .dependencies import check_versions
from .version import __version__

check_versions()

from . import models  # noqa: E402

__all__ = ['__version__', 'models']
