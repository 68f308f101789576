"""How the fields of a result merge: declared where the field is, carried out here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastfreq.vocabulary.sums import ExactSum

from .identity import Identity

How = Literal["same", "text", "condition", "by_image", "summed", "by_class", "class", "union"]
_BLOCK = 256  # rows of packed outcomes that are unpacked at a time


@dataclasses.dataclass(frozen=True)
class Fold:
    """How one field merges.

    Attributes:
        how: what happens when shards of other images are added.
        conditions: axis along which the field has one entry per condition; None if it has none.
    """

    how: How
    conditions: int | None = None


def _field(fold: Fold, default: Any) -> Any:
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata={"fold": fold})
    if isinstance(default, (dict, list)):
        return dataclasses.field(metadata={"fold": fold}, default_factory=lambda: type(default)(default))
    return dataclasses.field(metadata={"fold": fold}, default=default)


def same(default: Any = dataclasses.MISSING) -> Any:
    """Refused where it differs: settings, sizes, the model."""
    return _field(Fold("same"), default)


def text(default: Any = dataclasses.MISSING) -> Any:
    """For people; the first one's stays."""
    return _field(Fold("text"), default)


def condition() -> Any:
    """What the conditions are, one entry each along the first axis: frequencies, bandwidths, names of corruptions."""
    return _field(Fold("condition", 0), dataclasses.MISSING)


def by_image(*, conditions: int | None = None, default: Any = dataclasses.MISSING) -> Any:
    """One entry per image along the last axis: an array or `Outcomes`, sorted by image id."""
    return _field(Fold("by_image", conditions), default)


def summed(*, conditions: int | None = None, default: Any = dataclasses.MISSING) -> Any:
    """Added: counts, or an `ExactSum` of floats."""
    return _field(Fold("summed", conditions), default)


def classes() -> Any:
    """(k,) labels that have images, ascending, for fields `by_class`."""
    return _field(Fold("class"), dataclasses.MISSING)


def by_class() -> Any:
    """One row per class along the first axis; rows of one class are added."""
    return _field(Fold("by_class"), dataclasses.MISSING)


def folds(result: Any) -> dict[str, Fold]:
    """Field name -> fold of a result or its class."""
    return {f.name: f.metadata["fold"] for f in dataclasses.fields(result)}


def union() -> Any:
    """A dict; shards hold different keys."""
    return _field(Fold("union"), dataclasses.MISSING)


