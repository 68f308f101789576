"""The Fourier transform of a network that is affine in pieces, exactly: on a line by pieces, on a plane by polygons."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from fastfreq.layers.lipschitz import lipschitz_bound
from fastfreq.results.folds import same
from fastfreq.results.result import Result
from fastfreq.vocabulary import numbers

from . import affine_transforms, piecewise_linear
from .linear_regions import INSIDE, area_of, linear_regions
from .piecewise_linear import FloatArray, Step

_PARALLEL = 1e-9  # sine of the angle within which frequencies are along a direction
_OCTAVE_PARTS = 3  # of an octave in which the largest amplitude counts


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ReLUTransform(Result, kind="relu_transform"):
    """F(k) = integral over the window of f(origin + s directions) exp(-2 pi i k . s) ds.

    Attributes:
        frequencies: (K, r) cycles per unit of s; r = 1 on a line, 2 on a plane.
        transform: (K, m) complex, of each output.
        facets: (K, m) complex, the part of `transform` that bends of the network inside the window make; the rest is
            its window's. It decays with order 2 along the normals of facets, 3 elsewhere. NaN at frequency zero.
        window: (2, 1) the ends of the interval, or (v, 2) the corners of the polygon.
        origin: (d,) of the line or plane.
        directions: (r, d) orthonormal.
        pieces: on which the network is affine.
        facet_length: of all edges between pieces on a plane; on a line their number.
        lipschitz: `lipschitz_bound` of the network.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "frequencies": "k r",
        "transform": "k m",
        "facets": "k m",
        "window": "_ r",
        "origin": "d",
        "directions": "r d",
    }

    frequencies: FloatArray = same()
    transform: NDArray[np.complex128] = same()
    facets: NDArray[np.complex128] = same()
    window: FloatArray = same()
    origin: FloatArray = same()
    directions: FloatArray = same()
    pieces: int = same()
    facet_length: float = same()
    lipschitz: float = same()

    @property
    def radius(self) -> FloatArray:
        """(K,) |k|."""
        return np.linalg.norm(self.frequencies, axis=1)

    @property
    def bounds(self) -> FloatArray:
        """(K,) what no |facets| exceeds: 2 L (facet length) / (2 pi |k|)^2 for the Lipschitz bound L.

        A bend changes the gradient by at most 2 L.
        """
        with np.errstate(divide="ignore"):
            return 2 * self.lipschitz * self.facet_length / (2 * np.pi * self.radius) ** 2

    def decay(
        self,
        *,
        along: ArrayLike | None = None,
        from_: float = 0.0,
        to: float = np.inf,
        output: int = 0,
        part: str = "facets",
    ) -> float:
        """Exponent p of |F(k)| ~ |k|^p: a line through the largest amplitude of each third of an octave.

        Args:
            along: (r,) direction of the frequencies that count; None for all.
            from_: smallest |k|.
            to: largest |k|.
            output: of the network.
            part: "facets" or "transform".

        Raises:
            ValueError: another part; fewer than four thirds of an octave that hold such frequencies.
        """
        if part not in ("facets", "transform"):
            raise ValueError(f"expected `part` to be 'facets' or 'transform', got {part!r}")
        radius, amplitude = self.radius, np.abs(getattr(self, part)[:, output])
        chosen = (radius >= max(from_, 1e-300)) & (radius <= to) & (amplitude > 0)
        if along is not None:
            unit = np.asarray(along, dtype=np.float64) / np.linalg.norm(along)
            rest = self.frequencies - np.outer(self.frequencies @ unit, unit)
            chosen &= np.linalg.norm(rest, axis=1) <= _PARALLEL * radius
        return envelope_slope(radius[chosen], amplitude[chosen])

    def table(self) -> list[dict[str, Any]]:
        """One row per frequency and output: components of k, |k|, |F|, |facets|, the bound on it."""
        names = ["k"] if self.frequencies.shape[1] == 1 else ["k1", "k2"]
        return [
            {
                **{name: float(value) for name, value in zip(names, self.frequencies[i], strict=True)},
                "radius": float(self.radius[i]),
                "output": o,
                "amplitude": float(abs(self.transform[i, o])),
                "facets": float(abs(self.facets[i, o])),
                "bound": float(self.bounds[i]),
            }
            for i in range(len(self.frequencies))
            for o in range(self.transform.shape[1])
        ]

    def headline(self) -> str:
        """How many pieces there are."""
        where = "line" if len(self.directions) == 1 else "plane"
        return f"{self.pieces:,} pieces on a {where}, {len(self.frequencies):,} frequencies"


