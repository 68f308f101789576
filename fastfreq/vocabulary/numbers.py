"""Numbers as users bring them: Python's, NumPy's and torch's scalars, as Python numbers."""

from __future__ import annotations

import contextlib
import itertools
import math
import numbers
import operator
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Number = TypeVar("Number", int, float)


def as_int(name: str, value: Any) -> int:
    """`value` as an int.

    Args:
        name: of the argument, for the message.
        value: an integer of Python, NumPy, or a tensor or array of integers without axes.

    Raises:
        TypeError: anything else; truth values too, and floats even where they are whole.
    """
    if not _is_truth_value(value) and not getattr(value, "ndim", 0):
        try:
            return operator.index(value)
        except (TypeError, RuntimeError):  # the second is a tensor's
            pass
    raise TypeError(f"expected `{name}` as an integer, got {_shown(value)}")


def as_float(name: str, value: Any, *, finite: bool = True) -> float:
    """`value` as a float.

    Args:
        name: of the argument, for the message.
        value: a real number of Python, NumPy, or a tensor or array of one without axes.
        finite: refuse infinity.

    Raises:
        TypeError: not a real number; truth values and text are none.
        ValueError: NaN, or a number that is infinite or too large for a float.
    """
    if _is_truth_value(value) or not _is_real(value):
        raise TypeError(f"expected `{name}` as a number, got {_shown(value)}")
    try:
        number = float(value.detach() if isinstance(value, Tensor) else value)
    except OverflowError:
        number = math.inf
    if math.isnan(number) or (finite and math.isinf(number)):
        raise ValueError(f"expected {'a finite number' if finite else 'a number'} as `{name}`, got {_shown(value)}")
    return number


def as_flag(name: str, value: Any) -> bool:
    """`value` as a bool.

    Raises:
        TypeError: neither True nor False, of Python, NumPy, or a tensor or array of one without axes.
    """
    if not _is_truth_value(value) or getattr(value, "ndim", 0):
        raise TypeError(f"expected `{name}` as True or False, got {_shown(value)}")
    return bool(value)


def as_ints(name: str, values: Any, *, of: str) -> tuple[int, ...]:
    """`values` as integers.

    Args:
        name: of the argument, for the message.
        values: several integers.
        of: what they are, such as "(c, h, w)": as many are wanted as this has commas, and one.

    Raises:
        TypeError: not several, or others than integers.
        ValueError: more or fewer, or one from 2^31 on.
    """
    found = tuple(as_int(name, value) for value in sequence(name, values, of))
    if len(found) != of.count(",") + 1:
        raise ValueError(f"expected `{name}` as {of}, got {found}")
    if max(map(abs, found)) >= 1 << 31:
        raise ValueError(f"expected `{name}` as {of} of integers below 2^31, got {found}")
    return found


def ascending(name: str, values: Iterable[Any], each: Callable[[str, Any], Number]) -> tuple[Number, ...]:
    """`values` as numbers, ascending.

    Args:
        name: of the argument, for the message.
        values: at least one number.
        each: `as_int` or `as_float`, with their errors.

    Raises:
        ValueError: none, or they do not ascend, or one stands there twice.
        TypeError: no sequence, or other things than numbers.
    """
    found = tuple(each(name, value) for value in sequence(name, values))
    if not found or any(a >= b for a, b in itertools.pairwise(found)):
        raise ValueError(f"expected `{name}` ascending, each once, got {found}")
    return found


def sequence(name: str, values: Any, of: str = "a sequence such as (0, 1, 2)") -> tuple[Any, ...]:
    """What `values` holds, one by one; `of` is what they are, for the message.

    Raises:
        TypeError: it is text, or nothing that holds others.
    """
    if not isinstance(values, (str, bytes)):
        with contextlib.suppress(TypeError):
            return tuple(values.detach().cpu() if isinstance(values, Tensor) else values)
    raise TypeError(f"expected `{name}` as {of}, got {_shown(values)}")


def as_array(name: str, values: Any) -> NDArray[np.float64]:
    """`values` as an array of float64, whatever they are in.

    Raises:
        TypeError: other things than real numbers, or rows of several lengths.
    """
    return _array(name, values, "iuf", "real numbers").astype(np.float64)


def as_complex_array(name: str, values: Any) -> NDArray[np.complex128]:
    """`values`, real or complex, as an array of complex128.

    Raises:
        TypeError: other things than numbers, or rows of several lengths.
    """
    return _array(name, values, "iufc", "numbers").astype(np.complex128)


def _array(name: str, values: Any, kinds: str, what: str) -> NDArray[Any]:
    try:
        if isinstance(values, Tensor):
            plain = values.detach().cpu().resolve_conj().resolve_neg()
            given = (plain.double() if plain.dtype.is_floating_point else plain).numpy()  # of half precisions, too
        else:
            given = np.asarray(values)
    except (ValueError, TypeError, RuntimeError):
        given = np.zeros(0, object)
    if given.dtype.kind not in kinds:
        raise TypeError(f"expected `{name}` as an array of {what}, got {_shown(values)}")
    return given


def _is_truth_value(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_)) or getattr(value, "dtype", None) in (torch.bool, np.dtype(bool))


def _is_real(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.ndim == 0 and not value.dtype.is_complex
    if isinstance(value, np.ndarray):
        return value.ndim == 0 and value.dtype.kind in "iuf"
    return isinstance(value, numbers.Real)


def _shown(value: Any) -> str:
    """The value, short, with its type."""
    if isinstance(value, (Tensor, np.ndarray)) and value.ndim:
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    return f"{value!r:.60} ({type(value).__name__})"
