"""What feature maps hold: the log amplitude of every layer by frequency, all layers on one axis in cycles per image."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastfreq.core.results import RadialProfile, import_pandas
from fastfreq.results import store, tables
from fastfreq.vocabulary import statistics

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


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

    def same_layer(self, other: FeatureProfile) -> bool:
        """Whether two shards saw the same layer."""
        return all(getattr(self, name) == getattr(other, name) for name in ("size", "channels", "dropped"))


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureSpectra:
    """Log amplitude of every layer by frequency, relative to zero frequency.

    Shards of images merge with ``+``.

    Attributes:
        shape: (c, h, w) of the images.
        image_ids: (n,) ascending.
        layers: by name, in order of execution; "input" is what the network sees, after normalisation.
        skip_dead: whether maps that are zero everywhere were left out of the mean over channels.
        details: model name, precision, versions: text for people.
    """

    shape: tuple[int, int, int]
    image_ids: IntArray
    layers: dict[str, FeatureProfile]
    skip_dead: bool
    details: dict[str, str]

    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.image_ids)

    def __getitem__(self, name: str) -> FeatureProfile:
        if name not in self.layers:
            raise KeyError(f"expected one of the layers measured, {list(self.layers)}, got {name!r}")
        return self.layers[name]

    def radial(self, name: str, *, confidence: float = 0.95) -> RadialProfile:
        """Delta log amplitude of a layer by radius in cycles per image, with its normal interval over images.

        The natural logarithm; -2.3 is a tenth of the amplitude at zero frequency. Rings without cells are left out.
        """
        layer = self[name]
        low, high = statistics.mean_interval(layer.delta[:, 0], layer.delta[:, 1], self.n_images, confidence=confidence)
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

    def __add__(self, other: FeatureSpectra) -> FeatureSpectra:
        for name in ("shape", "skip_dead"):
            if getattr(self, name) != getattr(other, name):
                raise ValueError(
                    f"expected two spectra with the same {name}, got {getattr(self, name)} and {getattr(other, name)}"
                )
        if list(self.layers) != list(other.layers) or not all(
            layer.same_layer(other.layers[name]) for name, layer in self.layers.items()
        ):
            raise ValueError(
                f"expected two spectra of the same layers, got {list(self.layers)} and {list(other.layers)}"
            )
        if self.details.get("model_fingerprint") != other.details.get("model_fingerprint"):
            raise ValueError("expected two shards of one model, got different weights")
        ids = np.sort(np.concatenate([self.image_ids, other.image_ids]))
        if len(np.unique(ids)) != len(ids):
            raise ValueError("expected shards of different images, some image ids are in both; use `shard=(i, n)`")
        layers = {
            name: dataclasses.replace(
                a, delta=a.delta + other.layers[name].delta, zero=a.zero + other.layers[name].zero
            )
            for name, a in self.layers.items()
        }
        return dataclasses.replace(self, image_ids=ids, layers=layers)

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

    def to_dataframe(self) -> pd.DataFrame:
        """`table` as a data frame."""
        return import_pandas().DataFrame(self.table())

    def plot(self) -> Figure:
        """Every layer's profile on one axis in cycles per image, and the highest frequencies by depth."""
        from fastfreq.plots import plot_feature_spectra

        return plot_feature_spectra(self)

    _PLAIN = ("kind", "size", "channels", "dropped")

    def save(self, path: str | Path) -> None:
        """Write everything to an .npz without pickle, all or nothing."""
        header = {
            "shape": self.shape,
            "skip_dead": self.skip_dead,
            "details": self.details,
            "layers": [[name, {k: getattr(a, k) for k in self._PLAIN}] for name, a in self.layers.items()],
        }
        arrays: dict[str, NDArray[Any]] = {"image_ids": self.image_ids}
        for i, layer in enumerate(self.layers.values()):
            arrays.update({f"{kind}/{i}": getattr(layer, kind) for kind in ("cells", "delta", "zero")})
        store.write_arrays(path, "feature_spectra", header, arrays)

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> FeatureSpectra:
        """What `save` wrote."""
        layers = {}
        for i, (name, plain) in enumerate(header["layers"]):
            saved = [arrays[f"{kind}/{i}"] for kind in ("cells", "delta", "zero")]
            layers[name] = FeatureProfile(
                plain["kind"], tuple(plain["size"]), plain["channels"], plain["dropped"], *saved
            )
        return cls(
            tuple(header["shape"]), arrays["image_ids"], layers, bool(header["skip_dead"]), dict(header["details"])
        )
