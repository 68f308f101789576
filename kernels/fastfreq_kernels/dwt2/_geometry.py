"""Where the taps of a wavelet's filters fall: lengths, and every boundary mode as one table.

Along one axis of n samples, with filters of F taps, the coefficients are (PyWavelets' convention)

    y[o] = sum over j of f[j] e[2 o + start - j],    o = 0 .. length - 1

of the extended signal e, where start = 1 and length = floor((n + F - 1) / 2), but F / 2 and ceil(n / 2) for
"periodization". In every mode the extension is linear in the samples and no value needs more than three of them:
e[i] = scale x[index] + first x[0] + last x[n - 1]. So y[o] is a sum over F samples, and near the edges over two more
in the modes that extrapolate.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MODES",
    "Analysis",
    "Synthesis",
    "analysis",
    "analysis_table",
    "length",
    "restored",
    "synthesis",
    "synthesis_table",
]

MODES = (
    "zero", "constant", "symmetric", "reflect", "periodic", "smooth", "antisymmetric", "antireflect", "periodization",
)  # fmt: skip
EXTRAPOLATE = ("smooth", "antireflect")  # the modes that need x[0] and x[n - 1] besides


class Analysis(NamedTuple):
    """One axis of an analysis; extended sample t is e[t + start - F + 1], so y[o] = sum_j f[j] e[2 o + F - 1 - j]."""

    before: int  # extended samples before the first sample
    source: NDArray[np.int64]  # (extended,) of a sample
    scale: NDArray[np.float32]  # (extended,) of that sample
    first: NDArray[np.float32]  # (extended,) of sample 0
    last: NDArray[np.float32]  # (extended,) of sample n - 1


class Synthesis(NamedTuple):
    """One axis of a synthesis: x[i] = sum over q of f[2 q + odd] a[source[k - q]], odd = (i + shift) % 2.

    k = (i + shift) // 2 + before, in the coefficients with `before` of them put in front, and as many behind.
    """

    shift: int
    before: int
    source: NDArray[np.int64]  # (extended,) of a coefficient; all inside unless they wrap


def length(n: int, taps: int, mode: str) -> int:
    """Coefficients of n samples."""
    return -(-n // 2) if mode == "periodization" else (n + taps - 1) // 2


def restored(coefficients: int, taps: int, mode: str) -> int:
    """Samples of so many coefficients: those of an analysis, or one more where they were odd in number."""
    return 2 * coefficients if mode == "periodization" else 2 * coefficients - taps + 2


def analysis_table(n: int, taps: int, mode: str) -> Analysis:
    """The table of an axis."""
    start = taps // 2 if mode == "periodization" else 1
    before = taps - 1 - start
    at = np.arange(2 * (length(n, taps, mode) - 1) + taps) - before
    index, scale, first, last = _extension(at, n, mode)
    return Analysis(before, index, *(np.asarray(each, np.float32) for each in (scale, first, last)))


def _extension(at: NDArray[np.int64], n: int, mode: str) -> tuple[NDArray[np.int64], ...]:
    """(index, scale, first, last) of the extended samples e[at]."""
    none, one = np.zeros_like(at), np.ones_like(at)
    if mode == "zero":
        inside = (at >= 0) & (at < n)
        return np.where(inside, at, 0), inside.astype(np.int64), none, none
    if mode == "constant" or (n == 1 and mode in ("reflect", *EXTRAPOLATE)):
        return at.clip(0, n - 1), one, none, none
    if mode == "periodic":
        return at % n, one, none, none
    if mode == "periodization":  # an odd number of samples has its last one twice
        return (at % (n + n % 2)).clip(0, n - 1), one, none, none
    if mode in ("symmetric", "antisymmetric"):  # mirrors between samples
        turn, place = at // n, at % n
        odd = turn % 2 == 1
        return np.where(odd, n - 1 - place, place), np.where(odd & (mode == "antisymmetric"), -1, 1), none, none
    if mode == "smooth":  # on along the first or last slope: (1 + k) x[0] - k x[1]
        left, right = np.maximum(0, -at), np.maximum(0, at - (n - 1))
        index = np.where(left > 0, 1, np.where(right > 0, n - 2, at.clip(0, n - 1)))
        first, last = np.where(left > 0, 1 + left, 0), np.where(right > 0, 1 + right, 0)
        return index, np.where(left + right > 0, -(left + right), 1), first, last
    turn, place = at // (n - 1), at % (n - 1)  # mirrors on the first and the last sample
    odd = turn % 2 == 1
    index = np.where(odd, n - 1 - place, place)
    if mode == "reflect":
        return index, one, none, none
    double = turn - odd  # each pair of point reflections moves by twice the rise
    return index, np.where(odd, -1, 1), -double, double + 2 * odd


def synthesis_table(coefficients: int, taps: int, mode: str) -> Synthesis:
    """The table of an axis."""
    half = taps // 2
    if mode != "periodization":
        return Synthesis(taps - 2, 0, np.arange(coefficients))
    before = half
    at = np.arange(coefficients + 2 * half) - before
    return Synthesis(half - 1, before, at % coefficients)


# shared, not to be changed
analysis = functools.lru_cache(maxsize=256)(analysis_table)
synthesis = functools.lru_cache(maxsize=256)(synthesis_table)
