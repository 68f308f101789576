"""What a gradient heat map is: sums over images that merge, and the figures read off them."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfreq.results import tables
from fastfreq.results.folds import Outcomes, by_class, by_image, classes, same, summed
from fastfreq.results.result import ModelResult
from fastfreq.vocabulary import fourier, statistics
from fastfreq.vocabulary.conventions import Convention
from fastfreq.vocabulary.sums import ExactSum

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class GradientHeatmap(ModelResult, kind="gradient_heatmap"):
    """Fourier sensitivity of the loss, and the error it predicts.

    Maps are (rows, columns) with zero frequency at (rows // 2, columns // 2). ``a + b`` merges shards of images.

    Attributes:
        size: (rows, columns) of the maps.
        eps: L2 norm per channel for which the error was predicted, None if it was not.
        margins: competitors whose margins were linearised, for the prediction.
        convention: what a perturbation was, for the prediction.
        seed: key of the random signs, for the prediction.
        with_class_maps: whether the map of every class was kept.
        labels: (n,) true classes.
        clean_wrong: (n,) bool, images misclassified without perturbation.
        predicted_wrong: (f, n) where a linearised margin turns negative at `eps`; (0, n) if `eps` is None.
        power_sum: (c, f) sum over images of |G_c(k)|^2, G the unitary FFT of each channel's input gradient.
        power_squares: (f,) sum over images of (sum_c |G_c(k)|^2)^2.
        ring_sum: (r, 2) sum and sum of squares over images of the ring's share of the total power.
        classes: (k,) labels that have images, ascending.
        class_ring_sum: (k, r) sum over images of each class of the ring's share.
        class_power_sum: (k, f) sum over images of each class of sum_c |G_c(k)|^2; (k, 0) without maps per class.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "labels": "n", "clean_wrong": "n", "predicted_wrong": "_ n", "power_sum": "c f", "power_squares": "f",
        "ring_sum": "r 2", "classes": "k", "class_ring_sum": "k r",
    }  # fmt: skip

    size: tuple[int, int] = same()
    eps: float | None = same()
    margins: int = same()
    convention: Convention = same()
    seed: int = same()
    with_class_maps: bool = same()
    labels: NDArray[np.int64] = by_image()
    clean_wrong: NDArray[np.bool_] = by_image()
    predicted_wrong: Outcomes = by_image()
    power_sum: ExactSum = summed()
    power_squares: ExactSum = summed()
    ring_sum: ExactSum = summed()
    classes: NDArray[np.int64] = classes()
    class_ring_sum: ExactSum = by_class()
    class_power_sum: ExactSum = by_class()

    def __post_init__(self) -> None:
        super().__post_init__()
        f = len(self.frequencies)
        wanted = {"power_sum": (1, f), "power_squares": (0, f), "predicted_wrong": (0, 0 if self.eps is None else f)}
        for name, (axis, count) in wanted.items():
            if getattr(self, name).shape[axis] != count:
                raise ValueError(f"expected `{name}` of {count} frequencies, got shape {getattr(self, name).shape}")
        if self.class_power_sum.shape[1:] != ((f if self.with_class_maps else 0),):
            raise ValueError(f"expected `class_power_sum` of {f} frequencies, got shape {self.class_power_sum.shape}")

    # ---------------------------------------------------------------- maps
    @property
    def frequencies(self) -> NDArray[np.int64]:
        """(f, 2) canonical frequencies of the map."""
        return fourier.unique_frequencies(self.shape[1:], self.size)[0]

    def arrange(self, values: ArrayLike) -> FloatArray:
        """Values (..., f) as centred maps (..., rows, columns); twins share a value."""
        return np.asarray(values, np.float64)[..., fourier.unique_frequencies(self.shape[1:], self.size)[1]]

    @property
    def _power(self) -> FloatArray:
        """(f,) sum over images and channels of |G_c(k)|^2."""
        return self.power_sum.sum(axis=0).value

    @property
    def power(self) -> FloatArray:
        """Mean over images of sum_c |G_c(k)|^2: the mean squared loss change per unit of eps^2, as a map.

        To first order a perturbation eps s U_k changes the loss by eps <g, s U_k>; over random signs and
        phases its mean square is eps^2 sum_c |G_c(k)|^2.
        """
        return self.arrange(self._power / self.n_images)

    @property
    def channel_power(self) -> FloatArray:
        """`power` channel by channel: (c, rows, columns)."""
        return self.arrange(self.power_sum.value / self.n_images)

    def interval(self, *, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """(low, high) maps of `power`, Student's over images."""
        low, high = self._interval(confidence)
        return self.arrange(low), self.arrange(high)

    def _interval(self, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """`interval` per frequency."""
        return statistics.student_interval(self._power, self.power_squares.value, self.n_images, confidence=confidence)

    # ---------------------------------------------------------------- rings and classes
    @property
    def radial(self) -> FloatArray:
        """Mean over images of each ring's share of the gradient's power, (r,), ring index = cycles per image.

        Source: Krishnamachari et al. 2022, "total power ratio"; zero frequency is ring 0 and counted.
        """
        return self.ring_sum.value[:, 0] / self.n_images

    def radial_interval(self, *, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """(low, high) of `radial`, over images, within 0 .. 1."""
        total, squares = self.ring_sum.value.T
        low, high = statistics.student_interval(total, squares, self.n_images, confidence=confidence)
        return np.maximum(low, 0.0), np.minimum(high, 1.0)

    @property
    def class_count(self) -> NDArray[np.int64]:
        """(k,) images of each of `classes`."""
        return np.unique(self.labels, return_counts=True)[1]

    @property
    def per_class(self) -> FloatArray:
        """`radial` class by class: (k, r), one row for each of `classes`, the labels that have images."""
        return self.class_ring_sum.value / self.class_count[:, None]

    @property
    def class_maps(self) -> FloatArray:
        """`power` class by class: (k, rows, columns), one map for each of `classes`, the labels that have images.

        Raises:
            ValueError: `gradient_heatmap` was not called with ``class_maps=True``.
        """
        if not self.with_class_maps:
            raise ValueError(
                "expected maps per class, none were asked for; call gradient_heatmap(..., class_maps=True)"
            )
        return self.arrange(self.class_power_sum.value / self.class_count[:, None])

    # ---------------------------------------------------------------- prediction
    @property
    def clean_error(self) -> float:
        """Top-1 error of the images without perturbation."""
        return float(self.clean_wrong.mean())

    @property
    def predicted_error(self) -> FloatArray:
        """Error predicted at `eps` by linearising the top logit margins, as a map.

        Raises:
            ValueError: no `eps` was given to `gradient_heatmap`.
        """
        if self.eps is None:
            raise ValueError("expected a prediction, none was asked for; call gradient_heatmap(..., eps=...)")
        return self.arrange(self.predicted_wrong.counts / self.n_images)

    def rank_correlation(self, error: FloatArray) -> float:
        """Spearman's correlation with a measured map of the same size, over distinct frequencies.

        Uses `predicted_error` if it was asked for, else `power`. Every pair {k, -k} counts once.
        """
        own = self.power if self.eps is None else self.predicted_error
        if error.shape != own.shape:
            raise ValueError(f"expected a measured map of {own.shape}, got {error.shape}")
        _, first = np.unique(fourier.unique_frequencies(self.shape[1:], self.size)[1], return_index=True)
        return statistics.rank_correlation(own.reshape(-1)[first], error.reshape(-1)[first])

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per frequency: ky, kx, radius, count, power with its interval, the predicted error if any."""
        f = self.frequencies
        columns: dict[str, Any] = {"ky": f[:, 0], "kx": f[:, 1], "radius": fourier.radius(f, self.shape[1:])}
        columns["count"] = self.n_images
        columns["power"] = self._power / self.n_images
        columns["power_low"], columns["power_high"] = self._interval()
        if self.eps is not None:
            counts = self.predicted_wrong.counts
            columns["predicted_error"] = counts / self.n_images
            columns["predicted_error_low"], columns["predicted_error_high"] = statistics.wilson(counts, self.n_images)
            columns["clean_error"] = self.clean_error
        return tables.from_columns(columns)

    def summary(self) -> list[dict[str, Any]]:
        """In short: the share of power in bands of rings, at most sixteen."""
        share = self.radial
        low, high = self.radial_interval()
        if len(share) <= 16:
            columns: dict[str, Any] = {"radius": np.arange(len(share)), "share of the power": share}
            return tables.from_columns(columns | {"share of the power_low": low, "share of the power_high": high})
        edges = np.unique(np.linspace(0, len(share), 17).round().astype(int))
        pairs = list(zip(edges[:-1], edges[1:], strict=True))
        names = [f"{a}" if b == a + 1 else f"{a} to {b - 1}" for a, b in pairs]
        return tables.from_columns({"radius": names, "share of the power": [share[a:b].sum() for a, b in pairs]})

    def headline(self) -> str:
        """Where the power lies, and the predicted error if any."""
        middle = float(self.radial @ np.arange(len(self.radial)))
        text = f"the gradient's power lies at {middle:.1f} cycles per image on average"
        if self.eps is None:
            return text
        error = self.predicted_wrong.counts / self.n_images
        return f"{text}; error predicted {error.min():.3f} to {error.max():.3f}, clean {self.clean_error:.3f}"

    @classmethod
    def from_format_1(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> GradientHeatmap:
        """What version 0.1 wrote: counts without images.

        Which image was wrong is not known: ids are negative, so that they are nobody's, outcomes and labels stand in
        any order that gives the counts, and two such files do not merge.
        """
        n, eps = int(header["count"]), header["eps"]
        seen = np.flatnonzero(arrays["class_count"])
        with_class_maps = len(arrays["class_map_sum"]) > 0
        place = np.arange(n)
        return cls(
            **cls._of_format_1(header, np.arange(-n, 0)),
            size=tuple(header["size"]),
            eps=None if eps is None else float(eps),
            margins=1,
            convention=Convention.from_header(header["convention"]),
            seed=int(header["seed"]),
            with_class_maps=with_class_maps,
            labels=np.repeat(seen, arrays["class_count"][seen]),
            clean_wrong=place < header["clean_wrong"],
            predicted_wrong=Outcomes.of(place < arrays["predicted_wrong"][: None if eps is not None else 0, None]),
            power_sum=ExactSum.of(arrays["power_sum"].T),
            power_squares=ExactSum.of(arrays["power_squares"]),
            ring_sum=ExactSum.of(arrays["ring_sum"]),
            classes=seen,
            class_ring_sum=ExactSum.of(arrays["class_power"][seen]),
            class_power_sum=ExactSum.of(arrays["class_map_sum"][seen] if with_class_maps else np.zeros((len(seen), 0))),
        )
