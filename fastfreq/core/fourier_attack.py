"""What a single-frequency attack found: the wave that fools each image, the queries it took, success rates."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastfreq.core.results import import_pandas
from fastfreq.results import store, tables
from fastfreq.vocabulary import fourier, statistics
from fastfreq.vocabulary.conventions import Convention

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class FourierAttackResult:
    """The first wave, in a fixed order of queries, under which each image is misclassified.

    A query is one frequency with one sign per channel; all images were asked the same queries in the same order, each
    until it was fooled. Images that were misclassified to begin with cost no query and count for no rate but `error`.
    Shards of images merge with ``+``.

    Attributes:
        shape: (c, h, w) of the images.
        size: (rows, columns) of the centred map that holds the frequencies.
        eps: L2 norm of the perturbation per channel.
        convention: phase, signs and clipping.
        order: of the queries, "low", "high" or "random".
        seed: of the random order.
        frequencies: (q, 2) of each query, cycles per image.
        signs: (q, c) int8 of each query.
        image_ids: (n,) ascending.
        clean_wrong: (n,) bool, misclassified without any perturbation.
        found: (n,) index of the query that fooled the image, -1 where none did.
        details: model name, precision, versions: text for people.
    """

    shape: tuple[int, int, int]
    size: tuple[int, int]
    eps: float
    convention: Convention
    order: str
    seed: int
    frequencies: IntArray
    signs: NDArray[np.int8]
    image_ids: IntArray
    clean_wrong: NDArray[np.bool_]
    found: IntArray
    details: dict[str, str]

    def __post_init__(self) -> None:
        q, n = len(self.frequencies), len(self.image_ids)
        shapes = {"frequencies": (q, 2), "signs": (q, self.shape[0]), "clean_wrong": (n,), "found": (n,)}
        for name, expected in shapes.items():
            if getattr(self, name).shape != expected:
                raise ValueError(
                    f"expected `{name}` of shape {expected}, got {getattr(self, name).shape}; the result is damaged"
                )

    # ---------------------------------------------------------------- image by image
    @property
    def n_images(self) -> int:
        """Number of images, those that were misclassified to begin with included."""
        return len(self.image_ids)

    @property
    def success(self) -> NDArray[np.bool_]:
        """(n,) fooled by a query."""
        return self.found >= 0

    @property
    def queries(self) -> IntArray:
        """(n,) queries asked about each image: 0 if it was misclassified to begin with, all if none fooled it."""
        asked = np.where(self.success, self.found + 1, len(self.frequencies))
        return np.where(self.clean_wrong, 0, asked)

    def perturbation(self, image_id: int) -> FloatArray:
        """(c, h, w) what fools an image, in pixels of [0, 1], before clipping.

        Raises:
            KeyError: no such image, or one that no query fooled.
        """
        row = np.flatnonzero(self.image_ids == image_id)
        if not len(row) or self.found[row[0]] < 0:
            raise KeyError(f"expected the id of an image that a query fooled, got {image_id}")
        query = self.found[row[0]]
        ky, kx = (int(k) for k in self.frequencies[query])
        wave = fourier.basis_image((ky, kx), self.shape[1:], self.convention.phase)
        return self.eps * self.signs[query][:, None, None] * wave

    # ---------------------------------------------------------------- rates
    @property
    def n_attacked(self) -> int:
        """Images that were right to begin with."""
        return int((~self.clean_wrong).sum())

    @property
    def success_rate(self) -> float:
        """Share of the images right to begin with that a query fooled; NaN if there are none."""
        return float(self.success.sum() / self.n_attacked) if self.n_attacked else float("nan")

    def interval(self, *, confidence: float = 0.95) -> tuple[float, float]:
        """(low, high) Wilson interval of `success_rate` over images."""
        low, high = statistics.wilson(self.success.sum(), self.n_attacked, confidence=confidence)
        return float(low), float(high)

    @property
    def error(self) -> float:
        """Share of all images that are misclassified, without a perturbation or under the worst query."""
        return float((self.clean_wrong | self.success).mean())

    def curve(self) -> tuple[IntArray, FloatArray]:
        """(queries, success rate after as many), at every count of queries at which it rises, and at all of them."""
        taken, fooled = np.unique(self.queries[self.success], return_counts=True)
        taken = np.concatenate([[0], taken, [len(self.frequencies)]])
        return taken, np.concatenate([[0], np.cumsum(fooled), [self.success.sum()]]) / max(self.n_attacked, 1)

    @property
    def map(self) -> FloatArray:
        """Centred map: images whose first success was at this frequency (k and -k are one), NaN where none was tried.

        Frequencies asked early win ties: with the order "random" the map favours none.
        """
        every, cells = fourier.unique_frequencies(self.shape[1:], self.size)
        number = {(int(ky), int(kx)): i for i, (ky, kx) in enumerate(every)}
        counts = np.full(len(every), np.nan)
        counts[[number[int(ky), int(kx)] for ky, kx in self.frequencies]] = 0
        for ky, kx in self.frequencies[self.found[self.success]]:
            counts[number[int(ky), int(kx)]] += 1
        return counts[cells]

    # ---------------------------------------------------------------- merging
    def __add__(self, other: FourierAttackResult) -> FourierAttackResult:
        for name in self._PLAIN[:-1]:
            if getattr(self, name) != getattr(other, name):
                raise ValueError(
                    f"expected two results with the same {name}, got {getattr(self, name)} and {getattr(other, name)}"
                )
        if not (np.array_equal(self.frequencies, other.frequencies) and np.array_equal(self.signs, other.signs)):
            raise ValueError("expected two results of the same queries, they asked others")
        if self.details.get("model_fingerprint") != other.details.get("model_fingerprint"):
            raise ValueError("expected two shards of one model, got different weights")
        ids = np.concatenate([self.image_ids, other.image_ids])
        if len(np.unique(ids)) != len(ids):
            raise ValueError("expected shards of different images, some image ids are in both; use `shard=(i, n)`")
        by_id = np.argsort(ids)
        joined = {name: np.concatenate([getattr(self, name), getattr(other, name)])[by_id] for name in self._IMAGES}
        return dataclasses.replace(self, **joined)

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per image: id, clean_wrong, success, queries, and ky, kx, radius, signs of what fooled it."""
        query = np.maximum(self.found, 0)
        frequency = self.frequencies[query]
        text = ["".join("+" if sign > 0 else "-" for sign in signs) for signs in self.signs[query]]
        columns: dict[str, Any] = {"image_id": self.image_ids, "clean_wrong": self.clean_wrong}
        columns |= {"success": self.success, "queries": self.queries}
        radius = fourier.radius(frequency, self.shape[1:])
        for name, values in (("ky", frequency[:, 0]), ("kx", frequency[:, 1]), ("radius", radius)):
            columns[name] = np.where(self.success, values, np.nan)
        columns["signs"] = np.where(self.success, text, "")
        return tables.from_columns(columns)

    def summary(self) -> list[dict[str, Any]]:
        """In short, one row: images, those right to begin with, the rate at which they are fooled, median queries."""
        low, high = self.interval()
        row: dict[str, Any] = {
            "images": self.n_images,
            "attacked": self.n_attacked,
            "queries each": len(self.frequencies),
        }
        row |= {"success rate": self.success_rate, "success rate_low": low, "success rate_high": high}
        if self.success.any():
            row["median queries to success"] = float(np.median(self.queries[self.success]))
        return [row]

    def to_dataframe(self) -> pd.DataFrame:
        """`table` as a data frame."""
        return import_pandas().DataFrame(self.table())

    def plot(self) -> Figure:
        """The success rate over queries, and the frequencies that fool."""
        from fastfreq.plots import plot_fourier_attack

        return plot_fourier_attack(self)

    _PLAIN = ("shape", "size", "eps", "convention", "order", "seed", "details")
    _IMAGES = ("image_ids", "clean_wrong", "found")
    _ARRAYS = ("frequencies", "signs", *_IMAGES)

    def save(self, path: str | Path) -> None:
        """Write everything to an .npz without pickle, all or nothing."""
        header = {name: getattr(self, name) for name in self._PLAIN}
        header["convention"] = dataclasses.asdict(self.convention)
        store.write_arrays(path, "fourier_attack", header, {name: getattr(self, name) for name in self._ARRAYS})

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> FourierAttackResult:
        """What `save` wrote."""
        fields: dict[str, Any] = {**header, **{name: arrays[name] for name in cls._ARRAYS}}
        fields["shape"], fields["size"] = tuple(header["shape"]), tuple(header["size"])
        fields["convention"] = Convention(**header["convention"])
        return cls(**fields)
