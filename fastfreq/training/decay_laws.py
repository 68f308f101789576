"""Which law a transform follows over frequency: a power, an exponential of k or its square, or one that swings."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
Law = Literal["power", "exponential", "Gaussian", "none"]

_PARTS = 24  # of the range, each of which has its largest amplitude count: zeros between do not
_LOWEST = 0.3  # share of the highest frequency that counts, from which on the law is fitted
_POWERS = np.arange(-6, 7) / 2  # of k before an exponential: integers of poles, halves of roots
_CLOSE = 0.03  # root mean square of log amplitudes within which a law is a law
_NO_LAW = 0.1  # the same, from which on it is none
_FEWEST = 6  # amplitudes
_POLES = 2, 4  # a pair, or the nearest to the axis and the next: what later ones add is below 0.1 % of it
_EXACT = 0.003  # of amplitudes around, within which a prediction is one


@dataclasses.dataclass(frozen=True)
class Fit:
    """A law k^power exp(-constant k) cos(oscillation k + a phase), or with k^2, or k^-constant; what it leaves.

    Attributes:
        residual: root mean square of log amplitudes; of a law that oscillates, of amplitudes over those around them.
    """

    law: Law
    constant: float
    power: float
    residual: float
    oscillation: float = 0.0


def fitted(name: str, k: FloatArray, transform: ComplexArray, seen: NDArray[np.bool_]) -> Fit:
    """The law of F(k), evenly spaced, at the highest frequencies that are seen.

    A power law where one fits within 3 %, else the better one of the two others; where both are off by 10 %, sums of
    exponentials that oscillate. "none" with NaN where those are off, too.

    Raises:
        ValueError: too few frequencies are seen.
    """
    amplitude = np.abs(transform)
    gone = np.flatnonzero(~seen & (np.arange(len(k)) >= 4))
    # up to where it vanishes for good: zeros of an oscillating transform do not end it
    last = next((i for i in gone if not seen[i : i + max(8, i // 4)].any()), len(k))
    used = np.arange(len(k)) < last
    high = used & (k >= _LOWEST * k[last - 1])
    used = seen & high
    if used.sum() < _FEWEST:
        raise ValueError(
            f"expected the transform of {name!r} above rounding at more frequencies, it is at {used.sum()}"
        )
    logarithmic = _law("power", *_envelope(np.log(k[used]), k[used], amplitude[used]))
    if logarithmic.residual <= _CLOSE:
        return logarithmic
    smooth = _envelope(k[used], k[used], amplitude[used])
    plain = min((_law("exponential", *smooth), _law("Gaussian", *smooth)), key=lambda fit: fit.residual)
    if plain.residual <= _NO_LAW:
        return plain
    swinging = _oscillating(float(k[1] - k[0]), transform[high])
    if swinging is not None and swinging.residual <= _CLOSE:
        return swinging
    return Fit("none", math.nan, math.nan, plain.residual)


def _oscillating(spacing: float, transform: ComplexArray) -> Fit | None:
    """The slowest of exponentials exp(-c k) cos(w k + phase) whose sum predicts each value from those before.

    Simple poles at +-w + i c have them as transforms. As few of them as predict; w below pi / spacing.

    Source: Prony 1795.
    """
    found = None
    for poles in _POLES:
        found = _predicted(spacing, transform, poles)
        if found is not None and found.residual <= _EXACT:
            break
    return found


def _predicted(spacing: float, transform: ComplexArray, poles: int) -> Fit | None:
    count = len(transform) - poles
    if count < 2 * poles:
        return None
    at = np.arange(len(transform))
    fall = np.exp(np.polyfit(at, np.log(np.abs(transform) + 1e-300), 1)[0])
    level = transform * fall**-at  # what exponentials of that rate would leave flat
    windows = np.stack([level[j : j + count] for j in range(poles + 1)], axis=1)
    around = np.abs(windows).max(axis=1)
    both = np.concatenate([np.real(windows), np.imag(windows)]) / np.tile(around, 2)[:, None]
    roots = np.roots([1, *-np.linalg.lstsq(both[:, :-1], both[:, -1], rcond=None)[0][::-1]])
    slowest = fall * roots[np.abs(roots).argmax()]
    if not 0 < abs(slowest) < 1 or not np.abs(roots).min() > 0:
        return None
    # the sum of them over the whole range: each step from the last is predicted by almost any smooth curve
    around = np.concatenate([around, np.full(poles, around[-1])])
    waves = roots ** at[:, None] / around[:, None]
    share = np.linalg.lstsq(waves, level / around, rcond=None)[0]
    residual = float(np.sqrt(np.mean(np.abs(level / around - waves @ share) ** 2)))
    rate, swing = -np.log(abs(slowest)) / spacing, abs(np.angle(slowest)) / spacing
    return Fit("exponential", float(rate), 0.0, residual, float(swing))


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


def written(law: str, constant: float, oscillation: float = 0.0) -> str:
    """The law as people write it."""
    if law == "none":
        return "no law"
    if law == "power":
        return f"k^-{constant:.4g}"
    swing = f" cos({oscillation:.3g} k)" if oscillation else ""
    return f"exp(-{constant:.4g} k{'^2' if law == 'Gaussian' else ''}){swing}"
