"""What a model makes of the low- and the high-frequency part of each image: predictions by radius, that merge."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastfreq.core import _shards
from fastfreq.core.results import import_pandas
from fastfreq.results import store, tables
from fastfreq.vocabulary import statistics

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]
SHARES = ("low", "high", "only_low", "only_high", "like_low", "like_high")


@dataclasses.dataclass(frozen=True, eq=False)
class ComponentCurves:
    """Predictions for images x, their low parts and their high parts, x = low(r) + high(r), over radii r.

    ``a + b`` merges shards of other images.

    Attributes:
        radii: (r) of the disc of low frequencies, cycles per image (per shorter side), ascending.
        inclusive: whether the disc is <= r (the paper) or < r (the authors' code).
        clip: whether both parts were clipped to [0, 1].
        shape: (c, h, w) of the images.
        image_ids: (n,) ascending.
        labels: (n,) true classes.
        predicted: (n,) class of the whole image.
        predicted_low: (r, n) class of the low part.
        predicted_high: (r, n) class of the high part.
        details: model name, versions: text for people.
    """

    radii: tuple[float, ...]
    inclusive: bool
    clip: bool
    shape: tuple[int, int, int]
    image_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    predicted_low: NDArray[np.int64]
    predicted_high: NDArray[np.int64]
    details: dict[str, str]

    def __post_init__(self) -> None:
        n, r = len(self.image_ids), len(self.radii)
        wanted = {"labels": (n,), "predicted": (n,), "predicted_low": (r, n), "predicted_high": (r, n)}
        _shards.check_shapes(self, wanted)
        if not n or not r:
            raise ValueError("expected at least one image and one radius")

    # ---------------------------------------------------------------- figures
    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.image_ids)

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy on the whole images."""
        return float((self.predicted == self.labels).mean())

    def members(self, share: str) -> NDArray[np.bool_]:
        """(r, n) which images belong to a share of `SHARES`, as `curve` describes them.

        Raises:
            ValueError: no such share.
        """
        low, high, x = self.predicted_low, self.predicted_high, self.predicted
        right_low, right_high = low == self.labels, high == self.labels
        found = {
            "low": right_low,
            "high": right_high,
            "only_low": right_low & ~right_high,
            "only_high": right_high & ~right_low,
            "like_low": (low == x) & (high != x),
            "like_high": (high == x) & (low != x),
        }
        if share not in found:
            raise ValueError(f"expected a share of {list(SHARES)}, got {share!r}")
        return found[share]

    def curve(self, share: str) -> FloatArray:
        """(r,) share of the images, by radius.

        "low", "high": accuracy on the low and the high part. The label-flip curves: "only_low", right on the low part
        and wrong on the high part, and "only_high", the other way round. "like_low", "like_high": predicted like one
        part and unlike the other, right or wrong.

        Source: Wang et al. 2020, Figures 1 and 2 ("low", "high", "only_high").
        """
        return self.members(share).mean(axis=1)

    def interval(self, share: str) -> tuple[FloatArray, FloatArray]:
        """(low, high) 95 % Wilson intervals of `curve`."""
        return statistics.wilson(self.members(share).sum(axis=1), self.n_images)

    def image_ids_of(self, share: str, radius: float) -> NDArray[np.int64]:
        """Ids of the images of a share at one of the radii.

        Raises:
            ValueError: a radius that was not measured.
        """
        if radius not in self.radii:
            raise ValueError(f"expected one of the radii {list(self.radii)}, got {radius}")
        return self.image_ids[self.members(share)[self.radii.index(radius)]]

    # ---------------------------------------------------------------- merging
    def __add__(self, other: ComponentCurves) -> ComponentCurves:
        """Both shards together.

        Raises:
            ValueError: shards that measure different things, or overlap.
        """
        _shards.check_same(self, other, self._PLAIN)
        return dataclasses.replace(self, **_shards.joined_images(self, other, self._ARRAYS))

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per radius: every share with its 95 % interval."""
        columns: dict[str, Any] = {"radius": self.radii, "count": [self.n_images] * len(self.radii)}
        for share in SHARES:
            columns[share] = self.curve(share)
            columns[f"{share}_from"], columns[f"{share}_to"] = self.interval(share)
        return tables.from_columns(columns)

    def to_dataframe(self) -> pd.DataFrame:
        """`table` as a data frame."""
        return import_pandas().DataFrame(self.table())

    def plot(self) -> Figure:
        """Accuracy on both parts, and the label-flip curves, against the radius."""
        from fastfreq.plots import plot_components

        return plot_components(self)

    _PLAIN = ("radii", "inclusive", "clip", "shape", "details")
    _ARRAYS = ("image_ids", "labels", "predicted", "predicted_low", "predicted_high")

    def save(self, path: str | Path) -> None:
        """Write everything to an .npz without pickle, all or nothing."""
        header = {name: getattr(self, name) for name in self._PLAIN}
        store.write_arrays(path, "components", header, {name: getattr(self, name) for name in self._ARRAYS})

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> ComponentCurves:
        """What `save` wrote."""
        fields: dict[str, Any] = {name: header[name] for name in cls._PLAIN}
        fields |= {"radii": tuple(header["radii"]), "shape": tuple(header["shape"])}
        fields |= {name: arrays[name] for name in cls._ARRAYS}
        return cls(**fields)
