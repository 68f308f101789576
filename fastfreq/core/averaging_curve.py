"""What averaging a model over points around its input does to right and to attacked images: predictions by radius."""

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
SHARES = ("clean", "attacked", "recovered")


@dataclasses.dataclass(frozen=True, eq=False)
class PostAveragingCurve:
    """Predictions for images and for attacked images, by a model and by its averages over radii R.

    ``a + b`` merges shards of other images.

    Attributes:
        radii: (r) R, L2 length over all channels, ascending.
        normalised: whether R is in units of the network's normalised input, or in pixels of [0, 1].
        points: the directions and their sampling, for people.
        forwards: forward passes per averaged prediction.
        attack: its name and radius.
        adaptive: whether each average was attacked itself, or the model without averaging.
        shape: (c, h, w) of the images.
        image_ids: (n,) ascending.
        labels: (n,) true classes.
        predicted: (n,) class of each image, without averaging.
        predicted_attacked: (n,) the same of images attacked without averaging.
        averaged: (r, n) class of each image by the average.
        averaged_attacked: (r, n) class of each attacked image by the average.
        details: model name, versions: text for people.
    """

    radii: tuple[float, ...]
    normalised: bool
    points: str
    forwards: int
    attack: str
    adaptive: bool
    shape: tuple[int, int, int]
    image_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    predicted_attacked: NDArray[np.int64]
    averaged: NDArray[np.int64]
    averaged_attacked: NDArray[np.int64]
    details: dict[str, str]

    def __post_init__(self) -> None:
        n, r = len(self.image_ids), len(self.radii)
        wanted = {"labels": (n,), "predicted": (n,), "predicted_attacked": (n,)}
        wanted |= {"averaged": (r, n), "averaged_attacked": (r, n)}
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
        """Top-1 accuracy on the images as they are, without averaging."""
        return float((self.predicted == self.labels).mean())

    @property
    def attacked_accuracy(self) -> float:
        """Top-1 accuracy on attacked images, attack and prediction without averaging."""
        return float((self.predicted_attacked == self.labels).mean())

    @property
    def fooled(self) -> NDArray[np.bool_]:
        """(n,) right as they are and wrong when attacked, without averaging."""
        return (self.predicted == self.labels) & (self.predicted_attacked != self.labels)

    def curve(self, share: str) -> FloatArray:
        """(r,) share of images that the average gets right, by radius.

        "clean": of the images as they are; "attacked": of attacked images; "recovered": of those attacked images that
        fooled the model without averaging (the paper's defence rate), NaN where there are none.

        Raises:
            ValueError: no such share.
        """
        hits, count = self._counts(share)
        return hits / count if count else np.full(len(self.radii), np.nan)

    def interval(self, share: str) -> tuple[FloatArray, FloatArray]:
        """(low, high) 95 % Wilson intervals of `curve`."""
        hits, count = self._counts(share)
        return statistics.wilson(hits, count)

    def _counts(self, share: str) -> tuple[NDArray[np.int64], int]:
        if share not in SHARES:
            raise ValueError(f"expected a share of {list(SHARES)}, got {share!r}")
        right = (self.averaged if share == "clean" else self.averaged_attacked) == self.labels
        of = self.fooled if share == "recovered" else np.ones(self.n_images, dtype=np.bool_)
        return right[:, of].sum(axis=1), int(of.sum())

    # ---------------------------------------------------------------- merging
    def __add__(self, other: PostAveragingCurve) -> PostAveragingCurve:
        """Both shards together.

        Raises:
            ValueError: shards that measure different things, or overlap.
        """
        _shards.check_same(self, other, self._PLAIN)
        return dataclasses.replace(self, **_shards.joined_images(self, other, self._ARRAYS))

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per radius: every share with its 95 % interval and the images it is taken of."""
        columns: dict[str, Any] = {"radius": self.radii}
        for share in SHARES:
            columns[share] = self.curve(share)
            columns[f"{share}_from"], columns[f"{share}_to"] = self.interval(share)
            columns[f"{share}_count"] = self._counts(share)[1]
        return tables.from_columns(columns)

    def to_dataframe(self) -> pd.DataFrame:
        """`table` as a data frame."""
        return import_pandas().DataFrame(self.table())

    def plot(self) -> Figure:
        """Accuracy on clean and on attacked images, and the share recovered, against the radius."""
        from fastfreq.plots import plot_post_averaging

        return plot_post_averaging(self)

    _PLAIN = ("radii", "normalised", "points", "forwards", "attack", "adaptive", "shape", "details")
    _ARRAYS = ("image_ids", "labels", "predicted", "predicted_attacked", "averaged", "averaged_attacked")

    def save(self, path: str | Path) -> None:
        """Write everything to an .npz without pickle, all or nothing."""
        header = {name: getattr(self, name) for name in self._PLAIN}
        store.write_arrays(path, "post_averaging", header, {name: getattr(self, name) for name in self._ARRAYS})

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> PostAveragingCurve:
        """What `save` wrote."""
        fields: dict[str, Any] = {name: header[name] for name in cls._PLAIN}
        fields |= {"radii": tuple(header["radii"]), "shape": tuple(header["shape"])}
        fields |= {name: arrays[name] for name in cls._ARRAYS}
        return cls(**fields)