def envelope_slope(k: FloatArray, amplitude: FloatArray) -> float:
    """Exponent of a power law through the largest amplitude of each third of an octave of k.

    Raises:
        ValueError: fewer than four thirds of an octave hold one.
    """
    part = np.floor(_OCTAVE_PARTS * np.log2(k / k.min())) if len(k) else k
    parts = np.unique(part)
    if len(parts) < 4:
        raise ValueError(f"expected frequencies over more than an octave, got {len(k)} in {len(parts)} thirds of one")
    best = [np.flatnonzero(part == p)[np.argmax(amplitude[part == p])] for p in parts]
    return float(np.polyfit(np.log(k[best]), np.log(amplitude[best]), 1)[0])


def relu_transform(
    model: nn.Module,
    frequencies: ArrayLike,
    *,
    window: ArrayLike,
    origin: ArrayLike | None = None,
    directions: ArrayLike | None = None,
    most_pieces: int = 200_000,
) -> ReLUTransform:
    """The Fourier transform of a network's restriction to a line or a plane, inside a window, in closed form.

        F(k) = integral over the window of f(origin + s directions) exp(-2 pi i k . s) ds

    The network is taken apart into the pieces on which it is affine, found exactly, and each is integrated exactly, in
    float64: there is no sampling. The window is sharp; a network that is not zero at its ends has jumps there, which
    decay with order 1 only. `facets` is what is left without them: the transform of the network's own bends.

    Args:
        model: of Linear, ReLU, ReLU6, LeakyReLU, Hardtanh and Identity in Sequential.
        frequencies: (K,) on a line, (K, 2) on a plane, in cycles per unit of s.
        window: (a, b) on a line; (v, 2) corners of a convex polygon on a plane, in either sense.
        origin: (d,) input at s = 0; None for zero.
        directions: (d,) or (1, d) for a line, (2, d) for a plane, orthonormal; None for the axes of a network with one
            or two inputs.
        most_pieces: beyond which a plane is refused.

    Returns:
        Transform, pieces and bounds.

    Raises:
        ValueError: a module that is not affine in pieces, by its name; directions that are not orthonormal; a window
            that is empty or not convex; shapes that do not fit; too many pieces.

    Source: Rahaman et al. 2019, "On the Spectral Bias of Neural Networks", Lemma 1 and Theorem 1.
    """
    most_pieces = numbers.as_int("most_pieces", most_pieces)
    steps = piecewise_linear.steps_of(model)
    d = piecewise_linear.inputs_of(steps)
    corners = _array("window", window)
    r = 1 if corners.ndim == 1 else 2
    axes = _directions(directions, r, d)
    start = np.zeros(d) if origin is None else _array("origin", origin)
    if start.shape != (d,):
        raise ValueError(f"expected `origin` of shape ({d},), as the network has inputs, got {start.shape}")
    k = _array("frequencies", frequencies)
    k = k[:, None] if r == 1 and k.ndim == 1 else k
    if k.ndim != 2 or k.shape[1] != r:
        raise ValueError(f"expected `frequencies` of shape {'(K,)' if r == 1 else '(K, 2)'}, got {k.shape}")
    run = _on_line if r == 1 else _on_plane
    whole, facets, corners, pieces, length = run(steps, k, corners, start, axes, most_pieces)
    lipschitz = lipschitz_bound(model, input_size=(d,)).bound
    return ReLUTransform(
        frequencies=k, transform=whole, facets=facets, window=corners, origin=start, directions=axes, pieces=pieces,
        facet_length=length, lipschitz=lipschitz, details={"model": type(model).__name__},
    )  # fmt: skip


