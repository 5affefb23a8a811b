"""``--cfg-options``: merged into a config after a check of every key; unknown keys are rejected."""

from difflib import get_close_matches
from typing import Any, Dict, List, Optional

from mmengine import Config
from mmengine.registry import DefaultScope

from mmcyclemlp.errors import InputError

from .keys import classes_of, registered_names, section_arguments
from .walk import walk


def apply_options(config: Config, options: Dict[str, Any]) -> None:
    """Merge ``options`` into ``config`` after a check of every key; InputError for the first wrong one."""
    paths = {key: key.split('.') for key in options}
    found = {key: _found(config, path) for key, path in paths.items()}
    for key, value in options.items():
        _check_place(config, key, value)
    config.merge_from_dict(options)
    # Only after the merge: other options may have changed the type that decides.
    scope = config.get('default_scope', None)
    with DefaultScope.overwrite_default_scope(scope):
        for key, path in paths.items():
            if path[-1] == 'type':
                _check_type(config, path, scope)
            if len(found[key]) == len(path) == 1:
                _check_is_read(config, key, scope)
            elif len(found[key]) < len(path):
                _check_key(config, path[: len(found[key])], path[len(found[key])], scope)


def _found(config: Config, path: List[str]) -> List[Any]:
    """What lies at the steps of a path, down to where it leaves the config."""
    section, found = config, []
    for part in path:
        if isinstance(section, (list, tuple)) and part.isdigit() and int(part) < len(section):
            section = section[int(part)]
        elif isinstance(section, (dict, Config)) and part in section:
            section = section[part]
        else:
            break
        found.append(section)
    return found


def _check_place(config: Config, key: str, value: Any) -> None:
    """Raise InputError if the config's structure has no place for this key and value."""
    path = key.split('.')
    if not all(path):
        raise InputError(f'--cfg-options expects dotted keys such as train_cfg.max_epochs, but got {key!r}; correct it')
    found = _found(config, path)
    above, parent = '.'.join(path[: len(found)]), found[-1] if found else config
    for i, section in enumerate(found[: len(path) - 1]):
        if isinstance(section, tuple):
            name = '.'.join(path[: i + 1])
            raise InputError(
                f'--cfg-options {key} leads into {name}, which is a tuple; set it as a whole, {name}="(...)"'
            )
    if len(found) == len(path):
        if isinstance(parent, dict) and value is not None:
            raise InputError(
                f'--cfg-options {key} is a section, but got {value!r}; set a key of it, such as '
                f'{key}.{next(iter(parent), "KEY")}'
            )
        if isinstance(parent, (bool, int, float)) and isinstance(value, str):
            kind = 'True or False' if isinstance(parent, bool) else f'a number such as {parent}'
            raise InputError(f'--cfg-options {key} expects {kind}, but got {value!r}')
    elif isinstance(parent, list):
        raise InputError(
            f'--cfg-options {key} leads into {above}, which is a list of {len(parent)}; expected an index '
            f'from 0 to {len(parent) - 1}, got {path[len(found)]!r}'
        )
    elif not isinstance(parent, (dict, Config)):
        raise InputError(
            f'--cfg-options {key} leads into {above}, which is {parent!r} and has no keys; set {above} '
            'itself, or change the config'
        )


def _check_key(config: Config, path: List[str], key: str, scope: Optional[str]) -> None:
    """Raise InputError if nothing would read a new ``key`` of the section at ``path``."""
    found = _found(config, path)
    section = found[-1] if found else config
    if len(found) < len(path) or key == '_delete_':
        return
    accepted, takes_more = section_arguments(tuple(path), section, scope)
    candidates = accepted | {name for name in section if name != key}
    near = get_close_matches(key, candidates, 1, 0.8 if takes_more else 0.6)
    if key in accepted or (takes_more and not near):
        return
    dotted = '.'.join([*path, ''])
    elsewhere = [place for place in _places(config, key) if place != dotted + key]
    if near or elsewhere:
        hint = f'did you mean {dotted + near[0] if near else " or ".join(elsewhere[:2])}?'
    else:
        hint = 'it takes ' + ', '.join(sorted(name for name in candidates if not name.startswith('_')))
    reader = section.get('type') or '.'.join(path) or 'the runner'
    raise InputError(f'--cfg-options {dotted}{key} is unknown to {reader}; {hint}')


def _check_type(config: Config, path: List[str], scope: Optional[str]) -> None:
    """Raise InputError for a ``type`` that no registry knows."""
    found = _found(config, path)
    if len(found) < len(path) or not isinstance(found[-1], str):
        return
    section = found[-2] if len(found) > 1 else config
    scope = section.get('_scope_', scope)
    if next(classes_of(found[-1], scope), None) is None:
        near = get_close_matches(found[-1], registered_names(scope), 1, 0.75)
        hint = f'did you mean {near[0]}?' if near else 'correct it, or import its module by custom_imports'
        raise InputError(f'--cfg-options {".".join(path)}={found[-1]} is no registered class; {hint}')


def _check_is_read(config: Config, key: str, scope: Optional[str]) -> None:
    """Raise InputError for a variable of the config file that has done its work when the file was read."""
    if key not in section_arguments((), config, scope)[0]:
        places = [place for place in _places(config, key) if place != key]
        hint = f'set {" and ".join(places)}' if places else 'set the keys that it was used for'
        raise InputError(
            f'--cfg-options {key} would change nothing, since it is a mere variable of the config file; {hint} instead'
        )


def _places(config: Config, key: str) -> List[str]:
    """Dotted paths of a config that end in ``key``."""
    return [f'{path}.{key}' if path else key for path, section in walk(config) if key in section]
