"""Samples and labels of two classes, as users bring them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastfreq.vocabulary import numbers

FloatArray = NDArray[np.float64]


def _array(values: Any) -> NDArray[Any]:
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    plain = values.detach().cpu().resolve_conj().resolve_neg()
    return (plain.double() if plain.dtype.is_floating_point else plain).numpy()  # of bfloat16, too


def flat(name: str, samples: Any) -> FloatArray:
    """(n, d) of samples (n, ...); bytes are divided by 255.

    Raises:
        ValueError: fewer than two samples, without axes of their own, or values that are not finite.
    """
    given = _array(samples)
    if given.ndim < 2 or len(given) < 2 or not given[0].size:
        raise ValueError(f"expected `{name}` as at least two samples (n, ...), got shape {given.shape}")
    if given.dtype.kind not in "uifb":
        raise TypeError(f"expected `{name}` as numbers, got {given.dtype}")
    values = given.reshape(len(given), -1).astype(np.float64) / (255.0 if given.dtype == np.uint8 else 1.0)
    if not np.isfinite(values).all():
        raise ValueError(f"expected finite `{name}`, got NaN or infinity")
    return values


def check_rows(samples: Any) -> FloatArray:
    """(n, d) of finite samples.

    Raises:
        ValueError: another shape, or values that are not finite.
        TypeError: other things than real numbers.
    """
    given = numbers.as_array("samples", samples)
    if given.ndim != 2 or not np.isfinite(given).all():
        raise ValueError(f"expected finite `samples` (n, d), got shape {given.shape}")
    return given


def binary_targets(labels: Any, count: int, *, like: Any = None) -> FloatArray:
    """(n,) -1 for the lower of two labels and 1 for the higher.

    Args:
        labels: (n,).
        count: n.
        like: labels whose two classes these must be among; by default their own.

    Raises:
        ValueError: another number of labels or of classes.
    """
    given = _array(labels)
    if given.shape != (count,):
        raise ValueError(f"expected {count} labels, one per sample, got shape {given.shape}")
    classes = np.unique(_array(labels if like is None else like))
    if len(classes) != 2 or not np.isin(given, classes).all():
        found = np.union1d(classes, given)[:5].tolist()
        raise ValueError(f"expected labels of two classes, the same for validation, got {found}; keep two of them")
    return np.where(given == classes[1], 1.0, -1.0)
