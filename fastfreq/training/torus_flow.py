"""Gradient flow of a kernel on the torus, exactly: which frequency decays at which rate, and where the order turns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfreq.results import tables
from fastfreq.results.folds import same
from fastfreq.results.result import Result
from fastfreq.vocabulary import numbers

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
Transform = ArrayLike | Callable[[FloatArray], ArrayLike]


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class TorusFlow(Result, kind="torus_flow"):
    """Every Fourier coefficient of a function on the torus as the flow takes it to the target.

    Attributes:
        frequencies: (f, d) integer, of the grid's DFT, of which a target and a start on a grid hold no others.
        rates: (f,) lambda(k) = |k|^(2 s) |sigma^(k)|^2.
        order: s, number of derivatives in the loss.
        target: (f,) complex coefficients, of sum over k of f^(k) e^(i k.x).
        start: (f,) complex.
        times: (t,) ascending.
        shape: of the grid.
    """

    SHAPES: ClassVar[dict[str, str]] = {"frequencies": "f _", "rates": "f", "target": "f", "start": "f", "times": "t"}

    frequencies: NDArray[np.int64] = same()
    rates: FloatArray = same()
    order: float = same()
    target: ComplexArray = same()
    start: ComplexArray = same()
    times: FloatArray = same()
    shape: tuple[int, ...] = same()

    def _check_shapes(self) -> None:
        super()._check_shapes()
        if not len(self.times):
            raise ValueError("expected at least one of `times`, got none")
        sizes = {len(self.frequencies), len(self.rates), len(self.target), len(self.start), int(np.prod(self.shape))}
        if len(sizes) > 1:
            raise ValueError(
                f"expected as many frequencies, rates and coefficients as grid points, got {sorted(sizes)}"
            )

    @property
    def coefficients(self) -> ComplexArray:
        """(t, f) f^(k, t) = f*^(k) + e^(-lambda(k) t) (f0^(k) - f*^(k))."""
        return self.target + np.exp(-np.outer(self.times, self.rates)) * (self.start - self.target)

    @property
    def values(self) -> FloatArray:
        """(t, *shape) the function on the grid."""
        axes = tuple(range(1, len(self.shape) + 1))
        grid = self.coefficients.reshape(len(self.times), *self.shape)
        return np.fft.ifftn(grid, axes=axes, norm="forward").real

    @property
    def errors(self) -> FloatArray:
        """(t, f) |f^(k, t) - f*^(k)| / |f*^(k)|; NaN where the target has nothing at k."""
        size = np.abs(self.target)
        held = size > 1e-12 * size.max(initial=0)
        distance = np.exp(-np.outer(self.times, self.rates)) * np.abs(self.start - self.target)
        return np.divide(distance, size, out=np.full_like(distance, np.nan), where=held)

    @property
    def half_lives(self) -> FloatArray:
        """(f,) time in which the error at k halves; infinite where nothing moves."""
        with np.errstate(divide="ignore"):
            return np.log(2) / self.rates

    def by_radius(self) -> tuple[FloatArray, FloatArray]:
        """(radii, rates): |k| ascending from the smallest above 0 and the mean rate there."""
        radius = np.linalg.norm(self.frequencies, axis=1)
        distinct, place = np.unique(radius.round(9), return_inverse=True)
        mean = np.bincount(place, self.rates) / np.bincount(place)
        return distinct[distinct > 0], mean[distinct > 0]

    def principle(self, lowest: float = 1, highest: float = np.inf) -> str:
        """Whether rates fall with |k| from lowest to highest: "holds", "reversed", "neutral" (all alike) or "mixed"."""
        radius, rates = self.by_radius()
        seen = rates[(radius >= lowest) & (radius <= highest)]
        if len(seen) < 2:
            raise ValueError(f"expected two radii or more from {lowest} to {highest}, there are {len(seen)}")
        steps = np.diff(seen)
        flat = np.abs(steps) <= 1e-6 * np.maximum(seen[1:], seen[:-1])
        if flat.all():
            return "neutral"
        if flat.any():
            return "mixed"
        return "holds" if (steps < 0).all() else "reversed" if (steps > 0).all() else "mixed"

    def table(self) -> list[dict[str, Any]]:
        """One row per frequency that the target or the start holds."""
        seen = np.flatnonzero(np.abs(self.target) + np.abs(self.start) > 0)
        columns: dict[str, Any] = {f"k{i}": self.frequencies[seen, i] for i in range(self.frequencies.shape[1])}
        columns |= {"rate": self.rates[seen], "half_life": self.half_lives[seen]}
        columns |= {"target": np.abs(self.target[seen]), "error": self.errors[-1, seen]}
        return tables.from_columns(columns)

    def headline(self) -> str:
        """Whether low frequencies are fast."""
        radius, _ = self.by_radius()
        if len(radius) < 2:
            return f"loss of order {self.order:g}, one frequency"
        most = min(8.0, float(radius[-1]))
        found = self.principle(1, most)
        verb = "holds" if found == "holds" else f"is {found}"
        return f"loss of order {self.order:g}: the frequency principle {verb} for |k| from 1 to {most:g}"


def predicted_rates(transform: ArrayLike, *, frequencies: ArrayLike, order: float = 0) -> FloatArray:
    """(f,) lambda(k) = |k|^(2 s) |sigma^(k)|^2, at which the error at frequency k decays.

    Features sigma(x - w) with w uniform make the kernel K^(k) = |sigma^(k)|^2 under gradient descent on their weights;
    a loss on s-th derivatives multiplies by |k|^(2 s). The frequency principle holds where the product falls: for
    |sigma^(k)| ~ |k|^-alpha as long as s < alpha. At s = alpha all frequencies are equally fast, beyond it the order
    is reversed.

    Args:
        transform: (f,) sigma^(k), complex or real.
        frequencies: (f,) or (f, d) k.
        order: s, from 0; a half is allowed.

    Raises:
        ValueError: shapes that do not fit, NaN, a negative order.

    Source: E, Ma, Wu 2019 (arXiv 1912.12777); its text was not at hand: our reading, derived here.
    """
    size, k = np.abs(numbers.as_complex_array("transform", transform)), numbers.as_array("frequencies", frequencies)
    radius = np.linalg.norm(k, axis=-1) if k.ndim == 2 else np.abs(k)
    s = numbers.as_float("order", order)
    if size.shape != radius.shape or radius.ndim != 1:
        raise ValueError(f"expected as many values of `transform` as `frequencies`, got {size.shape} and {k.shape}")
    if not (np.isfinite(size).all() and np.isfinite(radius).all()) or s < 0:
        raise ValueError(f"expected finite `transform` and `frequencies` and an `order` of at least 0, got order {s}")
    with np.errstate(over="ignore", invalid="ignore"):
        rates = radius ** (2 * s) * size**2  # 0^0 is 1: the mean counts in the loss of order 0
    if not np.isfinite(rates).all():
        raise ValueError(f"expected an `order` and a `transform` whose rates float64 holds, got order {s:g}")
    return rates


def torus_flow(
    target: ArrayLike,
    *,
    transform: Transform,
    times: Sequence[float],
    order: float = 0,
    initial: ArrayLike | None = None,
) -> TorusFlow:
    """The exact flow of features sigma(x - w) on the torus (0 .. 2 pi)^d towards a target, without a step size.

    Args:
        target: (N_1, .., N_d) real values on the grid 2 pi n / N.
        transform: sigma^(k) = mean over the torus of sigma(x) e^(-i k.x): an array like the grid's DFT, or a function
            of frequencies (f, d).
        times: at which it is looked at, ascending from 0 on.
        order: s, the loss is half the mean square of the s-th derivatives of the error.
        initial: values before training; zero if None.

    Raises:
        ValueError: shapes that do not fit, NaN, times that do not ascend.

    Source: E, Ma, Wu 2019 (arXiv 1912.12777), our reading.
    """
    values = _grid("target", target, None)
    start = np.zeros(values.shape) if initial is None else _grid("initial", initial, values.shape)
    moments = np.array(numbers.ascending("times", times, numbers.as_float))
    if moments[0] < 0:
        raise ValueError(f"expected `times` ascending from 0 on, got {times}")
    axes = [np.fft.fftfreq(n, 1 / n) for n in values.shape]
    frequencies = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, values.ndim)
    sigma = numbers.as_complex_array("transform", transform(frequencies) if callable(transform) else transform)
    if sigma.size != len(frequencies):
        raise ValueError(f"expected a `transform` for {len(frequencies)} frequencies, got shape {sigma.shape}")
    rates = predicted_rates(sigma.reshape(-1), frequencies=frequencies, order=order)
    opposite = np.roll(np.flip(rates.reshape(values.shape)), 1, axis=tuple(range(values.ndim))).reshape(-1)
    if not np.allclose(rates, opposite, rtol=1e-6, atol=1e-12 * float(rates.max())):
        raise ValueError("expected a `transform` of a real function, |sigma^(-k)| = |sigma^(k)|, some differ")
    return TorusFlow(
        frequencies=frequencies.astype(np.int64),
        rates=rates,
        order=float(order),
        target=np.fft.fftn(values, norm="forward").reshape(-1),
        start=np.fft.fftn(start, norm="forward").reshape(-1),
        times=moments,
        shape=values.shape,
        details={"model": "random features on the torus", "reading": "ours, of arXiv 1912.12777"},
    )


def _grid(name: str, values: ArrayLike, shape: tuple[int, ...] | None) -> FloatArray:
    given = numbers.as_array(name, values)
    if given.ndim < 1 or min(given.shape) < 2 or (shape is not None and given.shape != shape):
        raise ValueError(
            f"expected `{name}` on a grid of {shape or 'at least 2 points along each axis'}, got {given.shape}"
        )
    if not np.isfinite(given).all():
        raise ValueError(f"expected finite `{name}`, got NaN or infinity")
    return given
