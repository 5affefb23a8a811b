"""Read configs; a wrong one raises an InputError of one sentence."""

import contextlib
import io
import os
import re
import traceback
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Dict, Optional, Union

from mmengine import Config
from mmengine.config import config as mmengine_config
from mmengine.config.utils import _get_external_cfg_base_path
from mmengine.logging import MMLogger

from mmcyclemlp.checkpoints import register_safe_loader
from mmcyclemlp.dependencies import LIBRARIES, check_library
from mmcyclemlp.errors import InputError, named
from mmcyclemlp.files import PROJECT
from mmcyclemlp.untrusted import read_text

from .libraries import check_scopes
from .options import apply_options
from .walk import walk

SECTIONS = {'model', 'data_preprocessor', 'optim_wrapper', 'default_hooks', 'randomness'} | {
    f'{split}_{part}' for split in ('train', 'val', 'test') for part in ('cfg', 'dataloader')
}
SUFFIXES = ('.py', '.json', '.yaml', '.yml')
# For each base of a library, mmengine parses all metafiles of that library, which takes seconds. It finds nothing, as
# the names differ by their suffix, and takes the file by its path. This takes it at once.
mmengine_config._get_external_cfg_path = _get_external_cfg_base_path
# Configs are read with a byte order mark, too, in UTF-16, or as their coding line says.
mmengine_config.open = lambda path, mode='r', **kwargs: (
    io.StringIO(read_text(path)) if mode == 'r' else open(path, mode, **kwargs)
)


def load_config(path: Union[str, os.PathLike], options: Optional[Dict[str, Any]] = None) -> Config:
    """Read a config with the modules it imports, and apply ``--cfg-options``.

    From here on mmengine reads checkpoints safely. A relative path under ``data/`` that does not exist below the
    current folder is looked for beside ``configs/``, so that commands work from any folder.

    Args:
        path (str | os.PathLike): a config file, also one of the project such as ``configs/cyclemlp/digits_b1.py``.
        options (dict, optional): dotted key, with indices for lists, to value.

    Raises:
        InputError: the config is missing or cannot be read; a library it needs is missing; an option has an unknown
            key or cannot be applied.
    """
    register_safe_loader()
    path = Path(path).expanduser()
    if not path.exists() and (PROJECT / path).is_file():
        path = PROJECT / path
    _check_path(path)
    config = _read(path)
    for key in SECTIONS & set(config):
        if not isinstance(config[key], (dict, type(None))):
            raise InputError(f'{path}: {key} must be a section, as in {key}=dict(...), got {config[key]!r:.100}')
    _name_classes(config)
    if path.suffix != '.py':
        _check_names(config, path)
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


def _check_names(config: Config, path: Path) -> None:
    """Refuse what would run code by its name, in a config that is no program: mmengine imports and calls whatever a
    ``type`` with dots names, and the libraries evaluate a few other settings."""
    for where, section in walk(config):
        for key in {'type', '_scope_', 'default_scope', 'constructor', 'dtype', 'ops', 'warp_mode'} & set(section):
            if not re.fullmatch(r'\w+|(mm[a-z]+\.|torchvision/)[A-Z]\w*', str(section[key])):
                raise InputError(
                    f'{path}: {f"{where}." if where else ""}{key} is {section[key]!r:.100}, but only a config in '
                    'Python may name what is no registered class; correct it'
                )


def _name_classes(config: Config) -> None:
    """Put the paths of classes into a config that imports them, as mmengine does where it writes one; and the library
    of its model for the scope, which such a config may leave out."""
    for _, section in walk(config):
        kind = section.get('type')
        if hasattr(kind, '__qualname__'):  # a class or a function
            section['type'] = f'{kind.__module__}.{kind.__qualname__}'
    library, *rest = str((config.get('model') or {}).get('type')).split('.')
    if rest and library in LIBRARIES and config.get('default_scope') is None:
        config.default_scope = library


def _read(path: Path) -> Config:
    MMLogger.get_current_instance()  # made now, as it keeps the stdout that it finds
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            return Config.fromfile(path)
    except SyntaxError as error:
        # Either Python's own, or mmengine's around it.
        cause = error.__context__ if isinstance(error.__context__, SyntaxError) else error
        raise InputError(
            f'{_culprit(error, path)} is not valid Python ({cause.msg}, line {cause.lineno}); correct that line'
        ) from error
    except (ImportError, AssertionError) as error:  # the latter of a library that refuses another's version
        absent = re.match(r'(\w+) is not installed', str(error))  # of a base in a library
        if absent and absent[1] in LIBRARIES:
            check_library(absent[1])
        raise InputError(
            f'{path} needs a module that cannot be imported ({_first_cause(error)}); install it, or correct the config'
        ) from error
    except FileNotFoundError as error:
        base = error.filename or re.sub('file "(.*)" does not exist', r'\1', str(error))
        raise InputError(f'{path} inherits from {base}, which does not exist; correct its _base_') from error
    # What a wrong config raises; RuntimeError if its bases are of mmengine's other kind, with read_base.
    except (AttributeError, KeyError, NameError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f'{_culprit(error, path)} cannot be read ({named(error)}); correct the config') from error
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


def _find_data(config: Config, config_path: Path) -> None:
    """Point relative paths under ``data/`` that the current folder lacks to those beside the config; expand ``~``."""

    def found(value: Any) -> Any:
        if isinstance(value, list):
            return [found(each) for each in value]
        if isinstance(value, str) and value.startswith('~/'):
            return os.path.expanduser(value)
        if not isinstance(value, str) or not value.startswith('data/') or Path(value).exists():
            return value
        return next((str(parent / value) for parent in config_path.parents if (parent / value).exists()), value)

    for _, section in walk(config):
        for key, value in section.items():
            if isinstance(value, (str, list)):
                section[key] = found(value)
