"""What other libraries find once mmcyclemlp is imported, without importing them for it."""

import importlib.util
import sys
import warnings
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Callable, Dict, Optional, Set

from mmengine.config.utils import MODULE2PACKAGE

from .errors import named
from .files import PROJECT


def integrate() -> None:
    """Let timm, mmpretrain and mmengine know the models and configs, now or as soon as they are imported."""
    # Packages that bases such as `mmseg::...` are looked for in. mmengine knows mmseg's by the name of the upstream
    # distribution, which is not installed.
    MODULE2PACKAGE.update(mmseg='mmseg', mmcyclemlp='mmcyclemlp')
    if not any(isinstance(finder, _Afterwards) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Afterwards({'timm.models': _in_timm, 'mmpretrain.apis.model': _in_mmpretrain}))


def _in_timm() -> None:
    importlib.import_module('mmcyclemlp.timm_models')


def _in_mmpretrain() -> None:
    from mmpretrain.apis.model import ModelHub

    ModelHub.register_model_index(PROJECT / 'model-index.yml', config_prefix=PROJECT)


def _attempt(name: str, action: Callable[[], None]) -> None:
    """An action that fails, as with a library that is too old, must not keep that library from being imported."""
    try:
        action()
    except (AttributeError, ImportError, OSError, TypeError, ValueError) as error:
        warnings.warn(f'{name} does not know the models of mmcyclemlp ({named(error)})', stacklevel=2)


class _Afterwards(MetaPathFinder):
    """Calls a function after a module is first imported."""

    def __init__(self, actions: Dict[str, Callable[[], None]]):
        self._actions = {name: action for name, action in actions.items() if name not in sys.modules}
        self._asked: Set[str] = set()
        for name in actions.keys() - self._actions.keys():
            _attempt(name, actions[name])

    def find_spec(self, name: str, path: Any = None, target: Optional[ModuleType] = None) -> Optional[ModuleSpec]:
        if name not in self._actions or name in self._asked:
            return None
        self._asked.add(name)
        try:
            spec = importlib.util.find_spec(name)  # by the other finders
        finally:
            self._asked.discard(name)
        if not spec or not spec.loader:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if action := self._actions.pop(name, None):  # a spec alone may be asked for before
                _attempt(name, action)

        vars(spec.loader)['exec_module'] = exec_module
        return spec