def _on_line(
    steps: list[Step], k: FloatArray, window: FloatArray, origin: FloatArray, axes: FloatArray, most: int
) -> tuple[Any, Any, FloatArray, int, float]:
    if window.shape != (2,) or not window[0] < window[1]:
        raise ValueError(f"expected `window` as (a, b) with a < b, got {window.tolist()}")
    breaks = piecewise_linear.breaks_on_line(steps, origin, axes[0], (float(window[0]), float(window[1])))
    if len(breaks) - 1 > most:
        raise ValueError(f"expected at most {most} pieces in the window, got {len(breaks) - 1}; take a shorter one")
    middle = (breaks[1:] + breaks[:-1]) / 2
    values, slopes = piecewise_linear.values_and_slopes(steps, origin + middle[:, None] * axes[0], axes)
    kappa = 2 * np.pi * k[:, 0]
    whole = affine_transforms.over_pieces(breaks, values, slopes[:, 0], kappa)
    facets = affine_transforms.over_breaks(breaks, slopes[:, 0], kappa)
    return whole, facets, window[:, None], len(middle), float(len(breaks) - 2)


def _on_plane(
    steps: list[Step], k: FloatArray, window: FloatArray, origin: FloatArray, axes: FloatArray, most: int
) -> tuple[Any, Any, FloatArray, int, float]:
    window = _convex(window)
    regions = linear_regions(steps, origin, axes, window, most=most)
    diameter = float(max(np.linalg.norm(window - corner, axis=1).max() for corner in window))
    whole, facets = affine_transforms.over_regions(regions, 2 * np.pi * k, diameter)
    edges = [
        np.linalg.norm(np.roll(region.corners, -1, axis=0) - region.corners, axis=1)[region.labels == INSIDE].sum()
        for region in regions
    ]
    return whole, facets, window, len(regions), float(np.sum(edges)) / 2


def _array(name: str, given: ArrayLike) -> FloatArray:
    found = numbers.as_array(name, given)
    if not found.size or not np.isfinite(found).all():
        raise ValueError(f"expected finite numbers as `{name}`, got {'none' if not found.size else 'others'}")
    return found


def _directions(given: ArrayLike | None, r: int, d: int) -> FloatArray:
    if given is None:
        if d != r:
            raise ValueError(f"expected `directions` ({r}, {d}) in the {d} inputs of the network, got none")
        return np.eye(d)
    axes = np.atleast_2d(_array("directions", given))
    if axes.shape != (r, d):
        raise ValueError(f"expected `directions` of shape ({r}, {d}), got {axes.shape}")
    if np.abs(axes @ axes.T - np.eye(r)).max() > 1e-9:
        raise ValueError("expected orthonormal `directions`; take np.linalg.qr(directions.T)[0].T")
    return axes


def _convex(corners: FloatArray) -> FloatArray:
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3:
        raise ValueError(f"expected `window` as (a, b) or at least three corners (v, 2), got shape {corners.shape}")
    corners = corners if area_of(corners) > 0 else corners[::-1]
    along = np.roll(corners, -1, axis=0) - corners
    after = np.roll(along, -1, axis=0)
    turns = along[:, 0] * after[:, 1] - along[:, 1] * after[:, 0]
    angle = np.arctan2(turns, (along * after).sum(axis=1)).sum()
    if not (turns > 0).all() or abs(angle - 2 * np.pi) > 1e-6:
        raise ValueError("expected `window` as the corners of a convex polygon in order, none of them on an edge")
    return corners
