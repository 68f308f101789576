"""Which frequencies a filter keeps: every mask by name, with its formula and source.

A mask is a bool array (h, w) over the unshifted plane of frequencies. All are symmetric, M(k) = M(-k), so a filtered
real image is real to rounding: nothing is thrown away by taking a real part.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Mask = NDArray[np.bool_]

_ROUNDING = 8 * np.finfo(np.float64).eps  # relative, of a squared radius


def yin_low(shape: tuple[int, int], bandwidth: float) -> Mask:
    """Low pass: the square of width B centred on zero frequency, |ky| <= (B - 1) / 2 and |kx| <= (B - 1) / 2.

    A square of even width B reaches one bin further on one side, so it is not symmetric. What it shares with its
    mirror image is kept: the bins of B - 1. B = n keeps the whole of an axis of n, B = 0 nothing.

    Raises:
        ValueError: a bandwidth that is no integer from 0 to the longer side.

    Source: Yin et al. 2019, section 2, "low pass filtering with bandwidth B".
    """
    return _square(shape, bandwidth, lambda n: np.abs(_axis(n)).astype(np.float64))


def yin_high(shape: tuple[int, int], bandwidth: float) -> Mask:
    """High pass: the square of width B centred on the highest frequency, *not* the complement of a low pass.

    Keeps |ky| >= (h - B + 1) / 2 and |kx| >= (w - B + 1) / 2: both must be high, so pure horizontal and vertical
    frequencies are dropped. At 32 x 32, B = 27 keeps 3 <= |ky|, |kx|: 729 of 1024 bins, a share (27 / 32)^2 = 0.712
    of white noise. A square that is lopsided keeps what it shares with its mirror image, B - 1 bins: even B on an even
    side, and odd B on an odd side n, whose highest frequency is the pair +-(n - 1) / 2. B = n keeps the whole axis.

    Raises:
        ValueError: a bandwidth that is no integer from 0 to the longer side.

    Source: Yin et al. 2019, section 2, "high pass filtering with bandwidth B".
    """
    return _square(shape, bandwidth, lambda n: n / 2 - np.abs(_axis(n)))


def radial(shape: tuple[int, int], radius: float, *, inclusive: bool = True) -> Mask:
    """Low pass: the disc sqrt(ky^2 + kx^2) <= r, or < r if not `inclusive`; radii as in `fourier.radius`.

    Raises:
        ValueError: a radius that is not from 0 to the longer side.

    Source: Wang, Wu, Huang, Xing 2020, "High-Frequency Component Helps Explain the Generalization of Convolutional
        Neural Networks", section 3, has <=; the authors' code has <.
    """
    square, limit = _squares(shape), _limit(shape, radius)
    return square <= limit if inclusive else square < limit


def diamond(shape: tuple[int, int], radius: float) -> Mask:
    """Low pass: the diamond |ky| + |kx| <= r, in cycles per shorter side.

    Raises:
        ValueError: a radius that is not from 0 to the longer side.

    Source: Abello, Hirata, Wang 2021, "Dissecting the High-Frequency Bias in Convolutional Neural Networks".
    """
    return _l1_distances(shape) <= _exact(_check_radius(shape, radius) * max(shape))


def octave(shape: tuple[int, int], centre: float) -> Mask:
    """Band pass: the octave centre / sqrt(2) < radius <= centre sqrt(2).

    Octaves about n / 2, n / 4, n / 8 ... tile all radii from the corner of a square of side n downwards.

    Raises:
        ValueError: a centre that is not from 0 to the longer side.

    Source: Subramanian, Sizikova, Majaj, Pelli 2023, "Spatial-frequency channels, shape bias, and adversarial
        robustness", whose noise bands are octaves.
    """
    square = _squares(shape)
    return (_limit(shape, centre, 0.5) < square) & (square <= _limit(shape, centre, 2))


def complement(mask: Mask) -> Mask:
    """Every frequency that `mask` drops; the two filtered images add up to the image."""
    return ~mask


def equal_energy_rings(power: ArrayLike, count: int, *, distance: Literal["l1", "l2"] = "l1") -> Mask:
    """Rings (count, h, w) about zero frequency that hold equal shares of a spectrum's energy.

    Frequencies of one distance stay together, so shares are equal up to the energy at one distance. Zero frequency,
    the mean of the image, is in no ring.

    Args:
        power: (h, w), unshifted, mean power |F(X)|^2 of the images.
        count: number of rings.
        distance: "l1" (|ky| + |kx|: diamonds) or "l2" (circles).

    Raises:
        ValueError: a power that is no spectrum of a real image, or that leaves a ring empty.

    Source: Abello, Hirata, Wang 2021, who use diamonds.
    """
    energy = np.asarray(power, dtype=np.float64).copy()
    if energy.ndim != 2 or not np.isfinite(energy).all() or (energy < 0).any():
        raise ValueError(f"expected `power` (h, w), finite and not negative, got an array of shape {energy.shape}")
    if count < 1:
        raise ValueError(f"expected a positive `count` of rings, got {count}")
    if distance not in ("l1", "l2"):
        raise ValueError(f"expected `distance` 'l1' or 'l2', got {distance!r}")
    shape = (energy.shape[0], energy.shape[1])
    energy[0, 0] = 0
    far = _l1_distances(shape) if distance == "l1" else _squares(shape)
    distances, level = np.unique(far, return_inverse=True)
    each = np.bincount(level.reshape(-1), weights=energy.reshape(-1))
    if not each.sum() > 0:
        raise ValueError("expected a `power` that is not zero everywhere but at zero frequency")
    middle = np.cumsum(each) - each / 2
    ring = np.minimum((middle * count / each.sum()).astype(np.int64), count - 1)
    ring[distances == 0] = -1
    empty = set(range(count)) - set(ring.tolist())
    if empty:
        raise ValueError(f"expected some energy in each of {count} rings, ring {min(empty)} is empty; ask for fewer")
    return ring[level].reshape(shape) == np.arange(count)[:, None, None]


@dataclasses.dataclass(frozen=True)
class NamedMask:
    """A family of masks over a bandwidth.

    Attributes:
        name: by which it is chosen.
        formula: which frequencies it keeps.
        source: where it is defined.
        axis: what the bandwidth is, as it stands on an axis.
        build: (shape, bandwidth) -> mask.
    """

    name: str
    formula: str
    source: str
    axis: str
    build: Callable[[tuple[int, int], float], Mask]


def _radial_open(shape: tuple[int, int], radius: float) -> Mask:
    return radial(shape, radius, inclusive=False)


def _complement_of(mask: NamedMask) -> NamedMask:
    return dataclasses.replace(
        mask,
        name=f"complement_{mask.name}",
        formula=f"not ({mask.formula})",
        build=lambda shape, bandwidth: complement(mask.build(shape, bandwidth)),
    )


_NAMED = (
    NamedMask("yin_low", "|ky|, |kx| <= (B - 1) / 2", "Yin et al. 2019, section 2", "bandwidth B, bins", yin_low),
    NamedMask(
        "yin_high", "|ky|, |kx| >= (n - B + 1) / 2", "Yin et al. 2019, section 2", "bandwidth B, bins", yin_high
    ),
    NamedMask("radial", "|k| <= r", "Wang et al. 2020, section 3", "radius r, cycles per image", radial),
    NamedMask(
        "radial_open", "|k| < r", "Wang et al. 2020, authors' code", "radius r, cycles per image",
        _radial_open,
    ),
    NamedMask("diamond", "|ky| + |kx| <= r", "Abello et al. 2021", "L1 radius r, cycles per image", diamond),
    NamedMask(
        "octave", "c / sqrt 2 < |k| <= c sqrt 2", "Subramanian et al. 2023",
        "octave about c, cycles per image", octave,
    ),
)  # fmt: skip
MASKS = {mask.name: mask for named in _NAMED for mask in (named, _complement_of(named))}
ALIASES = {"low": "yin_low", "high": "yin_high", "band": "octave"}


def named(kind: str) -> NamedMask:
    """The family of masks called `kind`; "low", "high" and "band" are short for yin_low, yin_high and octave.

    Raises:
        ValueError: no such family.
    """
    name = ALIASES.get(kind, kind)
    if name not in MASKS:
        raise ValueError(f"expected a mask of {[*ALIASES, *MASKS]}, got {kind!r}")
    return MASKS[name]


def default_bandwidths(name: str, shape: tuple[int, int]) -> list[float]:
    """Bandwidths that span the plane: those of the paper for squares, their like for the other families.

    Squares: 0, the odd ones next to the eighths of the shorter side n, and n; 0, 3, 7 ... 31, 32 at n = 32.
    Discs and diamonds: eighths of n, up to the corner. Octaves: n / 2, n / 4 ... down to 1.

    Source: Yin et al. 2019, Figure 5; Wang et al. 2020; Subramanian et al. 2023.
    """
    n = min(shape)
    family = name.removeprefix("complement_")
    if family == "octave":
        return sorted(n / 2**j for j in range(1, int(math.log2(n)) + 1)) or [1.0]
    if family in ("yin_low", "yin_high"):
        odd = {2 * round(j * n / 16) - 1 for j in range(1, 9)}
        return [float(b) for b in sorted({0, n, *(b for b in odd if b > 0)})]
    far = _l1_distances(shape).max() if family == "diamond" else math.sqrt(_squares(shape).max())
    corner = float(far) / max(shape)
    return [j * n / 8 for j in range(1, math.ceil(8 * corner / n) + 1)]


def check_symmetric(masks: ArrayLike, shape: tuple[int, int]) -> Mask:
    """Masks (b, h, w) of the caller, after checking that images filtered by them are real.

    Raises:
        ValueError: another shape, values other than 0 and 1, or a mask with M(k) != M(-k).
    """
    given = np.asarray(masks)
    if given.ndim != 3 or given.shape[1:] != shape or not len(given):
        raise ValueError(f"expected masks of shape (b, {shape[0]}, {shape[1]}), got {given.shape}")
    if not np.isin(given, (0, 1)).all():
        raise ValueError("expected masks of 0 and 1 (drop and keep), got other values")
    kept = given.astype(np.bool_)
    mirrored = np.roll(kept[:, ::-1, ::-1], 1, axis=(1, 2))
    if not (kept == mirrored).all():
        bad = int((kept != mirrored).any(axis=(1, 2)).argmax())
        raise ValueError(
            f"expected masks with M(k) = M(-k), so that filtered images are real; mask {bad} is not symmetric: pass "
            f"`mask & mirrored` or `mask | mirrored`, and unshifted masks (zero frequency at [0, 0])"
        )
    return kept


def stack(kind: str, shape: tuple[int, int], bandwidths: Sequence[float]) -> Mask:
    """The masks (b, h, w) of one family at each bandwidth."""
    family = named(kind)
    return np.stack([family.build(shape, bandwidth) for bandwidth in bandwidths])


def _axis(n: int) -> NDArray[np.int64]:
    """Signed frequencies of an axis of n, unshifted."""
    return (np.arange(n) + n // 2) % n - n // 2


def _square(shape: tuple[int, int], bandwidth: float, distance: Callable[[int], NDArray[np.float64]]) -> Mask:
    """Bins whose `distance` from a centre is at most (B - 1) / 2 along both axes; all of an axis that B covers."""
    longer = max(shape)
    if not (float(bandwidth).is_integer() and 0 <= bandwidth <= longer):
        raise ValueError(
            f"expected an integer bandwidth from 0 to {longer} for images of {shape[0]} x {shape[1]}, got {bandwidth}"
        )
    keep = [(distance(n) <= (bandwidth - 1) / 2) | (bandwidth >= n) for n in shape]
    return keep[0][:, None] & keep[1][None, :]


def _check_radius(shape: tuple[int, int], radius: float) -> float:
    if not 0 <= radius <= max(shape):
        raise ValueError(
            f"expected a radius from 0 to {max(shape)} for images of {shape[0]} x {shape[1]}, got {radius}"
        )
    return float(radius)


def _lattice(shape: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """|ky| w (h, 1) and |kx| h (1, w): cycles per shorter side times the longer side, exactly.

    Integers, since a frequency on the rim of a disc must not fall on either side of it by rounding: on 15 x 22,
    11 * (15 / 22) is less than 7.5.
    """
    (h, w) = shape
    return np.abs(_axis(h))[:, None] * w, np.abs(_axis(w))[None, :] * h


def _squares(shape: tuple[int, int]) -> NDArray[np.int64]:
    """Squared radii (h, w), times the squared longer side: families are isotropic on oblong images."""
    ky, kx = _lattice(shape)
    return ky**2 + kx**2


def _l1_distances(shape: tuple[int, int]) -> NDArray[np.int64]:
    """|ky| + |kx| (h, w), times the longer side."""
    ky, kx = _lattice(shape)
    return ky + kx


def _limit(shape: tuple[int, int], radius: float, factor: float = 1) -> float:
    """Return factor radius^2 in the unit of `_squares`."""
    return _exact(factor * (_check_radius(shape, radius) * max(shape)) ** 2)


def _exact(value: float) -> float:
    """The integer that `value` is but for the rounding of a radius such as 32 / 3 or 5 sqrt 2, else `value`."""
    return float(round(value)) if abs(value - round(value)) <= _ROUNDING * abs(value) else value
