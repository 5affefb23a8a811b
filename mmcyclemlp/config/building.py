"""What mmengine raises for a config that it cannot build, as a sentence that says where."""

import inspect
import re
import traceback
from pathlib import Path
from typing import Optional, Sequence, Set

from mmengine import Config
from mmengine.registry import DefaultScope

from mmcyclemlp import untrusted
from mmcyclemlp.errors import InputError, named

from .keys import classes_of, no_class, unknown_key
from .walk import walk

PACKAGE = str(Path(__file__).parents[1])
READERS = untrusted.__file__  # which the libraries' readers of files go through
BUILDERS = ('build', 'from_cfg', 'set_randomness')  # how the names of functions that build begin


def about_config(error: BaseException) -> Optional[InputError]:
    """The sentence for an error of a class that is not registered, or of an argument that a class does not take or
    lacks, or that a library refuses; None for one that arose elsewhere, or in code of the user's own."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    configs = [frame.f_locals['config'] for frame in frames if isinstance(frame.f_locals.get('config'), Config)]
    builders = [i for i, frame in enumerate(frames) if frame.f_code.co_name.startswith(BUILDERS)]
    if not configs or not builders:
        return None
    config, text = configs[-1], str(error.args[0] if error.args else '')
    scope = config.get('default_scope')
    with DefaultScope.overwrite_default_scope(scope):
        if found := re.search(r'([\w.]+) is not in the \S+ registry', text):
            return _no_class(config, scope, found[1])
        if text == 'None is not a callable object':  # so mmengine says it of an optimizer
            return _no_class(config, scope)
        if found := re.search(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'", text):
            if told := _unknown_key(config, scope, *found.groups()):
                return told
        if found := re.search(r'(\w+)\.__init__\(\) missing \d+ required .*arguments?: (.+)', text):
            places = [path for path, section in walk(config) if found[1] in _names(section, scope)]
            return InputError(f'{places[0]} needs {found[2]}; add it') if places else None
    if 'must contain the key "type"' in text:
        section = text.rpartition('but got ')[2].splitlines()[0]
        return InputError(f'a section of the config has no type: {section:.200}; add it')
    called = [frame.f_code.co_filename for frame in frames[builders[-1] + 1 :]]
    if is_own(called):
        return None
    kinds = [frame.f_locals['cfg'].get('type') for frame in frames if frame.f_code.co_name == 'build_from_cfg'][::-1]
    # mmengine builds it, and calls it later.
    kinds += [frame.f_locals['constructor_type'] for frame in frames if 'constructor_type' in frame.f_locals]
    places = [
        path if key == 'type' else f'{path}.{key}'
        for kind in kinds
        for path, section in walk(config)
        for key in ('type', 'constructor')
        if kind and section.get(key) == kind
    ]
    reason = named(error)
    place = next(filter(None, places), 'the config')
    # As after max_epochs=1 on the command line, where a warm-up takes 20 of them.
    remedy = 'lower begin, or train for longer' if 'end should be larger than begin' in reason else 'correct it'
    if place.endswith('.constructor') and isinstance(error, NotImplementedError):
        remedy = 'it is for other backbones; take LayerDecayOptimWrapperConstructor'
    return InputError(f'{place} cannot be built ({reason:.200}); {remedy}')


def is_own(called: Sequence[str]) -> bool:
    """Whether an error that passed through files, the last one last, is of the user's own code, or arose in ours."""
    of_libraries = ('site-packages', 'lib/python', READERS)
    own = [name for name in called if name.endswith('.py') and not any(part in name for part in of_libraries)]
    return any(not name.startswith(PACKAGE) or name == called[-1] for name in own)


def _no_class(config: Config, scope: Optional[str], name: Optional[str] = None) -> Optional[InputError]:
    for path, section in walk(config):
        kind, own = section.get('type'), section.get('_scope_', scope)
        if isinstance(kind, str) and (kind == name if name else next(classes_of(kind, own), None) is None):
            return InputError(no_class(f'{path}.type', kind, own))
    return None


def _unknown_key(config: Config, scope: Optional[str], kind: str, key: str) -> Optional[InputError]:
    places = [(path, section) for path, section in walk(config) if key in section]
    places.sort(key=lambda place: kind not in _names(place[1], scope))
    sentences = (unknown_key(config, path, key, scope) for path, _ in places)
    return next((InputError(told) for told in sentences if told), None)


def _names(section: dict, scope: Optional[str]) -> Set[str]:
    """Names of the classes that a section's ``type`` may mean, and of their bases."""
    kinds = classes_of(str(section.get('type')), section.get('_scope_', scope))
    return {base.__name__ for kind, _ in kinds if inspect.isclass(kind) for base in inspect.getmro(kind)}
