"""Which law an amplitude follows over frequency: a power, or an exponential of k or of its square."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Law = Literal["power", "exponential", "Gaussian"]

_PARTS = 24  # of the range, each of which has its largest amplitude count: zeros between do not
_LOWEST = 0.3  # share of the highest frequency that counts, from which on the law is fitted
_POWERS = np.arange(-6, 7) / 2  # of k before an exponential: integers of poles, halves of roots
_CLOSE = 0.03  # root mean square of log amplitudes within which a power is a power
_FEWEST = 6  # amplitudes


@dataclasses.dataclass(frozen=True)
class Fit:
    """A law k^power exp(-constant k), or with k^2, or k^-constant; what it leaves of log amplitudes."""

    law: Law
    constant: float
    power: float
    residual: float


def fitted(name: str, k: FloatArray, amplitude: FloatArray, seen: NDArray[np.bool_]) -> Fit:
    """The law of |F(k)| at the highest frequencies that are seen.

    A power law where one fits within 3 %, else the better one of the two others.

    Raises:
        ValueError: too few frequencies are seen.
    """
    gone = np.flatnonzero(~seen & (np.arange(len(k)) >= 4))
    # up to where it vanishes for good: zeros of an oscillating transform do not end it
    last = next((i for i in gone if not seen[i : i + max(8, i // 4)].any()), len(k))
    used = np.arange(len(k)) < last
    used &= seen & (k >= _LOWEST * k[last - 1])
    if used.sum() < _FEWEST:
        raise ValueError(
            f"expected the transform of {name!r} above rounding at more frequencies, it is at {used.sum()}"
        )
    logarithmic = _law("power", *_envelope(np.log(k[used]), k[used], amplitude[used]))
    if logarithmic.residual <= _CLOSE:
        return logarithmic
    smooth = _envelope(k[used], k[used], amplitude[used])
    return min((_law("exponential", *smooth), _law("Gaussian", *smooth)), key=lambda fit: fit.residual)


def _envelope(position: FloatArray, k: FloatArray, amplitude: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Frequencies and log amplitudes where it is largest in each of equal parts of the range."""
    edges = np.linspace(position.min(), position.max(), _PARTS + 1)
    part = np.clip(np.searchsorted(edges, position, side="right") - 1, 0, _PARTS - 1)
    best = [np.flatnonzero(part == p)[np.argmax(amplitude[part == p])] for p in np.unique(part)]
    return k[best], np.log(amplitude[best])


def _law(law: Law, k: FloatArray, level: FloatArray) -> Fit:
    powers = np.zeros(1) if law == "power" else _POWERS
    shape = {"power": np.log(k), "exponential": k, "Gaussian": k * k}[law]
    design = np.stack([np.ones_like(k), -shape], axis=1)
    fits = []
    for power in powers:
        wanted = level - power * np.log(k)
        solution = np.linalg.lstsq(design, wanted, rcond=None)[0]
        left = float(np.sqrt(np.mean((wanted - design @ solution) ** 2)))
        fits.append(Fit(law, float(solution[1]), float(power), left))
    return min(fits, key=lambda fit: fit.residual)


def written(law: str, constant: float) -> str:
    """The law as people write it."""
    if law == "power":
        return f"k^-{constant:.4g}"
    return f"exp(-{constant:.4g} k{'^2' if law == 'Gaussian' else ''})"
