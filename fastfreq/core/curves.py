"""What a measured curve over bandwidths is: outcomes of every image, that merge, and the figures read off them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastfreq.core.results import import_pandas
from fastfreq.results import store, tables
from fastfreq.vocabulary import masks, statistics

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]
Question = Literal["filter", "noise"]

_SAME = ("question", "mask", "norm", "clip", "normalise_contrast", "seed", "shape")


@dataclasses.dataclass(frozen=True, eq=False)
class BandCurve:
    """Accuracy of a classifier over bandwidths of a filter, or of the noise added to its input.

    ``a + b`` merges shards: other images at the same bandwidths, or other bandwidths on the same images.

    Attributes:
        question: "filter" (the input was filtered) or "noise" (filtered noise was added).
        mask: name of the family of masks, see `fastfreq.vocabulary.masks`; "custom-..." for masks of the caller.
        bandwidths: (b,) in the family's unit, ascending; indices of custom masks.
        norm: L2 norm of the noise in each channel, in pixels of [0, 1]; None when filtering.
        clip: whether pixels were clipped to [0, 1].
        normalise_contrast: whether filtered images got the mean and standard deviation of their originals.
        seed: key of the noise.
        shape: (c, h, w) of the images.
        image_ids: (n,) what identified each image, ascending.
        labels: (n,) true classes.
        wrong: (b, ceil(n / 8)) uint8, packed: bit set where the altered image was misclassified.
        clean_wrong: (n,) bool, the same of the images as they are.
        sums: metric -> (b, 2) sum and sum of squares over images.
        clean_sums: metric -> (2,) the same of the images as they are.
        distances: (b, 2) sum over sampled images and channels of ||altered - image||, and their number.
        details: model name, precision, versions: text for people.
    """

    question: Question
    mask: str
    bandwidths: FloatArray
    norm: float | None
    clip: bool
    normalise_contrast: bool
    seed: int
    shape: tuple[int, int, int]
    image_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    wrong: NDArray[np.uint8]
    clean_wrong: NDArray[np.bool_]
    sums: dict[str, FloatArray]
    clean_sums: dict[str, FloatArray]
    distances: FloatArray
    details: dict[str, str]

    # ---------------------------------------------------------------- figures
    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.image_ids)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(b, n) where the altered image was classified correctly."""
        return ~np.unpackbits(self.wrong, axis=1, count=self.n_images).astype(np.bool_)

    @property
    def wrong_counts(self) -> NDArray[np.int64]:
        """(b,) images misclassified at each bandwidth."""
        return np.bitwise_count(self.wrong).sum(axis=1, dtype=np.int64)

    @property
    def accuracy(self) -> FloatArray:
        """(b,) top-1 accuracy in 0 .. 1."""
        return 1 - self.wrong_counts / self.n_images

    @property
    def error(self) -> FloatArray:
        """(b,) top-1 error in 0 .. 1."""
        return self.metric("error")

    @property
    def clean_accuracy(self) -> float:
        """Top-1 accuracy on the images as they are."""
        return 1 - float(self.clean_wrong.mean())

    @property
    def low(self) -> FloatArray:
        """(b,) lower end of the 95 % Wilson interval of `accuracy`."""
        return 1 - self.interval("error")[1]

    @property
    def high(self) -> FloatArray:
        """(b,) upper end of the 95 % Wilson interval of `accuracy`."""
        return 1 - self.interval("error")[0]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics measured."""
        return ("error", *self.sums)

    def metric(self, name: str) -> FloatArray:
        """(b,) mean of a metric over images."""
        return (self.wrong_counts if name == "error" else self._sums(name)[:, 0]) / self.n_images

    def clean_metric(self, name: str) -> float:
        """A metric of the images as they are."""
        if name == "error":
            return float(self.clean_wrong.mean())
        self._sums(name)
        return float(self.clean_sums[name][0] / self.n_images)

    def interval(self, metric: str = "error", *, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """(low, high), each (b,), of a metric: Wilson for 0/1 metrics, normal for means such as the loss."""
        if metric == "error":
            return statistics.wilson(self.wrong_counts, self.n_images, confidence=confidence)
        total, squares = self._sums(metric).T
        if np.all(total == squares) and np.all(total <= self.n_images):  # values 0 and 1 only
            return statistics.wilson(total, self.n_images, confidence=confidence)
        return statistics.mean_interval(total, squares, self.n_images, confidence=confidence)

    def _sums(self, metric: str) -> FloatArray:
        if metric not in self.sums:
            raise KeyError(f"expected one of the metrics measured ({', '.join(self.metrics)}), got {metric!r}")
        return self.sums[metric]

    @property
    def distance(self) -> FloatArray:
        """(b,) mean L2 distance per channel between altered images and their originals, over a sample of images.

        For noise the norm that clipping left of it. NaN where no image was sampled.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.distances[:, 0] / self.distances[:, 1]

    @property
    def axis(self) -> str:
        """What the bandwidths are, as it stands on an axis."""
        return masks.MASKS[self.mask].axis if self.mask in masks.MASKS else "mask"

    # ---------------------------------------------------------------- merging
    def __add__(self, other: BandCurve) -> BandCurve:
        for name in _SAME:
            if getattr(self, name) != getattr(other, name):
                raise ValueError(
                    f"expected two curves with the same {name}, got {getattr(self, name)} and {getattr(other, name)}"
                )
        if sorted(self.sums) != sorted(other.sums):
            raise ValueError(f"expected two curves with the same metrics, got {self.metrics} and {other.metrics}")
        if self.details.get("model_fingerprint") != other.details.get("model_fingerprint"):
            raise ValueError("expected two shards of one model, got different weights")
        if np.array_equal(self.bandwidths, other.bandwidths):
            return self._with_images(other)
        if np.array_equal(self.image_ids, other.image_ids):
            return self._with_bandwidths(other)
        raise ValueError(
            "expected shards with the same bandwidths and other images, or the same images and other bandwidths; "
            "these differ in both: first merge the shards that share one of the two"
        )

    def _with_images(self, other: BandCurve) -> BandCurve:
        common = np.intersect1d(self.image_ids, other.image_ids)
        if len(common):
            raise ValueError(
                f"expected shards of different images, {len(common)} image ids are in both (the first: {common[0]}); "
                f"give each shard its own `first_image`, or use `shard=(i, n)`"
            )
        ids = np.concatenate([self.image_ids, other.image_ids])
        order = np.argsort(ids)
        wrong = ~np.concatenate([self.correct, other.correct], axis=1)[:, order]
        return dataclasses.replace(
            self,
            image_ids=ids[order],
            labels=np.concatenate([self.labels, other.labels])[order],
            wrong=np.packbits(wrong, axis=1),
            clean_wrong=np.concatenate([self.clean_wrong, other.clean_wrong])[order],
            sums={k: v + other.sums[k] for k, v in self.sums.items()},
            clean_sums={k: v + other.clean_sums[k] for k, v in self.clean_sums.items()},
            distances=self.distances + other.distances,
        )

    def _with_bandwidths(self, other: BandCurve) -> BandCurve:
        if not (np.array_equal(self.labels, other.labels) and np.array_equal(self.clean_wrong, other.clean_wrong)):
            raise ValueError("expected shards of the same images; their labels or clean predictions differ")
        both = np.concatenate([self.bandwidths, other.bandwidths])
        bandwidths, first = np.unique(both, return_index=True)
        if len(bandwidths) != len(both):
            raise ValueError(f"expected shards of different bandwidths, {len(both) - len(bandwidths)} are in both")
        return dataclasses.replace(
            self,
            bandwidths=bandwidths,
            wrong=np.concatenate([self.wrong, other.wrong])[first],
            sums={k: np.concatenate([v, other.sums[k]])[first] for k, v in self.sums.items()},
            distances=np.concatenate([self.distances, other.distances])[first],
        )

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per bandwidth: count, accuracy with its interval, every metric with its own, distance."""
        columns: dict[str, Any] = {"bandwidth": self.bandwidths, "count": np.full(len(self.bandwidths), self.n_images)}
        columns |= {"accuracy": self.accuracy, "accuracy_low": self.low, "accuracy_high": self.high}
        columns["clean_accuracy"] = self.clean_accuracy
        for name in self.metrics:
            columns[name] = self.metric(name)
            columns[f"{name}_low"], columns[f"{name}_high"] = self.interval(name)
            columns[f"clean_{name}"] = self.clean_metric(name)
        columns["distance"] = self.distance
        return tables.from_columns(columns)

    def summary(self) -> list[dict[str, Any]]:
        """In short: one row per bandwidth with the accuracy, every other metric, and the distance."""
        columns: dict[str, Any] = {self.axis: self.bandwidths}
        columns |= {"accuracy": self.accuracy, "accuracy_low": self.low, "accuracy_high": self.high}
        for name in self.sums:
            columns[name] = self.metric(name)
            columns[f"{name}_low"], columns[f"{name}_high"] = self.interval(name)
        return tables.from_columns(columns | {"L2 distance per channel": self.distance})

    def to_dataframe(self) -> pd.DataFrame:
        """`table` as a data frame."""
        return import_pandas().DataFrame(self.table())

    def plot(self, *, metric: str = "accuracy", others: Mapping[str, BandCurve] | None = None) -> Figure:
        """The curve with its 95 % band as a matplotlib figure, and `others` beside it by name."""
        from fastfreq.plots import plot_band_curves

        own = self.details.get("model", "model")
        if others and own in others:
            own += " (this curve)"
        return plot_band_curves({own: self, **(others or {})}, metric=metric)

    _PLAIN = ("bandwidths", "image_ids", "labels", "wrong", "clean_wrong", "distances")

    def save(self, path: str | Path) -> None:
        """Write everything to an .npz without pickle, all or nothing."""
        header = {**{name: getattr(self, name) for name in (*_SAME, "details")}, "metrics": list(self.sums)}
        arrays = {name: getattr(self, name) for name in self._PLAIN}
        for kind in ("sums", "clean_sums"):
            arrays.update({f"{kind}/{i}": a for i, a in enumerate(getattr(self, kind).values())})
        store.write_arrays(path, "band_curve", header, arrays)

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> BandCurve:
        """What `save` wrote."""
        fields = dict(header)
        names = fields.pop("metrics")
        fields["shape"] = tuple(fields["shape"])
        for kind in ("sums", "clean_sums"):
            fields[kind] = {name: arrays[f"{kind}/{i}"] for i, name in enumerate(names)}
        fields.update({name: arrays[name] for name in cls._PLAIN})
        b, n = len(fields["bandwidths"]), len(fields["image_ids"])
        if fields["wrong"].shape != (b, (n + 7) // 8) or fields["clean_wrong"].shape != (n,):
            raise ValueError("expected outcomes for every image and bandwidth; the saved curve is damaged")
        return cls(**fields)