@dataclasses.dataclass(frozen=True, eq=False)
class Outcomes:
    """Yes or no for every condition and image, eight to a byte.

    Attributes:
        packed: (..., ceil(n / 8)) uint8; bits past the last image are 0.
        images: n.
    """

    packed: NDArray[np.uint8]
    images: int

    def __post_init__(self) -> None:
        n = self.images
        if self.packed.dtype != np.uint8 or n < 0 or self.packed.shape[-1:] != ((n + 7) // 8,):
            raise ValueError(
                f"expected outcomes of {n} images, eight to a byte, got {self.packed.dtype} {self.packed.shape}"
            )

    @classmethod
    def of(cls, values: Any) -> Outcomes:
        """From booleans (..., n)."""
        given = np.asarray(values, dtype=np.bool_)
        return cls(np.packbits(given, axis=-1), given.shape[-1])

    def unpack(self, key: Any = ...) -> NDArray[np.bool_]:
        """Booleans (..., n) of the rows that `key` selects."""
        return np.unpackbits(self.packed[key], axis=-1, count=self.images).astype(np.bool_)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.unpack() if dtype is None else self.unpack().astype(dtype)

    @property
    def counts(self) -> NDArray[np.int64]:
        """(...) images with yes, by condition."""
        return np.bitwise_count(self.packed).sum(axis=-1, dtype=np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of `unpack`."""
        return (*self.packed.shape[:-1], self.images)

    def __getitem__(self, key: Any) -> Outcomes:
        """Outcomes of some conditions."""
        return Outcomes(self.packed[key], self.images)

    def joined(self, other: Outcomes, order: NDArray[np.int64]) -> Outcomes:
        """Those of both, images in `order` of self's followed by other's."""
        rows = [r.packed.reshape(-1, r.packed.shape[-1]) for r in (self, other)]
        out = np.empty((len(rows[0]), (len(order) + 7) // 8), dtype=np.uint8)
        for start in range(0, len(out), _BLOCK):
            block = slice(start, start + _BLOCK)
            bits = [
                np.unpackbits(r[block], axis=1, count=n) for r, n in zip(rows, (self.images, other.images), strict=True)
            ]
            out[block] = np.packbits(np.concatenate(bits, axis=1)[:, order], axis=1)
        return Outcomes(out.reshape(*self.packed.shape[:-1], out.shape[1]), len(order))


# ---------------------------------------------------------------- what is done to a value; dicts value by value
def each(function: Callable[..., Any], *values: Any) -> Any:
    """`function` of values, or of the values of dicts with the same keys."""
    if isinstance(values[0], dict):
        return {key: function(*(v[key] for v in values)) for key in values[0]}
    return function(*values)


def equal(a: Any, b: Any) -> bool:
    """Whether two fields hold the same; NaN equals NaN."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, ExactSum) and isinstance(b, ExactSum):
        return equal(a.parts, b.parts)
    if isinstance(a, Outcomes) and isinstance(b, Outcomes):
        return a.images == b.images and equal(a.packed, b.packed)
    if isinstance(a, Identity) and isinstance(b, Identity):
        return a.difference(b) is None
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        x, y = np.asarray(a), np.asarray(b)
        nan = x.dtype.kind in "fc" and y.dtype.kind in "fc"
        return x.shape == y.shape and np.array_equal(x, y, equal_nan=nan)
    return bool(a == b) or (isinstance(a, float) and isinstance(b, float) and a != a and b != b)


def check_layouts(a: Any, b: Any) -> None:
    """Refuse results whose fields cannot be added entry by entry: NumPy would stretch some of them, and say nothing.

    Args:
        a: a result.
        b: another of its class, with the same keys in its dicts.

    Raises:
        ValueError: the first field that differs in more than images, conditions or classes.
    """
    for name, fold in folds(a).items():
        if fold.how not in ("by_image", "summed", "by_class"):
            continue
        mine, theirs = (each(lambda value, fold=fold: _layout(value, fold), getattr(r, name)) for r in (a, b))
        if mine != theirs:
            raise ValueError(f"expected two results with `{name}` of one layout, got {mine} and {theirs}")


def _layout(value: Any, fold: Fold) -> tuple[str, tuple[int, ...]]:
    """(type, sides) of a value; those along images, conditions and classes are 0, and those of exact parts stay."""
    sides = list(np.shape(value) if not isinstance(value, (ExactSum, Outcomes)) else value.shape)
    grows = [fold.conditions, -1 if fold.how == "by_image" else None, 0 if fold.how == "by_class" else None]
    for axis in grows:
        if axis is not None and sides:
            sides[axis] = 0
    parts = [len(value.parts)] if isinstance(value, ExactSum) else []
    return type(value).__name__ if isinstance(value, (ExactSum, Outcomes)) else "array", (*parts, *sides)


def join_images(a: Any, b: Any, order: NDArray[np.int64]) -> Any:
    """Both values with images along the last axis, in `order`."""
    if isinstance(a, Outcomes):
        return a.joined(b, order)
    return np.concatenate([a, b], axis=-1)[..., order]


def join_conditions(a: Any, b: Any, axis: int, order: NDArray[np.int64]) -> Any:
    """Both values with conditions along `axis`, in `order`."""
    if isinstance(a, tuple):
        both = a + b
        return tuple(both[i] for i in order)
    if isinstance(a, Outcomes):
        return Outcomes(np.take(np.concatenate([a.packed, b.packed], axis=axis), order, axis=axis), a.images)
    if isinstance(a, ExactSum):
        return ExactSum(np.take(np.concatenate([a.parts, b.parts], axis=axis + 1), order, axis=axis + 1))
    return np.take(np.concatenate([a, b], axis=axis), order, axis=axis)


def join_classes(a: Any, b: Any, mine: NDArray[np.int64], theirs: NDArray[np.int64], count: int) -> Any:
    """Rows of both added where their classes, at `mine` and `theirs` of `count`, are the same."""
    if isinstance(a, ExactSum):
        first, second = (np.swapaxes(s.parts, 0, 1) for s in (a, b))
        return ExactSum(np.swapaxes(join_classes(first, second, mine, theirs, count), 0, 1))
    both = np.zeros((count, *a.shape[1:]), a.dtype)
    both[mine] += a
    both[theirs] += b
    return both
