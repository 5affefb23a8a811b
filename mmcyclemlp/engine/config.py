"""Configs and ``--cfg-options``, refused in one sentence where they are wrong."""
import contextlib
import io
import os
import traceback
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

from mmengine import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import DefaultScope

from mmcyclemlp.errors import InputError

from .arguments import classes_of, registered_names, section_arguments
from .scopes import check_scopes

SUFFIXES = ('.py', '.json', '.yaml', '.yml')
# mmengine looks for mmseg's configs under the name of the upstream distribution, which is not installed.
MODULE2PACKAGE.update(mmseg='mmseg')


def load_config(path: Union[str, os.PathLike], options: Optional[Dict[str, Any]] = None) -> Config:
    """Read a config, with the modules it imports, and apply ``--cfg-options``.

    A relative path under ``data/`` that is not below the current folder is taken from beside the config's
    ``configs/``, so that the tools work from any folder.

    Args:
        path (str | os.PathLike): a config file.
        options (dict, optional): dotted key, with indices for lists, to value.

    Raises:
        InputError: no such config; it cannot be read; a library it needs is missing; an option has an
            unknown key or cannot be applied.
    """
    path = Path(path).expanduser()
    _check_path(path)
    config = _read(path)
    check_scopes(config)
    if options:
        apply_options(config, options)
    for name, section in config.items():
        if name.endswith('_dataloader') and section and section.get('num_workers', 0) == 0:
            # Torch refuses both without workers; a base sets them for the workers it has.
            section.pop('persistent_workers', None)
            section.pop('prefetch_factor', None)
    _find_data(config, path.resolve())
    return config


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
                _check_key(config, path[:len(found[key])], path[len(found[key])], scope)


def _check_path(path: Path) -> None:
    if path.is_file() and path.suffix in SUFFIXES:
        return
    if path.is_file():
        raise InputError(f'expected a config ({", ".join(SUFFIXES)}), got {path}; give the config first')
    if not path.parent.is_dir():
        raise InputError(f'expected a config, but the folder {path.parent} of {path} does not exist; check the path')
    folder = path if path.is_dir() else path.parent
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix in SUFFIXES)
    near = names[:3] if path.is_dir() else get_close_matches(path.name, names, 3, 0.4)
    hint = f'did you mean {" or ".join(str(folder / name) for name in near)}?' if near else 'check the path'
    raise InputError(f'expected a config, but {path} {"is a folder" if path.is_dir() else "does not exist"}; {hint}')


def _read(path: Path) -> Config:
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            return Config.fromfile(path)
    except SyntaxError as error:
        # Either Python's own, or mmengine's around it.
        cause = error.__context__ if isinstance(error.__context__, SyntaxError) else error
        raise InputError(f'{_culprit(error, path)} is not valid Python ({cause.msg}, line {cause.lineno}); correct '
                         'that line') from error
    except ImportError as error:
        raise InputError(f'{path} needs a module that cannot be imported ({_first_cause(error)}); install it, or '
                         'correct the config') from error
    except FileNotFoundError as error:
        raise InputError(f'{path} inherits from {error.filename or error}, which does not exist; correct its _base_'
                         ) from error
    except (AttributeError, KeyError, NameError, TypeError, ValueError) as error:  # what a wrong config raises
        raise InputError(f'{_culprit(error, path)} cannot be read ({type(error).__name__}: {error}); correct the config'
                         ) from error
    finally:
        # The libraries announce at import that a hosted service of their authors is not installed.
        print(''.join(line for line in output.getvalue().splitlines(True) if 'OneDL' not in line), end='')


def _culprit(error: BaseException, path: Path) -> str:
    """The file being read when the error arose, which may be a base of ``path``."""
    names = [frame.f_locals.get('filename') for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((name for name in reversed(names) if isinstance(name, str) and os.path.isfile(name)), str(path))


def _first_cause(error: BaseException) -> BaseException:
    """The ImportError that mmengine wrapped, perhaps twice; ours is a sentence and passes as it is."""
    while isinstance(error.__cause__ or error.__context__, ImportError):
        error = error.__cause__ or error.__context__
        if isinstance(error, InputError):
            raise error
    return error


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
    above, parent = '.'.join(path[:len(found)]), found[-1] if found else config
    for i, section in enumerate(found[:len(path) - 1]):
        if isinstance(section, tuple):
            name = '.'.join(path[:i + 1])
            raise InputError(f'--cfg-options {key} leads into {name}, which is a tuple; set it as a whole, '
                             f'{name}="(...)"')
    if len(found) == len(path):
        if isinstance(parent, dict) and value is not None:
            raise InputError(f'--cfg-options {key} is a section, but got {value!r}; set a key of it, such as '
                             f'{key}.{next(iter(parent), "KEY")}')
        if isinstance(parent, (bool, int, float)) and isinstance(value, str):
            kind = 'True or False' if isinstance(parent, bool) else f'a number such as {parent}'
            raise InputError(f'--cfg-options {key} expects {kind}, but got {value!r}')
    elif isinstance(parent, list):
        raise InputError(f'--cfg-options {key} leads into {above}, which is a list of {len(parent)}; expected an index '
                         f'from 0 to {len(parent) - 1}, got {path[len(found)]!r}')
    elif not isinstance(parent, (dict, Config)):
        raise InputError(f'--cfg-options {key} leads into {above}, which is {parent!r} and has no keys; set {above} '
                         'itself, or change the config')


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
        raise InputError(f'--cfg-options {key} would change nothing, since it is a mere variable of the config file; '
                         f'{hint} instead')


def _places(section: Any, key: str, above: str = '') -> List[str]:
    """Dotted paths of a config that end in ``key``."""
    places = []
    for name, value in section.items() if isinstance(section, (dict, Config)) else enumerate(section):
        places += [f'{above}{name}'] if name == key else []
        places += _places(value, key, f'{above}{name}.') if isinstance(value, (dict, list)) else []
    return places


def _find_data(section: Any, config_path: Path) -> None:
    """Point relative paths under ``data/`` that the current folder lacks to those beside the config."""
    items = list(section.items() if isinstance(section, (dict, Config)) else enumerate(section))
    for key, value in items:
        if isinstance(value, str) and value.startswith('data/') and not Path(value).exists():
            beside = next((parent / value for parent in config_path.parents if (parent / value).exists()), None)
            if beside is not None:
                section[key] = str(beside)
        elif isinstance(value, (dict, list)):
            _find_data(value, config_path)
