"""Fields of a result <-> JSON and plain arrays: every value says what it is, and nothing else is read back."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastfreq.vocabulary.conventions import Convention
from fastfreq.vocabulary.sums import ExactSum

from . import shapes
from .folds import Outcomes
from .identity import Identity

Arrays = dict[str, NDArray[Any]]
Record = TypeVar("Record", bound=type)
_RECORDS: dict[str, type] = {cls.__name__: cls for cls in (Convention, Identity)}
_DEEPEST = 8  # containers inside each other


def record(cls: Record) -> Record:
    """Allow a frozen dataclass as a value inside results; used as a decorator."""
    _RECORDS[cls.__name__] = cls
    return cls


def encode(fields: dict[str, Any]) -> tuple[dict[str, Any], Arrays]:
    """(header, arrays) of the fields of a result."""
    arrays: Arrays = {}
    return {"fields": {name: _encode(value, name, arrays) for name, value in fields.items()}}, arrays


def _encode(value: Any, path: str, arrays: Arrays) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value)
    if isinstance(value, np.ndarray):
        arrays[path] = value
        return {"array": path}
    if isinstance(value, ExactSum):
        arrays[path] = value.parts
        return {"sum": path}
    if isinstance(value, Outcomes):
        arrays[path] = value.packed
        return {"outcomes": path, "images": value.images}
    if isinstance(value, (tuple, list)):
        return {"tuple": [_encode(v, f"{path}/{i}", arrays) for i, v in enumerate(value)]}
    if isinstance(value, dict):
        return {
            "dict": [
                [k if isinstance(k, int) else str(k), _encode(v, f"{path}/{i}", arrays)]
                for i, (k, v) in enumerate(value.items())
            ]
        }
    if type(value).__name__ in _RECORDS:
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {
            "record": type(value).__name__,
            "fields": {k: _encode(v, f"{path}.{k}", arrays) for k, v in fields.items()},
        }
    raise TypeError(f"expected a value that a result can be saved with, got {type(value).__name__} in {path!r}")


def decode(header: dict[str, Any], arrays: Arrays) -> dict[str, Any]:
    """The fields that `encode` made header and arrays of.

    Raises:
        ValueError: anything that `encode` does not write.
    """
    fields = header.get("fields")
    if not isinstance(fields, dict):
        raise ValueError("expected the fields of a result, got none")
    return {name: _decode(value, arrays, 0) for name, value in fields.items()}


def _decode(value: Any, arrays: Arrays, depth: int) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if not isinstance(value, dict) or depth > _DEEPEST:
        raise ValueError(f"expected a value of a result, got {type(value).__name__}")
    match value:
        case {"array": str(path)}:
            return _array(arrays, path)
        case {"sum": str(path)}:
            try:
                return ExactSum.of_parts(_array(arrays, path))
            except ValueError as error:
                raise ValueError(f"{error} in {path!r}") from error
        case {"outcomes": str(path), "images": int(images)}:
            packed = _array(arrays, path)
            found = Outcomes(packed, images)
            if images % 8 and packed.size and (packed[..., -1] & (0xFF >> images % 8)).any():
                raise ValueError(f"expected no outcomes past the last image in {path!r}")
            return found
        case {"tuple": list(values)}:
            return tuple(_decode(v, arrays, depth + 1) for v in values)
        case {"dict": list(pairs)}:
            if not all(isinstance(p, list) and len(p) == 2 and isinstance(p[0], (str, int)) for p in pairs):
                raise ValueError("expected pairs of names and values")
            return {k: _decode(v, arrays, depth + 1) for k, v in pairs}
        case {"record": str(name), "fields": dict(fields)} if name in _RECORDS:
            given = {str(k): _decode(v, arrays, depth + 1) for k, v in fields.items()}
            known = {f.name for f in dataclasses.fields(_RECORDS[name])}
            if not set(given) <= known:
                raise ValueError(f"expected the fields of {name}, got {sorted(set(given) - known)} too")
            hints = typing.get_type_hints(_RECORDS[name])
            if not all(fits(v, hints[k]) for k, v in given.items()):
                raise ValueError(f"expected the fields of {name} with their types")
            made = _RECORDS[name](**given)
            shapes.check(made)
            return made
    raise ValueError(f"expected a value of a result, got a dict of {sorted(map(str, value))[:4]}")


def _array(arrays: Arrays, path: str) -> NDArray[Any]:
    if path not in arrays:
        raise ValueError(f"expected an array {path!r}, there is none")
    return arrays[path]


def check_types(kind: type, fields: dict[str, Any]) -> None:
    """Refuse fields of another type than the class declares.

    Raises:
        ValueError: the first.
    """
    hints = typing.get_type_hints(kind)
    for name, value in fields.items():
        if not fits(value, hints[name]):
            raise ValueError(f"expected `{name}` as {hints[name]}, got {type(value).__name__}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value has the type that a field declares."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1:] == (Ellipsis,):
            return all(fits(v, arguments[0]) for v in value)
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    if origin is dict:
        return isinstance(value, dict) and all(fits(v, arguments[1]) for v in value.values())
    if origin is np.ndarray:
        (dtype,) = typing.get_args(arguments[1]) or (np.generic,)
        return isinstance(value, np.ndarray) and (dtype in (Any, np.generic) or np.issubdtype(value.dtype, dtype))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint or type(None)) if isinstance(hint, type) else value is None
