"""Pickles of plain values and numpy arrays, read without calling anything that they name."""

import argparse
import collections
import io
import pickle
import re
from pickle import UnpicklingError
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

import numpy as np
from mmengine.logging import HistoryBuffer


class _Dtype:
    """Stands for a dtype while a file is read. A real one takes its whole layout from the file, and numpy crashes on a
    forged one; of this one only the name and the byte order count, and only numbers and text are accepted."""

    value: Optional[np.dtype] = None

    def __init__(self, code: Any = None, *flags: Any):
        if not isinstance(code, str) or not re.fullmatch(r'b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,4}', code):
            raise UnpicklingError(f'GLOBAL numpy.dtype({code!r})')
        self.value = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if self.value is None or state[1] not in ('<', '>', '=', '|'):
            raise UnpicklingError('GLOBAL numpy.dtype')
        self.value = self.value.newbyteorder(state[1])


class _Array:
    """Stands for an array while a file is read; its bytes are taken only if they are as many as its shape says."""

    value: Optional[np.ndarray] = None

    def __init__(self, *args: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(data.encode('latin1') if isinstance(data, str) else data, dtype, shape, 'CF'[bool(fortran)])


def _array(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    return np.frombuffer(bytes(data), _given(dtype)).reshape(shape, order=order).copy(order)


def _scalar(dtype: Any, data: Any) -> np.generic:
    return np.frombuffer(data.encode('latin1') if isinstance(data, str) else data, _given(dtype))[0]


def _given(dtype: Any) -> np.dtype:
    if not isinstance(dtype, _Dtype) or dtype.value is None:
        raise UnpicklingError('GLOBAL numpy.dtype')
    return dtype.value


def _history_buffer_method(owner: Any, name: Any) -> Callable:
    """``getattr`` for ``HistoryBuffer`` only, whose methods are pickled as ``getattr(HistoryBuffer, NAME)``.

    The real ``getattr`` leads from any function through its ``__globals__`` to ``os.system``.
    """
    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise UnpicklingError('GLOBAL builtins.getattr')
    return getattr(owner, name)


def _encode(text: str, codec: str) -> bytes:
    return text.encode('latin1')  # what bytes are pickled as; other codecs unpack more than the file holds


# What a file may name -> what is called in its stead. numpy 1 and 2 have the same functions under different names.
NAMES: Dict[str, Callable] = {
    'argparse.Namespace': argparse.Namespace,
    'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer,
    'builtins.slice': slice,
    'builtins.getattr': _history_buffer_method,
    # A dataset's metainfo may hold parts of its config; they come back as plain dicts.
    'mmengine.config.config.ConfigDict': dict,
    'numpy.ndarray': _Array,
    'numpy.dtype': _Dtype,
    **{f'numpy.{core}.multiarray._reconstruct': _Array for core in ('core', '_core')},
    **{f'numpy.{core}.multiarray.scalar': _scalar for core in ('core', '_core')},
    **{f'numpy.{core}.numeric._frombuffer': _array for core in ('core', '_core')},
}
PLAIN = {
    'collections.OrderedDict': collections.OrderedDict,
    **{f'{module}.{kind.__name__}': kind for module in ('builtins', '__builtin__') for kind in (set, frozenset)},
    '_codecs.encode': _encode,
}


def torch_globals() -> List[Union[Callable, Tuple[Callable, str]]]:
    """For :func:`torch.serialization.safe_globals`; pass what was read through :func:`settled`."""
    return [(function, name) for name, function in NAMES.items()]


class _PlainUnpickler(pickle._Unpickler):  # type: ignore[name-defined]
    """In Python, since the memory that C's takes is up to the file."""

    def find_class(self, module: str, name: str) -> Callable:
        found = {**NAMES, **PLAIN}.get(f'{module}.{name}')
        if found is None:
            raise UnpicklingError(f'GLOBAL {module}.{name}')
        return found


def loads(data: bytes, encoding: str = 'ASCII') -> Any:
    """As ``pickle.loads``, for plain values and numpy arrays.

    Raises:
        pickle.UnpicklingError: with ``GLOBAL NAME`` where the file asks for anything else; other errors of any kind
            where it is damaged.
    """
    return settled(_PlainUnpickler(io.BytesIO(data), encoding=encoding).load())


def settled(value: Any, seen: Optional[Dict[int, Any]] = None) -> Any:
    """``value`` with real arrays where the stand-ins are, changed in place where that can be."""
    if isinstance(value, (_Array, _Dtype)):
        if value.value is None:
            raise UnpicklingError('an array without content')
        return value.value
    if not isinstance(value, (dict, list, tuple, HistoryBuffer, argparse.Namespace)):
        return value
    seen = {} if seen is None else seen  # once each: a file can hold one list in a thousand places
    if id(value) not in seen:
        seen[id(value)] = value
        if isinstance(value, tuple):
            parts = [settled(part, seen) for part in value]
            if any(new is not old for new, old in zip(parts, value)):
                seen[id(value)] = tuple(parts)
        else:
            content = value if isinstance(value, (dict, list)) else vars(value)
            for key, part in content.items() if isinstance(content, dict) else enumerate(content):
                content[key] = settled(part, seen)  # type: ignore[index]
    return seen[id(value)]
