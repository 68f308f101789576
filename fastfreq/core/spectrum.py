"""What the singular values of a layer and of a model are: by frequency, with the figures read off them."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfreq.core import _shards
from fastfreq.core.results import import_pandas
from fastfreq.results import store

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
# error each accuracy guarantees, as a share of the largest singular value
GUARANTEES = {"exact": 1e-12, "high": 1e-7, "fast": 3.5e-4}
_AXES = {1: ("kx",), 2: ("ky", "kx"), 3: ("kz", "ky", "kx")}


@dataclasses.dataclass(frozen=True, eq=False)
class SpectrumProfile:
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


@dataclasses.dataclass(frozen=True, eq=False)
class LayerSpectrum:
    """All singular values of one layer as a linear map, grouped by frequency.

    A layer with stride s folds s^d input frequencies together, so its frequencies live on the reduced grid n / s of
    its coarser side; "per pixel" below means per pixel of that grid. Matrices that many frequencies share (twins k
    and -k, all of them in a 1 x 1 kernel) are kept once, in `distinct`.

    Attributes:
        name: where the layer sits in the model, or "".
        kind: its class, such as "Conv2d".
        weight_shape: shape of its weight.
        input_size: spatial size (d entries) of its input.
        grid: (n_1 .. n_d) reduced grid of frequencies.
        frequencies: (f, d) a representative of each distinct matrix, integers modulo the grid.
        cells: (*grid) row of `distinct` that each frequency has, unshifted: zero frequency first.
        multiplicity: (f,) frequencies of the grid that share a row.
        distinct: (f, r) singular values, descending in each row, all groups of a grouped layer together.
        accuracy: "exact", "high" or "fast", see `guaranteed_error`.
        exact: True where these are the values of the layer's own map, False where they bound them from above
            (zero padding).
        note: what the bound is and what was done to the layer, for people.
    """

    name: str
    kind: str
    weight_shape: tuple[int, ...]
    input_size: tuple[int, ...]
    grid: tuple[int, ...]
    frequencies: IntArray
    cells: IntArray
    multiplicity: IntArray
    distinct: FloatArray
    accuracy: str
    exact: bool
    note: str

    def __post_init__(self) -> None:
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

    def profile(self) -> SpectrumProfile:
        """Largest, median and smallest value of each ring of frequencies."""
        side = min(self.grid, default=1)
        rings = np.floor(self.radius * side + 0.5).astype(np.int64).reshape(-1)
        rows = self.cells.reshape(-1)
        present, cells = np.unique(rings, return_counts=True)
        members = [rows[rings == ring] for ring in present]
        return SpectrumProfile(
            present / side,
            np.array([self.distinct[m, 0].max() for m in members]),
            np.array([np.median(self.distinct[m]) for m in members]),
            np.array([self.distinct[m, -1].min() for m in members]),
            cells.astype(np.int64),
        )

    # ---------------------------------------------------------------- out of the toolkit
    def to_dataframe(self) -> pd.DataFrame:
        """One row per distinct matrix and index: its frequency, radius, multiplicity, index and value.

        Where many frequencies share a matrix the representative stands for all of them (`multiplicity` says how
        many): -k for k, and zero for every frequency of a 1 x 1 kernel.
        """
        pd = import_pandas()
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
        return pd.DataFrame(columns)

    def plot(self) -> Figure:
        """All values in descending order, coloured by frequency, and the largest value of each frequency."""
        from fastfreq.plots import plot_layer_spectrum

        return plot_layer_spectrum(self)

    _PLAIN = ("name", "kind", "weight_shape", "input_size", "grid", "accuracy", "exact", "note")
    _ARRAYS = ("frequencies", "cells", "multiplicity", "distinct")

    def save(self, path: str | Path) -> None:
        """Write everything to an .npz without pickle, all or nothing."""
        store.write_arrays(path, "layer_spectrum", {"layer": self._header()}, self._saved())

    def _header(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._PLAIN}

    def _saved(self) -> dict[str, NDArray[Any]]:
        return {name: getattr(self, name) for name in self._ARRAYS}

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> LayerSpectrum:
        """What `save` wrote."""
        own = header["layer"]
        fields: dict[str, Any] = {**own, **{name: arrays[name] for name in cls._ARRAYS}}
        for name in ("weight_shape", "input_size", "grid"):
            fields[name] = tuple(own[name])
        return cls(**fields)


@dataclasses.dataclass(frozen=True, eq=False)
class ModelSpectrum(Mapping[str, LayerSpectrum]):
    """The singular values of every convolution of a model; a mapping from layer names.

    Shards by layers merge with ``+``.

    Attributes:
        model: name or class of the model.
        input_size: (c, ...) of the model's input.
        layers: by name, in order of execution.
        skipped: (name, kind, reason) of what was left out.
        details: padding, precision, versions: text for people.
        execution: names of all convolutions in order of execution, those of other shards among them; () where the
            order of `layers` is all there is.
    """

    model: str
    input_size: tuple[int, ...]
    layers: dict[str, LayerSpectrum]
    skipped: tuple[tuple[str, str, str], ...]
    details: dict[str, str]
    execution: tuple[str, ...] = ()

    # ---------------------------------------------------------------- a mapping
    def __getitem__(self, name: str) -> LayerSpectrum:
        if name in self.layers:
            return self.layers[name]
        for skipped, kind, reason in self.skipped:
            if skipped == name:
                raise KeyError(f"expected a layer with singular values, {name!r} ({kind}) was skipped: {reason}")
        close = difflib.get_close_matches(name, self.layers, n=3, cutoff=0.4) or list(self.layers)[:3]
        raise KeyError(f"expected one of the {len(self.layers)} layers, got {name!r}; did you mean {', '.join(close)}?")

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __contains__(self, name: object) -> bool:
        return name in self.layers

    def __repr__(self) -> str:
        return f"ModelSpectrum({self.model!r}, {len(self.layers)} layers, input {self.input_size})"

    # ---------------------------------------------------------------- figures
    @property
    def norms(self) -> dict[str, float]:
        """Spectral norm of each layer."""
        return {name: layer.norm for name, layer in self.layers.items()}

    @property
    def product_of_norms(self) -> float:
        """The product of all spectral norms.

        A Lipschitz bound only where the layers follow each other with 1-Lipschitz functions between them and
        `details` says that batch norm was folded in: branches that are added need their sum instead.
        """
        return math.prod(self.norms.values())

    def table(self) -> list[dict[str, Any]]:
        """One row per layer, in order of execution.

        Keys: layer, kind, weight_shape, input_size, norm, median, smallest, condition, condition_resolved,
        stable_rank, effective_rank, rank_share (of the number of singular values), count, accuracy, exact, note.
        """
        rows = []
        for name, layer in self.layers.items():
            rank = layer.effective_rank
            rows.append(
                {
                    "layer": name,
                    **{key: getattr(layer, key) for key in ("kind", "weight_shape", "input_size")},
                    **{key: getattr(layer, key) for key in ("norm", "median", "smallest", "condition")},
                    "condition_resolved": layer.resolved,
                    "stable_rank": layer.stable_rank,
                    "effective_rank": rank,
                    "rank_share": rank / layer.count,
                    **{key: getattr(layer, key) for key in ("count", "accuracy", "exact", "note")},
                }
            )
        return rows

    # ---------------------------------------------------------------- merging
    def __add__(self, other: ModelSpectrum) -> ModelSpectrum:
        """Both shards' layers together, in order of execution.

        Raises:
            ValueError: different models, input sizes or details, or layers that are in both.
        """
        _shards.check_same(self, other, ("model", "input_size", "details", "execution"))
        common = [name for name in self.layers if name in other.layers]
        if common:
            raise ValueError(f"expected shards of different layers, {len(common)} are in both (the first: {common[0]})")
        both = self.layers | other.layers
        position = {name: i for i, name in enumerate(self.execution)}
        names = sorted(both, key=lambda name: position.get(name, len(position)))
        skipped = dict.fromkeys(entry for entry in (*self.skipped, *other.skipped) if entry[0] not in both)
        return dataclasses.replace(self, layers={name: both[name] for name in names}, skipped=tuple(skipped))

    # ---------------------------------------------------------------- out of the toolkit
    def to_dataframe(self) -> pd.DataFrame:
        """`table` as a data frame; `self[name].to_dataframe()` has the values of one layer."""
        return import_pandas().DataFrame(self.table())

    def plot(self) -> Figure:
        """Norm and median by layer, and the descending values of every layer, coloured by frequency."""
        from fastfreq.plots import plot_model_spectrum

        return plot_model_spectrum(self)

    def save(self, path: str | Path) -> None:
        """Write everything to an .npz without pickle, all or nothing."""
        store.write_arrays(path, "model_spectrum", *self._parts())

    def _parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        plain = ("model", "input_size", "skipped", "details", "execution")
        header = {name: getattr(self, name) for name in plain}
        header["layers"] = {name: layer._header() for name, layer in self.layers.items()}
        header["order"] = list(self.layers)  # the header's keys are written sorted
        arrays = {f"{i}/{k}": a for i, layer in enumerate(self.layers.values()) for k, a in layer._saved().items()}
        return header, arrays

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> ModelSpectrum:
        """What `save` wrote."""
        layers = {}
        for i, name in enumerate(header["order"]):
            own = {key: arrays[f"{i}/{key}"] for key in LayerSpectrum._ARRAYS}
            layers[name] = LayerSpectrum.from_arrays({"layer": header["layers"][name]}, own)
        return cls(
            model=header["model"],
            input_size=tuple(header["input_size"]),
            layers=layers,
            skipped=tuple((name, kind, reason) for name, kind, reason in header["skipped"]),
            details=dict(header["details"]),
            execution=tuple(header["execution"]),
        )
