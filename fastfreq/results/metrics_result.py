"""What a result of outcomes under conditions reads off them: errors, other metrics, and their intervals."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fastfreq.vocabulary import statistics
from fastfreq.vocabulary.sums import ExactSum

from .folds import Outcomes, by_image, summed
from .result import ModelResult

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MetricsResult(ModelResult):
    """Outcomes and metrics of a model by condition (m of them) and image.

    Attributes:
        labels: (n,) true classes.
        wrong: (m, n) where the altered image was misclassified.
        clean_wrong: (n,) bool, the same of the images as they are.
        sums: metric -> (m, 2) sum and sum of squares over images.
        clean_sums: metric -> (2,) the same of the images as they are.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "labels": "n", "wrong": "m n", "clean_wrong": "n", "sums": "m 2", "clean_sums": "2",
    }  # fmt: skip

    labels: NDArray[np.int64] = by_image()
    wrong: Outcomes = by_image(conditions=0)
    clean_wrong: NDArray[np.bool_] = by_image()
    sums: dict[str, ExactSum] = summed(conditions=0)
    clean_sums: dict[str, ExactSum] = summed()

    @property
    def wrong_counts(self) -> NDArray[np.int64]:
        """(m,) images misclassified under each condition."""
        return self.wrong.counts

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics measured."""
        return ("error", *self.sums)

    def clean_metric(self, name: str) -> float:
        """A metric of the images as they are.

        Raises:
            KeyError: it was not measured.
        """
        if name == "error":
            return float(self.clean_wrong.mean())
        self._sums(name)
        return float(self.clean_sums[name].value[0] / self.n_images)

    def _mean(self, name: str) -> FloatArray:
        """(m,) mean of a metric over images."""
        return (self.wrong_counts if name == "error" else self._sums(name).value[:, 0]) / self.n_images

    def _interval(self, metric: str, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """(low, high), each (m,): Wilson for 0/1 metrics, Student's for means such as the loss."""
        if metric == "error":
            return statistics.wilson(self.wrong_counts, self.n_images, confidence=confidence)
        total, squares = self._sums(metric).value.T
        if np.all(total == squares) and np.all(total <= self.n_images):  # values 0 and 1 only
            return statistics.wilson(total, self.n_images, confidence=confidence)
        return statistics.student_interval(total, squares, self.n_images, confidence=confidence)

    def _metric_columns(self) -> dict[str, FloatArray | float]:
        """Columns of a table: every metric with its interval, and what it is without any change."""
        columns: dict[str, FloatArray | float] = {}
        for name in self.metrics:
            columns[name] = self._mean(name)
            columns[f"{name}_low"], columns[f"{name}_high"] = self._interval(name)
            columns[f"clean_{name}"] = self.clean_metric(name)
        return columns

    def _sums(self, metric: str) -> ExactSum:
        if metric not in self.sums:
            raise KeyError(f"expected one of the metrics measured ({', '.join(self.metrics)}), got {metric!r}")
        return self.sums[metric]
