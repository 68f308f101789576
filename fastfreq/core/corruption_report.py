"""What corruptions do to a model, and at which frequencies: outcomes by corruption and severity, that merge."""

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


def high_frequency_mask(shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The high pass H that corruptions are judged by, (h, w), unshifted: 64 |ky| >= 5 h and 64 |kx| >= 5 w.

    At 32 x 32 this is `yin_high` with B = 27, which keeps 3 <= |ky|, |kx|. Other sizes keep the same cycles per pixel,
    at least 5/64 along each axis by itself, whatever the size, odd or rectangular: B = 189 at 224 x 224.

    Source: Yin et al. 2019, section 3: "high-pass filtering with bandwidth 27".
    """
    keep = [64 * np.minimum(np.arange(n), n - np.arange(n)) >= 5 * n for n in shape]
    return keep[0][:, None] & keep[1][None, :]


@dataclasses.dataclass(frozen=True)
class CorruptionFit:
    """The least-squares line  gain = intercept + slope * high fraction  through one point per corruption.

    Attributes:
        slope: k of Yin et al. 2019, Figure 6.
        intercept: gain at a high fraction of 0.
        residual: r of the same figure, the residual sum of squares.
        low: lower end of the 95 % interval of the slope over images, the fractions taken as given.
        high: upper end.
    """

    slope: float
    intercept: float
    residual: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, eq=False)
class CorruptionReport:
    """Accuracy under corruptions, against a baseline model, and the frequencies that each corruption changes.

    ``a + b`` merges shards: other images under the same corruptions, or other corruptions of the same images. Every
    figure is the same whatever the split.

    Attributes:
        corruptions: (k) their names.
        severities: (s) ascending.
        source: where they come from.
        seed: key of random corruptions.
        shape: (c, h, w) of the images.
        image_ids: (n,) ascending.
        labels: (n,) true classes.
        wrong: (m, k, s, ceil(n / 8)) uint8, packed: bit set where the image was misclassified. The model is row 0, the
            baseline, if any (m = 2), row 1.
        clean_wrong: (m, n) bool, the same without corruption.
        fractions: (k, s, n) float32, ||H(C(X) - X)||^2 / ||C(X) - X||^2 of each image; NaN where C(X) = X.
        details: model names, versions: text for people.
    """

    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    source: str
    seed: int
    shape: tuple[int, int, int]
    image_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    wrong: NDArray[np.uint8]
    clean_wrong: NDArray[np.bool_]
    fractions: NDArray[np.float32]
    details: dict[str, str]

    def __post_init__(self) -> None:
        m, k, s, n = len(self.clean_wrong), len(self.corruptions), len(self.severities), len(self.image_ids)
        wanted = {
            "labels": (n,),
            "clean_wrong": (m, n),
            "wrong": (m, k, s, (n + 7) // 8),
            "fractions": (k, s, n),
        }
        _shards.check_shapes(self, wanted)
        if m not in (1, 2) or not k or not s or not n:
            raise ValueError("expected one or two models and at least one corruption, severity and image")

    # ---------------------------------------------------------------- figures
    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.image_ids)

    @property
    def has_baseline(self) -> bool:
        """Whether a baseline model was evaluated on the same corrupted images."""
        return len(self.wrong) == 2

    def _outcomes(self, row: int) -> NDArray[np.bool_]:
        """(k, s, n) where the model (0) or the baseline (1) was wrong."""
        if row == 1 and not self.has_baseline:
            raise ValueError("expected a report with a baseline; pass `baseline=` to corruption_report")
        return np.unpackbits(self.wrong[row], axis=-1, count=self.n_images).astype(np.bool_)

    def _right(self, row: int) -> NDArray[np.int64]:
        return (~self._outcomes(row)).sum(axis=-1)

    @property
    def accuracy(self) -> FloatArray:
        """(k, s) top-1 accuracy of the model."""
        return self._right(0) / self.n_images

    @property
    def baseline_accuracy(self) -> FloatArray:
        """(k, s) top-1 accuracy of the baseline."""
        return self._right(1) / self.n_images

    def interval(self, *, baseline: bool = False) -> tuple[FloatArray, FloatArray]:
        """(low, high), both (k, s): 95 % Wilson intervals of the accuracy."""
        return statistics.wilson(self._right(int(baseline)), self.n_images)

    @property
    def clean_accuracy(self) -> float:
        """Top-1 accuracy of the model without corruption."""
        return float(1 - self.clean_wrong[0].mean())

    @property
    def high_fraction(self) -> FloatArray:
        """(k,) share of each corruption's energy at high frequencies, mean over images and severities.

        ||H(C(X) - X)||^2 / ||C(X) - X||^2 image by image, H the `high_frequency_mask`. NaN where a corruption changed
        no image.

        Source: Yin et al. 2019, section 3 and Figure 6.
        """
        return _mean_of_known(self.fractions.reshape(len(self.corruptions), -1))

    @property
    def high_fraction_by_severity(self) -> FloatArray:
        """(k, s) the same, severity by severity."""
        return _mean_of_known(self.fractions)

    @property
    def white_noise_fraction(self) -> float:
        """The share that white noise has: of the frequencies that H keeps; 0.712 at 32 x 32."""
        return float(high_frequency_mask(self.shape[1:]).mean())

    @property
    def gain(self) -> FloatArray:
        """(k,) accuracy minus the baseline's accuracy, mean over severities."""
        return self._gains().mean(axis=1)

    def gain_interval(self) -> tuple[FloatArray, FloatArray]:
        """(low, high), both (k,): 95 % intervals of `gain`, paired over images."""
        return _image_interval(self._gains())

    def _gains(self) -> FloatArray:
        """(k, n) of each image: right minus baseline right, mean over severities, which share their image."""
        return (self._outcomes(1).astype(np.float64) - self._outcomes(0)).mean(axis=1)

    @property
    def mean_corruption_error(self) -> float:
        """mCE: mean over corruptions of the error, summed over severities, over the baseline's; 1 for the baseline.

        Source: Hendrycks, Dietterich 2019, section 4.2; Yin et al. 2019, Table 2, take the natural model as baseline.
        """
        model, baseline = (1 - a for a in (self.accuracy, self.baseline_accuracy))
        if (baseline.sum(axis=1) == 0).any():
            raise ValueError("expected a baseline that makes errors under every corruption, it makes none under one")
        return float((model.sum(axis=1) / baseline.sum(axis=1)).mean())

    def fit(self) -> CorruptionFit:
        """The line through (`high_fraction`, `gain`) of all corruptions.

        Raises:
            ValueError: no baseline, or fewer than two different fractions.

        Source: Yin et al. 2019, Figure 6, whose r is the residual sum of squares.
        """
        known = np.isfinite(self.high_fraction)
        x, each = self.high_fraction[known], self._gains()[known]
        if len(np.unique(x)) < 2:
            raise ValueError("expected at least two corruptions with different high fractions for a line")
        centred = x - x.mean()
        weights = centred / (centred @ centred)
        y = each.mean(axis=1)
        slope = float(weights @ y)
        intercept = float(y.mean() - slope * x.mean())
        residual = float(np.square(y - intercept - slope * x).sum())
        low, high = _image_interval(weights[None] @ each)  # the slope is linear in each image's gains
        return CorruptionFit(slope, intercept, residual, float(low[0]), float(high[0]))

    # ---------------------------------------------------------------- merging
    def __add__(self, other: CorruptionReport) -> CorruptionReport:
        """Both shards together.

        Raises:
            ValueError: other models, seeds, severities or images' shapes; or shards that overlap, or differ in images
                *and* corruptions.
        """
        _shards.check_same(self, other, ("severities", "source", "seed", "shape", "details"))
        if self.corruptions == other.corruptions:
            return self._with_images(other)
        if np.array_equal(self.image_ids, other.image_ids):
            return self._with_corruptions(other)
        raise ValueError("expected shards of the same corruptions and other images, or the other way round")

    def _with_images(self, other: CorruptionReport) -> CorruptionReport:
        _shards.check_other_images(self, other)
        both = (self, other)
        ids = np.concatenate([r.image_ids for r in both])
        order = np.argsort(ids)
        bits = [np.unpackbits(r.wrong, axis=-1, count=r.n_images) for r in both]
        return dataclasses.replace(
            self,
            image_ids=ids[order],
            labels=np.concatenate([r.labels for r in both])[order],
            wrong=np.packbits(np.concatenate(bits, axis=-1)[..., order], axis=-1),
            clean_wrong=np.concatenate([r.clean_wrong for r in both], axis=-1)[:, order],
            fractions=np.concatenate([r.fractions for r in both], axis=-1)[..., order],
        )

    def _with_corruptions(self, other: CorruptionReport) -> CorruptionReport:
        if not np.array_equal(self.labels, other.labels) or not np.array_equal(self.clean_wrong, other.clean_wrong):
            raise ValueError("expected shards of the same images; their labels or clean predictions differ")
        common = set(self.corruptions) & set(other.corruptions)
        if common:
            raise ValueError(f"expected shards of different corruptions, {sorted(common)} are in both")
        return dataclasses.replace(
            self,
            corruptions=self.corruptions + other.corruptions,
            wrong=np.concatenate([self.wrong, other.wrong], axis=1),
            fractions=np.concatenate([self.fractions, other.fractions]),
        )

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per corruption and severity: high fraction, accuracy with its 95 % interval, baseline accuracy."""
        models = [("", 0), ("baseline_", 1)][: len(self.wrong)]
        figures = {}
        for prefix, row in models:
            low, high = self.interval(baseline=row == 1)
            figures[f"{prefix}accuracy"] = self.baseline_accuracy if row else self.accuracy
            figures[f"{prefix}accuracy_low"], figures[f"{prefix}accuracy_high"] = low, high
        share = self.high_fraction_by_severity
        return [
            {
                "corruption": name,
                "severity": severity,
                "count": self.n_images,
                "high_fraction": float(share[k, s]),
                **{key: float(values[k, s]) for key, values in figures.items()},
            }
            for k, name in enumerate(self.corruptions)
            for s, severity in enumerate(self.severities)
        ]

    def summary(self) -> list[dict[str, Any]]:
        """In short: one row per corruption, means over severities; with a baseline the gain over it."""
        each = (~self._outcomes(0)).mean(axis=1)
        low, high = _image_interval(each)
        columns: dict[str, Any] = {"corruption": self.corruptions, "high fraction": self.high_fraction}
        columns |= {"accuracy": each.mean(axis=1), "accuracy_low": low, "accuracy_high": high}
        if self.has_baseline:
            low, high = self.gain_interval()
            columns |= {"baseline accuracy": self.baseline_accuracy.mean(axis=1)}
            columns |= {"gain": self.gain, "gain_low": low, "gain_high": high}
        return tables.from_columns(columns)

    def to_dataframe(self) -> pd.DataFrame:
        """`table` as a data frame."""
        return import_pandas().DataFrame(self.table())

    def plot(self) -> Figure:
        """Accuracy by corruption and severity; with a baseline also the gain against the high fraction (Fig. 6)."""
        from fastfreq.plots import plot_corruptions

        return plot_corruptions(self)

    _PLAIN = ("corruptions", "severities", "source", "seed", "shape", "details")
    _ARRAYS = ("image_ids", "labels", "wrong", "clean_wrong", "fractions")

    def save(self, path: str | Path) -> None:
        """Write everything to an .npz without pickle, all or nothing."""
        header = {name: getattr(self, name) for name in self._PLAIN}
        store.write_arrays(path, "corruptions", header, {name: getattr(self, name) for name in self._ARRAYS})

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> CorruptionReport:
        """What `save` wrote."""
        fields: dict[str, Any] = {name: header[name] for name in cls._PLAIN}
        for name in ("corruptions", "severities", "shape"):
            fields[name] = tuple(header[name])
        fields |= {name: arrays[name] for name in cls._ARRAYS}
        return cls(**fields)


def _mean_of_known(values: NDArray[np.float32]) -> FloatArray:
    """Mean over the last axis, NaN left out; NaN where there is nothing else."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=-1, dtype=np.float64) / known.sum(axis=-1)


def _image_interval(each: FloatArray) -> tuple[FloatArray, FloatArray]:
    """95 % intervals of the means over images (the last axis)."""
    return statistics.mean_interval(each.sum(axis=-1), np.square(each).sum(axis=-1), each.shape[-1])
