"""The keys that a section of a config may hold: those that its class, or its reader in mmengine, accepts."""

import ast
import contextlib
import inspect
import textwrap
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Callable, Iterator, List, Optional, Set, Tuple

from mmengine import Config
from mmengine import registry as registries
from mmengine.registry import Registry
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, LogProcessor, Runner, TestLoop, ValLoop
from torch.utils.data import DataLoader

from .walk import walk

# Keys that mmengine removes before it builds an object of the registry.
TAKEN_OUT = {
    registries.HOOKS: {'priority'},
    registries.OPTIM_WRAPPERS: {'constructor', 'paramwise_cfg'},
    registries.PARAM_SCHEDULERS: {'convert_to_iter_based'},
}

# Read from the config by mmengine or the tools beside Runner's own arguments.
TOP_LEVEL_EXTRAS = {
    'activation_checkpointing',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
}


def arguments_of(function: Callable) -> Tuple[Set[str], bool]:
    """Keyword arguments of a function, or of a class and those bases to which it passes its ``**kwargs``.

    Returns:
        tuple[set[str], bool]: the names, and whether any other name is accepted too (``**kwargs`` that go elsewhere).
    """
    if not inspect.isclass(function):
        return _parameters(function)
    names: Set[str] = set()
    for base in inspect.getmro(function):
        init = base.__dict__.get('__init__')
        if init is None or base is object:
            continue
        own, takes_more = _parameters(init)
        names |= own
        if not takes_more or not _hands_up(init):
            return names, takes_more
    return names, False


def classes_of(name: str, scope: Optional[str]) -> Iterator[Tuple[Callable, Set[str]]]:
    """All that a config's ``type`` may mean under a scope, each with the keys that mmengine takes out."""
    for registry in _registries(scope):
        found = registry.get(name)
        if found is not None:
            yield found, TAKEN_OUT.get(registry.root, set())


def registered_names(scope: Optional[str]) -> Set[str]:
    """All names that a ``type`` without a scope may have under ``scope``."""
    names: Set[str] = set()
    for registry in _registries(scope):
        registry.import_from_location()
        names |= {*registry.module_dict, *registry.root.module_dict}
    return names


def _registries(scope: Optional[str]) -> Iterator[Registry]:
    """The registries of a scope, or mmengine's own where it has none."""
    own = []
    if scope:
        with contextlib.suppress(ImportError):  # of a scope that is not installed
            own = [value for value in vars(import_module(f'{scope}.registry')).values() if isinstance(value, Registry)]
    roots = [value for value in vars(registries).values() if isinstance(value, Registry)]
    yield from own
    yield from (root for root in roots if root not in [registry.root for registry in own])


def section_arguments(path: Tuple[str, ...], section: dict, scope: Optional[str]) -> Tuple[Set[str], bool]:
    """Keys that the section at ``path`` of a config may hold, as :func:`arguments_of` gives them."""
    if not path:
        return arguments_of(Runner)[0] - {'cfg'} | TOP_LEVEL_EXTRAS, False
    if isinstance(section.get('type'), str):
        names, takes_more, known = {'_scope_'}, False, False
        for found, extras in classes_of(section['type'], section.get('_scope_', scope)):
            own, more = arguments_of(found)
            names, takes_more, known = names | own | extras, takes_more or more, True
        return names, takes_more or not known
    reader = _reader(path, section)
    return (reader | {'type'}, False) if reader is not None else (set(), True)


def is_read(config: Config, key: str, scope: Optional[str]) -> bool:
    """Whether the Runner reads a top-level key; it takes a data_preprocessor only for a model without one."""
    given = key == 'data_preprocessor' and 'data_preprocessor' in (config.get('model') or {})
    return key in section_arguments((), config, scope)[0] and not given


def read_sections(config: Config) -> Iterator[Any]:
    """The walk through a config without the variables of its file."""
    scope = config.get('default_scope', None)
    for path, section in walk(config):
        if not path:
            yield path, {key: value for key, value in section.items() if is_read(config, key, scope)}
        elif is_read(config, path.split('.')[0], scope):
            yield path, section


def places_of(config: Config, key: str) -> List[str]:
    """Dotted paths that end in ``key`` and are read."""
    return [f'{path}.{key}' if path else key for path, section in read_sections(config) if key in section]


def unknown_key(config: Config, path: str, key: str, scope: Optional[str]) -> Optional[str]:
    """The sentence for a ``key`` of the section at a dotted ``path`` that nothing reads; None if it may be read."""
    section = next(found for where, found in walk(config) if where == path)
    accepted, takes_more = section_arguments(tuple(filter(None, path.split('.'))), section, scope)
    candidates = accepted | (set(section) - {key})
    near = get_close_matches(key, candidates, 1, 0.8 if takes_more else 0.6)
    if key in accepted or (takes_more and not near):
        return None
    dotted = f'{path}.' if path else ''
    elsewhere = [place for place in places_of(config, key) if place != dotted + key]
    if near or elsewhere:
        hint = f'did you mean {dotted + near[0] if near else " or ".join(elsewhere[:2])}?'
    else:
        hint = 'it takes ' + ', '.join(sorted(name for name in candidates if not name.startswith('_')))
    return f'{dotted}{key} is unknown to {section.get("type") or path or "the runner"}; {hint}'


def no_class(place: str, name: str, scope: Optional[str]) -> str:
    """The sentence for a ``type`` that no registry knows."""
    near = get_close_matches(name, registered_names(scope), 1, 0.75)
    hint = f'did you mean {near[0]}?' if near else 'correct it, or import its module by custom_imports'
    return f'{place}={name} is no registered class; {hint}'


def _reader(path: Tuple[str, ...], section: dict) -> Optional[Set[str]]:
    """Keys of a section without ``type`` that mmengine reads itself, or None."""
    if len(path) > 1:
        return None
    name = path[0]
    if name in ('train_cfg', 'val_cfg', 'test_cfg'):
        by_epoch = section.get('by_epoch', True)
        loop = dict(
            train_cfg=EpochBasedTrainLoop if by_epoch else IterBasedTrainLoop, val_cfg=ValLoop, test_cfg=TestLoop
        )[name]
        own = arguments_of(loop)[0] - {'runner', 'dataloader', 'evaluator'}
        return own | {'by_epoch'} if name == 'train_cfg' else own
    if name.endswith('_dataloader'):
        return arguments_of(DataLoader)[0] | {'num_batch_per_epoch'}
    if name in ('randomness', 'log_processor'):
        return arguments_of(LogProcessor if name == 'log_processor' else Runner.set_randomness)[0]
    return {
        'auto_scale_lr': {'base_batch_size', 'enable'},
        'custom_imports': {'allow_failed_imports', 'imports'},
        'env_cfg': {'cudnn_benchmark', 'dist_cfg', 'mp_cfg', 'resource_limit'},
    }.get(name)


def _parameters(function: Callable) -> Tuple[Set[str], bool]:
    """Names that can be given by keyword, and whether there is a ``**kwargs``."""
    parameters = inspect.signature(function).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = {parameter.name for parameter in parameters if parameter.kind in kinds} - {'self'}
    return names, any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)


def _hands_up(init: Callable) -> bool:
    """Whether an ``__init__`` passes its ``**kwargs`` on to another ``__init__``."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(init)))
    except (OSError, TypeError):  # no source to read
        return False
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    return any(call.func.attr == '__init__' and any(keyword.arg is None for keyword in call.keywords) for call in calls)
