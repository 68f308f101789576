"""What corruptions do to a model, and at which frequencies: outcomes by corruption and severity."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastfreq.results import tables
from fastfreq.results.folds import Outcomes, by_image, condition, same, text
from fastfreq.results.identity import Identity
from fastfreq.results.result import ModelResult
from fastfreq.vocabulary import statistics
from fastfreq.vocabulary.bounded_means import bounded_mean_interval

FloatArray = NDArray[np.float64]
BASELINE = "baseline"


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


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CorruptionReport(ModelResult, kind="corruption_report"):
    """Accuracy under corruptions, against a baseline model, and the frequencies that each corruption changes.

    ``a + b`` merges shards: other images under the same corruptions, or other corruptions of the same images. Every
    figure is the same whatever the split.

    Attributes:
        corruptions: (k) their names.
        severities: (s) ascending.
        source: where they come from.
        eight_bit: whether images were rounded to 8 bits first.
        seed: key of random corruptions.
        baseline: which model the baseline is, and how it ran; None without one, and in files of version 0.1.
        baseline_name: its class, for people; empty without one.
        labels: (n,) true classes.
        wrong: (k, s, n) where the model misclassified the corrupted image.
        clean_wrong: (n,) bool, the same of the images as they are.
        baseline_wrong: {"baseline": (k, s, n)} of the baseline, or {}.
        baseline_clean_wrong: {"baseline": (n,)}, or {}.
        fractions: (k, s, n) float32, ||H(C(X) - X)||^2 / ||C(X) - X||^2 of each image; NaN where C(X) = X.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "labels": "n", "wrong": "k s n", "clean_wrong": "n", "baseline_wrong": "k s n",
        "baseline_clean_wrong": "n", "fractions": "k s n",
    }  # fmt: skip

    corruptions: tuple[str, ...] = condition()
    severities: tuple[int, ...] = same()
    source: str = same()
    eight_bit: bool = same()
    seed: int = same()
    baseline: Identity | None = same()
    baseline_name: str = text("")
    labels: NDArray[np.int64] = by_image()
    wrong: Outcomes = by_image(conditions=0)
    clean_wrong: NDArray[np.bool_] = by_image()
    baseline_wrong: dict[str, Outcomes] = by_image(conditions=0)
    baseline_clean_wrong: dict[str, NDArray[np.bool_]] = by_image()
    fractions: NDArray[np.float32] = by_image(conditions=0)

    def _check_shapes(self) -> None:
        super()._check_shapes()
        expected = (len(self.corruptions), len(self.severities), self.n_images)
        for name in ("wrong", "fractions"):
            if getattr(self, name).shape != expected:
                raise ValueError(f"expected `{name}` of shape {expected}, got {getattr(self, name).shape}")
        if any(each.shape != expected for each in self.baseline_wrong.values()):
            raise ValueError(f"expected `baseline_wrong` of shape {expected}")
        if not {*self.baseline_wrong} == {*self.baseline_clean_wrong} <= {BASELINE}:
            raise ValueError(f"expected outcomes of one baseline or of none, got {sorted(self.baseline_wrong)}")

    # ---------------------------------------------------------------- figures
    @property
    def has_baseline(self) -> bool:
        """Whether a baseline model was evaluated on the same corrupted images."""
        return BASELINE in self.baseline_wrong

    def _of(self, baseline: bool) -> Outcomes:
        """(k, s, n) where the model or the baseline was wrong."""
        if baseline and not self.has_baseline:
            raise ValueError("expected a report with a baseline; pass `baseline=` to corruption_report")
        return self.baseline_wrong[BASELINE] if baseline else self.wrong

    @property
    def accuracy(self) -> FloatArray:
        """(k, s) top-1 accuracy of the model."""
        return 1 - self.wrong.counts / self.n_images

    @property
    def baseline_accuracy(self) -> FloatArray:
        """(k, s) top-1 accuracy of the baseline."""
        return 1 - self._of(True).counts / self.n_images

    def interval(self, *, baseline: bool = False) -> tuple[FloatArray, FloatArray]:
        """(low, high), both (k, s): 95 % Wilson intervals of the accuracy."""
        return statistics.wilson(self.n_images - self._of(baseline).counts, self.n_images)

    @property
    def clean_accuracy(self) -> float:
        """Top-1 accuracy of the model without corruption."""
        return float(1 - self.clean_wrong.mean())

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
        return bounded_mean_interval(self._gains().T, low=-1.0)

    def _gains(self) -> FloatArray:
        """(k, n) of each image: right minus baseline right, mean over severities, which share their image."""
        return (self._of(True).unpack().astype(np.float64) - self.wrong.unpack()).mean(axis=1)

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
        # the slope is linear in each image's gains, which are bounded: so is what each image adds to it
        bound = float(np.abs(weights).sum())
        low, high = bounded_mean_interval((weights @ each)[:, None], low=-bound, high=bound)
        return CorruptionFit(slope, intercept, residual, float(low[0]), float(high[0]))

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per corruption and severity: high fraction, accuracy with its 95 % interval, baseline accuracy."""
        figures = {}
        for prefix, baseline in [("", False), ("baseline_", True)][: 1 + self.has_baseline]:
            low, high = self.interval(baseline=baseline)
            figures[f"{prefix}accuracy"] = self.baseline_accuracy if baseline else self.accuracy
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
        each = (~self.wrong.unpack()).mean(axis=1)
        low, high = bounded_mean_interval(each.T)
        columns: dict[str, Any] = {"corruption": self.corruptions, "high fraction": self.high_fraction}
        columns |= {"accuracy": each.mean(axis=1), "accuracy_low": low, "accuracy_high": high}
        if self.has_baseline:
            low, high = self.gain_interval()
            columns |= {"baseline accuracy": self.baseline_accuracy.mean(axis=1)}
            columns |= {"gain": self.gain, "gain_low": low, "gain_high": high}
        return tables.from_columns(columns)

    def headline(self) -> str:
        """Accuracy over all corruptions, and without any."""
        return f"accuracy {self.accuracy.mean():.3f} under corruptions, {self.clean_accuracy:.3f} without"

    @classmethod
    def from_format_1(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> CorruptionReport:
        """What version 0.1 wrote."""
        details, ids = dict(header["details"]), arrays["image_ids"]
        wrong, clean = arrays["wrong"], arrays["clean_wrong"]
        baseline = len(wrong) == 2
        return cls(
            **cls._of_format_1(header, ids),
            baseline=None,
            baseline_name=details.get("baseline", ""),
            corruptions=tuple(header["corruptions"]),
            severities=tuple(header["severities"]),
            source=header["source"],
            eight_bit=header["source"] != "functions",
            seed=int(header["seed"]),
            labels=arrays["labels"],
            fractions=arrays["fractions"],
            wrong=Outcomes(wrong[0], len(ids)),
            clean_wrong=clean[0],
            baseline_wrong={BASELINE: Outcomes(wrong[1], len(ids))} if baseline else {},
            baseline_clean_wrong={BASELINE: clean[1]} if baseline else {},
        )


def _mean_of_known(values: NDArray[np.float32]) -> FloatArray:
    """Mean over the last axis, NaN left out; NaN where there is nothing else."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=-1, dtype=np.float64) / known.sum(axis=-1)
