"""Whether the libraries a config draws on can be imported."""
from importlib import import_module
from typing import Any, Set

from mmengine import Config

from mmcyclemlp.dependencies import WINDOWS
from mmcyclemlp.errors import MissingDependencyError


def check_scopes(config: Config) -> None:
    """Import the libraries of a config's scopes.

    Raises:
        MissingDependencyError: one is not installed, or needs mmcv's compiled operators, as mmdet does.
    """
    for scope in sorted(_scopes(config) & set(WINDOWS)):
        try:
            import_module(f'{scope}.models')  # `import mmdet` alone needs no operators
        except ModuleNotFoundError as error:
            if error.name == 'mmcv._ext':
                raise MissingDependencyError(
                    f'the config needs {scope}, which needs mmcv with compiled operators, but mmcv was installed '
                    'without them; compile them with `make ops`, or take a ready wheel as the README says under '
                    '"Compiled operators"') from error
            if error.name == scope:
                window = WINDOWS[scope]
                raise MissingDependencyError(
                    f'the config needs {scope}, which is not installed; run '
                    f"`pip install '{window.distribution}>={window.minimum},<{window.below}'`") from error
            raise


def _scopes(section: Any) -> Set[str]:
    """Names under ``default_scope`` and ``_scope_``, at any depth."""
    if isinstance(section, (dict, Config)):
        own = {value for key, value in section.items() if key in ('default_scope', '_scope_')}
        return own.union(*(_scopes(value) for value in section.values()))
    if isinstance(section, (list, tuple)):
        return set().union(*map(_scopes, section))
    return set()
