"""Sums of floats that no order can change: shards, restarts and merges give the same bits.

A float64 sum depends on the order of its terms. Here every term is cut into multiples of 2^e for fixed exponents e; the
parts of one exponent are integers below 2^53 in units of 2^e, so that adding them is exact and order cannot matter.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FloatArray = NDArray[np.float64]

_STEP = 26  # binary digits of one part: 2^27 terms fit into the 53 of a float64 before a part could round
_TOP = 78  # terms up to 2^103 are exact above
_PARTS = 13  # down to 2^-234: squares of squares of float32 gradients keep digits
EXPONENTS = tuple(_TOP - _STEP * k for k in range(_PARTS))


@dataclasses.dataclass(frozen=True, eq=False)
class ExactSum:
    """A sum of float64 terms, element by element, whose bits depend on the terms alone and not on their order.

    Terms below 2^103 in magnitude are summed to an absolute accuracy of 2^-235 each; NaN and infinity are kept.
    At most 2^27 terms.

    Attributes:
        parts: (p, ...) multiples of 2^78, 2^52, 2^26, 1, 2^-26 ... in this order, p = 13.
    """

    parts: FloatArray

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> ExactSum:
        """The sum of no terms."""
        return cls(np.zeros((_PARTS, *shape)))

    @classmethod
    def of_parts(cls, parts: FloatArray) -> ExactSum:
        """The sum whose parts a file says.

        Raises:
            ValueError: no terms have such parts.
        """
        if parts.dtype != np.float64 or parts.shape[:1] != (_PARTS,):
            raise ValueError(f"expected the {_PARTS} parts of a sum, got {parts.dtype} {parts.shape}")
        units = np.ldexp(parts, -np.array(EXPONENTS).reshape(-1, *[1] * (parts.ndim - 1)))
        strange = ~np.isfinite(units[0])
        units[0][strange] = 0
        if not (np.abs(units) <= 2.0**53).all() or (units != np.rint(units)).any():  # comparisons with NaN are false
            raise ValueError("expected the parts of a sum, multiples of their units, got other numbers")
        if np.isnan(parts[0]).any():
            parts = parts.copy()
            parts[0][np.isnan(parts[0])] = np.nan  # one that can be added without a warning
        return cls(parts)

    @classmethod
    def of(cls, terms: Tensor | FloatArray, axis: int | None = None) -> ExactSum:
        """The sum of `terms` over one axis, or (None) of each term alone; on the terms' own device."""
        given = torch.as_tensor(terms)
        wide = given.to(torch.float64)
        finite = torch.isfinite(wide)
        rest = torch.where(finite, wide, 0.0)
        empty = torch.zeros_like(rest if axis is None else rest.sum(dim=axis))
        on_host = rest.device.type == "cpu"  # where looking at values waits for nothing
        largest = float(rest.abs().max()) if on_host and rest.numel() else float("inf")
        parts, left = [], bool(rest.numel())
        for exponent in EXPONENTS:
            if not left or largest < 2.0 ** (exponent - 1):
                parts.append(empty)
                continue
            # adding 1.5 * 2^(e + 52) rounds to a multiple of 2^e; what is left is exact
            anchor = 1.5 * 2.0 ** (exponent + 52)
            near = (rest + anchor) - anchor
            rest = rest - near
            left = not on_host or bool(rest.any())
            parts.append(near if axis is None else near.sum(dim=axis))
        # NaN and infinity: their plain sum stands in the first part
        strange = torch.where(finite, 0.0, wide)
        parts[0] = parts[0] + (strange if axis is None else strange.sum(dim=axis))
        return cls(torch.stack(parts).cpu().numpy())

    @property
    def value(self) -> FloatArray:
        """The sum as float64, rounded: parts are added from the smallest to the largest."""
        total = np.zeros(self.parts.shape[1:])
        with np.errstate(invalid="ignore"):
            for part in self.parts[::-1]:
                total = total + part
        return total

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.value if dtype is None else self.value.astype(dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the sums."""
        return self.parts.shape[1:]

    def __add__(self, other: ExactSum) -> ExactSum:
        with np.errstate(invalid="ignore"):
            return ExactSum(self.parts + other.parts)

    def __getitem__(self, key: Any) -> ExactSum:
        """Elements of the sums, as NumPy indexes them."""
        keys = key if isinstance(key, tuple) else (key,)
        return ExactSum(self.parts[(slice(None), *keys)])

    def sum(self, axis: int) -> ExactSum:
        """Sums of these sums over one axis, exact too."""
        return ExactSum(self.parts.sum(axis=axis + 1 if axis >= 0 else axis))

    @staticmethod
    def by_class(terms: Tensor, labels: Tensor, classes: NDArray[np.int64]) -> ExactSum:
        """(k, ...) the sum of each of k classes over its terms (n, ...), for labels (n,) on the terms' device."""
        return ExactSum.concatenate([ExactSum.of(terms[labels == label], axis=0)[None] for label in classes.tolist()])

    @staticmethod
    def concatenate(sums: list[ExactSum], axis: int = 0) -> ExactSum:
        """Side by side along an axis."""
        return ExactSum(np.concatenate([s.parts for s in sums], axis=axis + 1 if axis >= 0 else axis))

    @staticmethod
    def stack(sums: list[ExactSum]) -> ExactSum:
        """Side by side along a new last axis."""
        return ExactSum(np.stack([s.parts for s in sums], axis=-1))
