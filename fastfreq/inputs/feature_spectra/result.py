"""What feature maps hold: the log amplitude of every layer by frequency, all layers on one axis in cycles per image."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastfreq.results import tables
from fastfreq.results.folds import same, summed
from fastfreq.results.profile import RadialProfile
from fastfreq.results.result import ModelResult
from fastfreq.vocabulary import statistics
from fastfreq.vocabulary.sums import ExactSum

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Facts = tuple[str, tuple[int, int], int, int]  # what every image says of a layer alike: see `FeatureProfile`


def image_rings(size: tuple[int, int], shape: tuple[int, int]) -> tuple[IntArray, FloatArray]:
    """Rings of a layer's frequencies in cycles per image, over the half plane of a real FFT.

    A map that covers the whole image sees a wave of k cycles per image at its own index k, whatever its size. The
    radius is min(h, w) sqrt((ky / h)^2 + (kx / w)^2) with the sides h, w of the *image*, rounded half up.

    Args:
        size: (rows, columns) of the layer.
        shape: (h, w) of the image.

    Returns:
        rings (rows, columns // 2 + 1), and how many bins of the whole plane each stands for, 1 or 2.
    """
    rows, columns = size
    ky = (np.arange(rows) + rows // 2) % rows - rows // 2
    kx = np.arange(columns // 2 + 1)
    radius = np.hypot(ky[:, None] * (min(shape) / shape[0]), kx * (min(shape) / shape[1]))
    twice = np.where((kx == 0) | (2 * kx == columns), 1.0, 2.0)
    return np.floor(radius + 0.5).astype(np.int64), np.broadcast_to(twice, radius.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureProfile:
    """The spectrum of one layer's feature maps.

    Attributes:
        kind: class of the module.
        size: (rows, columns) of its maps.
        channels: number of maps.
        dropped: tokens before the grid (class, registers) that were left out; 0 for maps.
        cells: (r,) frequencies in each ring.
        delta: (r, 2) sum and sum of squares over images of the ring's mean log amplitude minus that of zero frequency.
        zero: (2,) the same of the log amplitude of zero frequency.
    """

    kind: str
    size: tuple[int, int]
    channels: int
    dropped: int
    cells: IntArray
    delta: FloatArray
    zero: FloatArray


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FeatureSpectra(ModelResult, kind="feature_spectra"):
    """Log amplitude of every layer by frequency, relative to zero frequency.

    ``a + b`` merges shards of images.

    Attributes:
        asked: names of the layers asked for.
        skip_dead: whether maps that are zero everywhere were left out of the mean over channels.
        token_grid: (rows, columns) of the tokens as it was given, or None.
        facts: layer -> (kind, (rows, columns), channels, tokens dropped), in order of execution; "input" is what the
            network sees, after normalisation.
        delta: layer -> (r, 2), see `FeatureProfile`.
        zero: layer -> (2,), see `FeatureProfile`.
    """

    SHAPES: ClassVar[dict[str, str]] = {"delta": "_ 2", "zero": "2"}

    asked: tuple[str, ...] = same()
    skip_dead: bool = same()
    token_grid: tuple[int, int] | None = same()
    facts: dict[str, Facts] = same()
    delta: dict[str, ExactSum] = summed()
    zero: dict[str, ExactSum] = summed()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.facts:
            wanted = (len(self._cells(name)), 2)
            if self.delta[name].shape != wanted or self.zero[name].shape != (2,):
                raise ValueError(f"expected `delta` of shape {wanted} for layer {name!r}, got {self.delta[name].shape}")

    def _cells(self, name: str) -> IntArray:
        rings, twice = image_rings(self.facts[name][1], self.shape[1:])
        return np.bincount(rings.reshape(-1), weights=twice.reshape(-1)).astype(np.int64)

    # ---------------------------------------------------------------- figures
    @property
    def layers(self) -> dict[str, FeatureProfile]:
        """Every layer by name, in order of execution, "input" first."""
        return {name: self[name] for name in self.facts}

    def __getitem__(self, name: str) -> FeatureProfile:
        if name not in self.facts:
            raise KeyError(f"expected one of the layers measured, {list(self.facts)}, got {name!r}")
        return FeatureProfile(*self.facts[name], self._cells(name), self.delta[name].value, self.zero[name].value)

    def radial(self, name: str, *, confidence: float = 0.95) -> RadialProfile:
        """Delta log amplitude of a layer by radius in cycles per image, with Student's 95 % interval over images.

        The natural logarithm; -2.3 is a tenth of the amplitude at zero frequency. Rings without cells are left out.
        """
        layer = self[name]
        low, high = statistics.student_interval(
            layer.delta[:, 0], layer.delta[:, 1], self.n_images, confidence=confidence
        )
        some = layer.cells > 0
        radius = np.arange(len(layer.cells), dtype=np.float64)
        mean = layer.delta[:, 0] / self.n_images
        return RadialProfile(radius[some], mean[some], low[some], high[some], layer.cells[some])

    def zero_frequency(self, name: str) -> float:
        """Mean log amplitude of a layer at zero frequency, of the orthonormal DFT."""
        return float(self[name].zero[0] / self.n_images)

    def nyquist(self, name: str) -> int:
        """The layer's highest ring that is not cut off by its sides, in cycles per image."""
        (rows, columns), (h, w) = self[name].size, self.shape[1:]
        return math.floor(min(rows / 2 / h, columns / 2 / w) * min(h, w) + 1e-9)

    def high_frequency(self, *, at: int | None = None, confidence: float = 0.95) -> dict[str, tuple[float, ...]]:
        """(value, low, high) of the delta log amplitude of each layer at its highest ring, or at ring `at`.

        Layers that do not reach `at`, and maps of one pixel, are left out.
        """
        found = {}
        for name in self.layers:
            ring = self.nyquist(name) if at is None else at
            profile = self.radial(name, confidence=confidence)
            where = np.flatnonzero(profile.radius == ring)
            if ring >= 1 and ring <= self.nyquist(name) and len(where):
                i = int(where[0])
                found[name] = (float(profile.value[i]), float(profile.low[i]), float(profile.high[i]))
        return found

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per layer and ring: layer, depth, rows, columns, cycles per image, cells, delta with its interval."""
        rows: list[dict[str, Any]] = []
        for depth, (name, layer) in enumerate(self.layers.items()):
            profile = self.radial(name)
            columns: dict[str, Any] = {
                "layer": name,
                "depth": depth,
                "rows": layer.size[0],
                "columns": layer.size[1],
                "cycles_per_image": profile.radius,
                "cells": profile.cells,
                "count": self.n_images,
                "delta_log_amplitude": profile.value,
                "delta_log_amplitude_low": profile.low,
                "delta_log_amplitude_high": profile.high,
            }
            rows += tables.from_columns(columns)
        return rows

    def summary(self) -> list[dict[str, Any]]:
        """In short: one row per layer with its size and the delta log amplitude at its highest ring."""
        return [
            {
                "layer": name,
                "channels": self[name].channels,
                "size": self[name].size,
                "cycles per image": self.nyquist(name),
                "delta log amplitude": value,
                "delta log amplitude_low": low,
                "delta log amplitude_high": high,
            }
            for name, (value, low, high) in self.high_frequency().items()
        ]

    def headline(self) -> str:
        """Of the last layer, how much lower its highest frequencies are than zero frequency."""
        high = self.high_frequency()
        if not high:
            return f"{len(self.facts)} layers, all of one pixel"
        name, (value, low, high_end) = list(high.items())[-1]
        return f"{len(self.facts)} layers; highest ring of {name}: {value:.2f} [{low:.2f}, {high_end:.2f}]"

    @classmethod
    def from_format_1(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> FeatureSpectra:
        """What version 0.1 wrote."""
        names = [name for name, _ in header["layers"]]
        return cls(
            **cls._of_format_1(header, arrays["image_ids"]),
            asked=tuple(name for name in names if name != "input"),
            skip_dead=bool(header["skip_dead"]),
            token_grid=None,
            facts={
                name: (plain["kind"], tuple(plain["size"]), plain["channels"], plain["dropped"])
                for name, plain in header["layers"]
            },
            delta={name: ExactSum.of(arrays[f"delta/{i}"]) for i, name in enumerate(names)},
            zero={name: ExactSum.of(arrays[f"zero/{i}"]) for i, name in enumerate(names)},
        )
