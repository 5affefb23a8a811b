"""Check that the libraries a config needs can be imported."""

from importlib import import_module

from mmengine import Config

from mmcyclemlp.dependencies import WINDOWS
from mmcyclemlp.errors import MissingDependencyError

from .walk import walk


def check_scopes(config: Config) -> None:
    """Import the libraries of a config's scopes.

    Raises:
        MissingDependencyError: one is not installed, or needs mmcv's compiled operators, as mmdet does.
    """
    scopes = {section[key] for _, section in walk(config) for key in ('default_scope', '_scope_') if key in section}
    for scope in sorted(scopes & set(WINDOWS)):
        try:
            import_module(f'{scope}.models')  # `import mmdet` alone needs no operators
        except ModuleNotFoundError as error:
            if error.name == 'mmcv._ext':
                raise MissingDependencyError(
                    f'the config needs {scope}, which needs mmcv with compiled operators, but mmcv was installed '
                    'without them; compile them with `make ops`, or install a ready wheel (docs/install.md, '
                    '"Compiled operators")'
                ) from error
            if error.name == scope:
                window = WINDOWS[scope]
                raise MissingDependencyError(
                    f'the config needs {scope}, which is not installed; run '
                    f"`pip install '{window.distribution}>={window.minimum},<{window.below}'`"
                ) from error
            raise
