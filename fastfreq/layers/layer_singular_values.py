"""What the singular values of a layer are: by frequency, with the figures read off them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfreq.results import codec, tables
from fastfreq.results.folds import same
from fastfreq.results.result import Result

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
# error each accuracy guarantees, as a share of the largest singular value
GUARANTEES = {"exact": 1e-12, "high": 1e-7, "fast": 3.5e-4}
_AXES = {1: ("kx",), 2: ("ky", "kx"), 3: ("kz", "ky", "kx")}


@dataclasses.dataclass(frozen=True, eq=False)
class RingProfile:
    """Singular values by ring of frequencies.

    Attributes:
        radius: (p,) ring radii in cycles per pixel; rings are one cycle per shorter side of the grid wide.
        largest: (p,) largest singular value of each ring.
        median: (p,) median over the ring's frequencies and indices.
        smallest: (p,) smallest singular value of each ring.
        cells: (p,) frequencies of the grid in each ring.
    """

    radius: FloatArray
    largest: FloatArray
    median: FloatArray
    smallest: FloatArray
    cells: IntArray


@codec.record
@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LayerSingularValues(Result, kind="layer_singular_values"):
    """All singular values of one layer as a linear map, grouped by frequency.

    A layer with stride s folds s^d input frequencies together, so its frequencies live on the reduced grid n / s of
    its coarser side; "per pixel" below means per pixel of that grid. Matrices that many frequencies share (twins k
    and -k, all of them in a 1 x 1 kernel) are kept once, in `distinct`.

    Attributes:
        name: where the layer sits in the model, or "".
        layer_type: its class, such as "Conv2d".
        weight_shape: shape of its weight.
        input_size: spatial size (d entries) of its input.
        grid: (n_1 .. n_d) reduced grid of frequencies.
        frequencies: (f, d) a representative of each distinct matrix, integers modulo the grid.
        cells: (*grid) row of `distinct` that each frequency has, unshifted: zero frequency first.
        multiplicity: (f,) frequencies of the grid that share a row.
        distinct: (f, r) singular values, descending in each row, all groups of a grouped layer together.
        accuracy: "exact", "high" or "fast", see `guaranteed_error`.
        exact: True where these are the values of the layer's own map. Where False they bound them from above (zero
            padding), unless `other_padding`.
        note: what the bound is and what was done to the layer, for people.
    """

    name: str = same()
    layer_type: str = same()
    weight_shape: tuple[int, ...] = same()
    input_size: tuple[int, ...] = same()
    grid: tuple[int, ...] = same()
    frequencies: IntArray = same()
    cells: IntArray = same()
    multiplicity: IntArray = same()
    distinct: FloatArray = same()
    accuracy: str = same()
    exact: bool = same()
    note: str = same()

    def __post_init__(self) -> None:
        super().__post_init__()
        f = len(self.distinct)
        if self.accuracy not in GUARANTEES:
            raise ValueError(f"expected `accuracy` of {list(GUARANTEES)}, got {self.accuracy!r}")
        if self.distinct.ndim != 2 or not self.distinct.size:
            raise ValueError(f"expected `distinct` of shape (f, r), neither of them 0, got {self.distinct.shape}")
        first, last = self.distinct[:, 0], self.distinct[:, -1]
        if not ((np.diff(self.distinct, axis=1) <= 0).all() and (last >= 0).all() and np.isfinite(first).all()):
            raise ValueError("expected `distinct` finite, descending along its rows and not negative")
        if self.frequencies.shape != (f, len(self.grid)) or self.cells.shape != self.grid:
            raise ValueError(
                f"expected `frequencies` of shape {(f, len(self.grid))} and `cells` of shape {self.grid}, "
                f"got {self.frequencies.shape} and {self.cells.shape}"
            )
        if self.cells.min() < 0 or self.cells.max() >= f:
            raise ValueError(f"expected `cells` from 0 to {f - 1}, got {self.cells.min()} to {self.cells.max()}")
        if not np.array_equal(np.bincount(self.cells.reshape(-1), minlength=f), self.multiplicity):
            raise ValueError("expected `multiplicity` to count the cells of each distinct frequency")

    @property
    def other_padding(self) -> bool:
        """Whether these are values of a circular map that the layer itself is not: no bound of its own."""
        return not self.exact and "taken as circular" in self.note

    # ---------------------------------------------------------------- figures
    @property
    def values(self) -> FloatArray:
        """(*grid, r) singular values, descending along the last axis, zero frequency first (unshifted)."""
        return self.distinct[self.cells]

    @property
    def count(self) -> int:
        """Number of singular values of the map, multiplicities counted: the largest rank it could have."""
        return int(self.multiplicity.sum()) * self.distinct.shape[1]

    @property
    def norm(self) -> float:
        """The spectral norm: the largest singular value."""
        return float(self.distinct[:, 0].max())

    @property
    def smallest(self) -> float:
        """The smallest singular value; known to within `guaranteed_error`."""
        return float(self.distinct[:, -1].min())

    @property
    def condition(self) -> float:
        """`norm` / `smallest`; inf where the smallest value is 0.

        The Gram-based accuracies "high" and "fast" do not resolve values below their guaranteed error: where
        `resolved` is False only `condition_low` is certain, and "exact" gives the value itself.
        """
        return self.norm / self.smallest if self.smallest > 0 else math.inf

    @property
    def resolved(self) -> bool:
        """Whether the smallest value lies above `guaranteed_error`, so that `condition` means something."""
        return self.smallest > self.guaranteed_error

    @property
    def condition_low(self) -> float:
        """The condition number is at least this: norm / (smallest + guaranteed_error)."""
        below = self.smallest + self.guaranteed_error
        return (self.norm - self.guaranteed_error) / below if below > 0 else math.inf

    @property
    def guaranteed_error(self) -> float:
        """Largest absolute error of any singular value here: 1e-12 ("exact"), 1e-7, 3.5e-4 times `norm`."""
        return GUARANTEES[self.accuracy] * self.norm

    @property
    def frobenius(self) -> float:
        """Frobenius norm of the map: sqrt(sum sigma^2), multiplicities counted."""
        norm = self.norm or 1.0  # scaled, so that squares neither overflow nor vanish
        return norm * math.sqrt(float(self.multiplicity @ np.square(self.distinct / norm).sum(axis=1)))

    @property
    def stable_rank(self) -> float:
        """||.||_F^2 / ||.||_2^2, between 1 and the rank; 0 for a map that is zero."""
        return (self.frobenius / self.norm) ** 2 if self.norm > 0 else 0.0

    @property
    def effective_rank(self) -> float:
        """exp(H(p)) with p = sigma / sum(sigma) over all `count` values: between 1 and `count`, 0 for a zero map.

        Source: Roy and Vetterli 2007, definition 1 (entropy in nats).
        """
        total = float(self.multiplicity @ self.distinct.sum(axis=1))
        if total == 0:
            return 0.0
        p = self.distinct / total
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(p > 0, -p * np.log(p), 0.0)
        return math.exp(float(self.multiplicity @ terms.sum(axis=1)))

    @property
    def weights(self) -> IntArray:
        """(f, r) how often the map has each of the `distinct` values."""
        return np.broadcast_to(self.multiplicity[:, None], self.distinct.shape)

    def histogram(self, bins: int | Sequence[float] = 50) -> tuple[IntArray, FloatArray]:
        """(counts, edges) of all `count` values, multiplicities counted; `bins` as in numpy.histogram."""
        counts, edges = np.histogram(self.distinct, bins=bins, weights=self.weights)
        return counts.astype(np.int64), edges

    def quantiles(self, q: ArrayLike = (0.05, 0.25, 0.5, 0.75, 0.95)) -> FloatArray:
        """Values below which the shares `q` (0 .. 1) of all `count` values lie, each one of the values."""
        share = np.asarray(q, dtype=np.float64)
        return np.quantile(self.distinct, share, weights=self.weights, method="inverted_cdf")

    @property
    def median(self) -> float:
        """The median of all `count` values."""
        return float(self.quantiles(0.5))

    # ---------------------------------------------------------------- by frequency
    @property
    def radius(self) -> FloatArray:
        """(*grid) radius of every frequency in cycles per pixel of the grid: 0 .. sqrt(d) / 2, unshifted."""
        squares = np.zeros(self.grid)
        for axis, n in enumerate(self.grid):
            k = np.arange(n)
            shape = [1] * len(self.grid)
            shape[axis] = n
            squares = squares + np.square(np.minimum(k, n - k) / n).reshape(shape)
        return np.sqrt(squares)

    def profile(self) -> RingProfile:
        """Largest, median and smallest value of each ring of frequencies."""
        side = min(self.grid, default=1)
        rings = np.floor(self.radius * side + 0.5).astype(np.int64).reshape(-1)
        rows = self.cells.reshape(-1)
        present, cells = np.unique(rings, return_counts=True)
        members = [rows[rings == ring] for ring in present]
        return RingProfile(
            present / side,
            np.array([self.distinct[m, 0].max() for m in members]),
            np.array([np.median(self.distinct[m]) for m in members]),
            np.array([self.distinct[m, -1].min() for m in members]),
            cells.astype(np.int64),
        )

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per distinct matrix and index: its frequency, radius, multiplicity, index and value.

        Where many frequencies share a matrix the representative stands for all of them (`multiplicity` says how
        many): -k for k, and zero for every frequency of a 1 x 1 kernel.
        """
        f, r = self.distinct.shape
        names = _AXES.get(len(self.grid), tuple(f"k{axis}" for axis in range(len(self.grid))))
        n = np.asarray(self.grid, dtype=np.int64)
        k = self.frequencies % n
        columns: dict[str, Any] = {
            name: np.repeat((k[:, axis] + n[axis] // 2) % n[axis] - n[axis] // 2, r) for axis, name in enumerate(names)
        }
        columns["radius"] = np.repeat(self.radius[tuple(k.T)].reshape(-1), r)
        columns["multiplicity"] = np.repeat(self.multiplicity, r)
        columns["index"] = np.tile(np.arange(r), f)
        columns["value"] = self.distinct.reshape(-1)
        return tables.from_columns(columns)

    def summary(self) -> list[dict[str, Any]]:
        """In short: one row, as in the table of a model."""
        return [layer_row(self)]

    def headline(self) -> str:
        """Norm and effective rank."""
        bound = "" if self.exact else "~ " if self.other_padding else "<= "
        return f"norm {bound}{self.norm:.4g}, effective rank {self.effective_rank:,.0f} of {self.count:,}"

    @classmethod
    def from_format_1(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> LayerSingularValues:
        """What version 0.1 wrote."""
        own = dict(header["layer"])
        own["layer_type"] = own.pop("kind")
        for name in ("weight_shape", "input_size", "grid"):
            own[name] = tuple(own[name])
        own |= {name: arrays[name] for name in ("frequencies", "cells", "multiplicity", "distinct")}
        return cls(**own)


def layer_row(layer: LayerSingularValues) -> dict[str, Any]:
    """One row of a model's table, see `SingularValues.table`."""
    rank = layer.effective_rank
    return {
        "layer": layer.name,
        "kind": layer.layer_type,
        **{key: getattr(layer, key) for key in ("weight_shape", "input_size")},
        **{key: getattr(layer, key) for key in ("norm", "median", "smallest", "condition")},
        "condition_resolved": layer.resolved,
        "stable_rank": layer.stable_rank,
        "effective_rank": rank,
        "rank_share": rank / layer.count,
        **{key: getattr(layer, key) for key in ("count", "accuracy", "exact", "note")},
    }


def spectrum_rows(layers: Iterable[LayerSingularValues]) -> tables.Rows:
    """(head, rows) with the figures that matter most of each layer; "<=" for upper bounds, "~" of another padding."""
    head = ["layer", "kind", "weight", "input", "norm", "condition", "effective rank", "of"]
    rows = []
    for layer in layers:
        bound = "" if layer.exact else "~ " if layer.other_padding else "<= "
        rows.append(
            [
                layer.name,
                layer.layer_type,
                tables.cell(layer.weight_shape),
                tables.cell(layer.input_size),
                f"{bound}{layer.norm:.4g}",
                condition_text(layer),
                f"{layer.effective_rank:,.0f}",
                f"{layer.count:,}",
            ]
        )
    return head, rows


def condition_text(layer: LayerSingularValues) -> str:
    """The condition number, or ">" and what it is at least where the smallest value is not told from zero."""
    if layer.norm == 0:
        return "-"
    if layer.resolved:
        return f"{layer.condition:.4g}"
    low = layer.condition_low * (1 + 1e-6)  # so that 9999999 is 1e7
    step = 10.0 ** (math.floor(math.log10(low)) - 1)
    digits, exponent = f"{math.floor(low / step) * step:.1e}".split("e")
    return f">{float(digits):g}e{int(exponent)}"
