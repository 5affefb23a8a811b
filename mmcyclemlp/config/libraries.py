"""Check that the libraries a config needs can be imported."""

import logging
import warnings
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Iterator, Optional

from mmengine import Config

from mmcyclemlp.dependencies import LIBRARIES, check_library
from mmcyclemlp.errors import InputError, MissingDependencyError

from .walk import walk


def check_scopes(config: Config) -> None:
    """Import the libraries of a config's scopes.

    Raises:
        InputError: ``default_scope`` is no library.
        MissingDependencyError: one is not installed, or needs mmcv's compiled operators, as mmdet does.
    """
    default = config.get('default_scope')
    if default is not None and not (isinstance(default, str) and default.isidentifier() and find_spec(default)):
        raise InputError(f'default_scope is {default!r}; expected mmpretrain, mmdet or mmseg, the library of the task')
    scopes = {section[key] for _, section in walk(config) for key in ('default_scope', '_scope_') if key in section}
    for scope in sorted(scopes & set(LIBRARIES) - {'mmengine', 'mmcv'}):  # which have no models of their own
        check_library(scope)
        reason = library_reason(scope)
        if reason is not None:
            raise MissingDependencyError(f'the config needs {scope}, but {reason}')


def library_reason(name: str) -> Optional[str]:
    """Why the models of a library cannot be imported, or None."""
    try:
        with _quiet():
            import_module(f'{name}.models')  # `import mmdet` alone needs no operators
    except ModuleNotFoundError as error:
        if error.name == name:
            return f"it is not installed; run `pip install '{LIBRARIES[name][0]}'`"
        if error.name == 'mmcv._ext':
            return (
                'mmcv was installed without its compiled operators; compile them with `make ops`, or install a ready '
                'wheel (docs/install.md, "Compiled operators")'
            )
        raise
    except AssertionError as error:  # of its own about the versions of mmcv and mmengine
        return f'it refuses what is installed ({error})'
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without operators, mmcv and mmdet tell everyone at import that some layer needs them."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(level)
