"""``--cfg-options``: merged into a config after a check of every key; unknown keys are rejected."""

from typing import Any, Dict, List, Optional

from mmengine import Config, DictAction
from mmengine.registry import DefaultScope

from mmcyclemlp.errors import InputError

from .keys import classes_of, is_read, no_class, places_of, read_sections, unknown_key


class Typed(str):
    """A value as it was typed; what it means depends on the value that it replaces."""


def apply_options(config: Config, options: Dict[str, Any]) -> None:
    """Merge ``options`` into ``config`` after a check of every key; InputError for the first wrong one."""
    paths = {key: key.split('.') for key in options}
    found = {key: _found(config, path) for key, path in paths.items()}
    for key, value in options.items():
        if isinstance(value, Typed):
            present = found[key][-1] if len(found[key]) == len(paths[key]) else None
            options = {**options, key: meaning(str(value), present, f'{key}={value}')}
    scope = config.get('default_scope', None)
    for key, value in options.items():
        _check_place(config, key, value)
        if found[key]:
            _check_is_read(config, paths[key], scope)
    config.merge_from_dict(options)
    # Only after the merge: other options may have changed the type that decides.
    with DefaultScope.overwrite_default_scope(scope):
        for key, path in paths.items():
            if path[-1] == 'type':
                _check_type(config, path, scope)
            if len(found[key]) < len(path):
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
    if len(_found(config, path)) < len(path) or key == '_delete_':
        return
    told = unknown_key(config, '.'.join(path), key, scope)
    if told:
        raise InputError(f'--cfg-options {told}')


def _check_type(config: Config, path: List[str], scope: Optional[str]) -> None:
    """Raise InputError for a ``type`` that no registry knows."""
    found = _found(config, path)
    if len(found) < len(path) or not isinstance(found[-1], str):
        return
    section = found[-2] if len(found) > 1 else config
    scope = section.get('_scope_', scope)
    if next(classes_of(found[-1], scope), None) is None:
        raise InputError(f'--cfg-options {no_class(".".join(path), found[-1], scope)}')


def _check_is_read(config: Config, path: List[str], scope: Optional[str]) -> None:
    """Raise InputError for what lies in a variable of the config file, which has done its work when it was read."""
    variable, rest = path[0], path[1:]
    if is_read(config, variable, scope):
        return
    # It went where its name is, or, as a pipeline does, under another.
    value = config[variable]
    places = places_of(config, variable)
    if not places and isinstance(value, (dict, list, tuple)):
        others = [
            (f'{where}.{key}' if where else key, other)
            for where, section in read_sections(config)
            for key, other in section.items()
            if type(other) is type(value)
        ]
        # A config may have changed its copy since.
        alike = [place for place, other in others if len(rest) > 1 and len(_found(other, rest)) == len(rest)]
        places = [place for place, other in others if other == value] or alike
        places = [place for place in places if place.startswith(variable.split('_')[0])] or places
    hint = ' and '.join('.'.join([place, *rest]) for place in places[:4]) or 'the keys that it was used for'
    raise InputError(
        f'--cfg-options {".".join(path)} would change nothing, since {"it" if not rest else variable} is a mere '
        f'variable of the config file; set {hint} instead'
    )


def meaning(text: str, present: Any, option: str) -> Any:
    """What a typed value stands for in the place of ``present``.

    Text stays text, with its spaces and commas, where text was; so do the parts of a list of text. Quotes make text
    anywhere. Otherwise as mmengine has it: numbers, True, False, None, and lists, with or without brackets.
    """
    if len(text) > 1 and text[0] == text[-1] and text[0] in '\'"' and text[0] not in text[1:-1]:
        return text[1:-1]
    if text in ('None', 'True', 'False'):
        return DictAction._parse_int_float_bool(text)
    parts, closed = _parts(text)
    if text[:1] + text[-1:] in ('()', '[]') and len(parts) == 1 and closed:
        like = present[0] if isinstance(present, (list, tuple)) and present else present
        values = [meaning(part, like, option) for part in _parts(text[1:-1])[0]]
        return tuple(values) if text[0] == '(' else values
    if isinstance(present, str):
        return text
    if not closed:
        raise InputError(
            f'--cfg-options takes KEY=VALUE pairs such as train_cfg.max_epochs=5, got {option}; close its brackets'
        )
    if len(parts) > 1 and '/' not in text:
        like = present[0] if isinstance(present, (list, tuple)) and present else None
        return (tuple if isinstance(present, tuple) else list)(meaning(part, like, option) for part in parts)
    if isinstance(present, (list, tuple)) and present and isinstance(present[0], str):
        return text
    return DictAction._parse_int_float_bool(text)


def _parts(text: str) -> Any:
    """A text cut at its commas outside of brackets and quotes, without the spaces around; and whether all close."""
    parts, depth, quote = [''], 0, ''
    for character in text:
        if character in '\'"' and quote in ('', character) and (quote or not parts[-1].strip()):
            quote = '' if quote else character
        if not quote:
            depth += (character in '([') - (character in ')]')
        if character == ',' and not depth and not quote:
            parts.append('')
        else:
            parts[-1] += character
    parts = [part.strip() for part in parts]
    return parts[:-1] if parts[-1] == '' else parts, not depth
