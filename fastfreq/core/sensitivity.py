"""What a gradient heat map is: every frequency's first-order effect, from one backward pass per image."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastfreq.results import store
from fastfreq.vocabulary import fourier, statistics
from fastfreq.vocabulary.conventions import Convention

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class SensitivityResult:
    """Fourier sensitivity of the loss, and the error it predicts.

    Maps are centred as in HeatmapResult. Shards of images merge with ``+``.

    Attributes:
        shape: (c, h, w) of the images.
        size: (rows, columns) of the maps.
        count: number of images.
        power_sum: (f, c) sum over images of |G_c(k)|^2, G the unitary FFT of each channel's input gradient.
        power_squares: (f,) sum over images of (sum_c |G_c(k)|^2)^2.
        ring_sum: (r, 2) sum and sum of squares over images of the ring's share of the total power.
        class_power: (classes, r) sum over images of each class of the ring's share.
        class_count: (classes,) images of each class.
        class_map_sum: (classes, f) sum over images of each class of sum_c |G_c(k)|^2; (0, f) if it was not asked for.
        eps: norm for which the error was predicted, None if it was not.
        convention: what a perturbation was, for the prediction.
        seed: key of the random signs, for the prediction.
        predicted_wrong: (f,) images whose linearised margin turns negative at `eps`.
        clean_wrong: images misclassified without perturbation.
        details: model name and versions.
    """

    shape: tuple[int, int, int]
    size: tuple[int, int]
    count: int
    power_sum: FloatArray
    power_squares: FloatArray
    ring_sum: FloatArray
    class_power: FloatArray
    class_count: NDArray[np.int64]
    class_map_sum: FloatArray
    eps: float | None
    convention: Convention
    seed: int
    predicted_wrong: NDArray[np.int64]
    clean_wrong: int
    details: dict[str, str]

    def _to_map(self, values: FloatArray) -> FloatArray:
        return values[fourier.unique_frequencies(self.shape[1:], self.size)[1]]

    @property
    def frequencies(self) -> NDArray[np.int64]:
        """(f, 2) canonical frequencies of the map."""
        return fourier.unique_frequencies(self.shape[1:], self.size)[0]

    @property
    def power(self) -> FloatArray:
        """Mean over images of sum_c |G_c(k)|^2: the mean squared loss change per unit of eps^2, as a map.

        To first order a perturbation eps s U_k changes the loss by eps <g, s U_k>; over random signs and
        phases its mean square is eps^2 sum_c |G_c(k)|^2.
        """
        return self._to_map(self.power_sum.sum(axis=1) / self.count)

    @property
    def channel_power(self) -> FloatArray:
        """`power` channel by channel: (c, rows, columns)."""
        return np.stack([self._to_map(p / self.count) for p in self.power_sum.T])

    def interval(self, *, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """(low, high) maps of `power`, normal over images."""
        low, high = statistics.mean_interval(
            self.power_sum.sum(axis=1), self.power_squares, self.count, confidence=confidence
        )
        return self._to_map(low), self._to_map(high)

    @property
    def radial(self) -> FloatArray:
        """Mean over images of each ring's share of the gradient's power, (r,), ring index = cycles per image.

        Source: Krishnamachari et al. 2022, "total power ratio"; zero frequency is ring 0 and counted.
        """
        return self.ring_sum[:, 0] / self.count

    def radial_interval(self, *, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """(low, high) of `radial`, normal over images."""
        return statistics.mean_interval(self.ring_sum[:, 0], self.ring_sum[:, 1], self.count, confidence=confidence)

    @property
    def per_class(self) -> FloatArray:
        """`radial` class by class: (classes, r); NaN for classes without images."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.class_power / self.class_count[:, None]

    @property
    def class_maps(self) -> FloatArray:
        """`power` class by class: (classes, rows, columns); NaN for classes without images.

        Raises:
            ValueError: `gradient_heatmap` was not called with ``class_maps=True``.
        """
        if not len(self.class_map_sum):
            raise ValueError(
                "expected maps per class, none were asked for; call gradient_heatmap(..., class_maps=True)"
            )
        with np.errstate(invalid="ignore", divide="ignore"):
            means = self.class_map_sum / self.class_count[:, None]
        return means[:, fourier.unique_frequencies(self.shape[1:], self.size)[1]]

    @property
    def predicted_error(self) -> FloatArray:
        """Error predicted at `eps` by linearising the top logit margins, as a map.

        Raises:
            ValueError: no `eps` was given to `gradient_heatmap`.
        """
        if self.eps is None:
            raise ValueError("expected a prediction, none was asked for; call gradient_heatmap(..., eps=...)")
        return self._to_map(self.predicted_wrong / self.count)

    def rank_correlation(self, error: FloatArray) -> float:
        """Spearman's correlation with a measured map of the same size, over distinct frequencies.

        Uses `predicted_error` if it was asked for, else `power`. Every pair {k, -k} counts once.
        """
        own = self.power if self.eps is None else self.predicted_error
        if error.shape != own.shape:
            raise ValueError(f"expected a measured map of {own.shape}, got {error.shape}")
        _, first = np.unique(fourier.unique_frequencies(self.shape[1:], self.size)[1], return_index=True)
        return statistics.rank_correlation(own.reshape(-1)[first], error.reshape(-1)[first])

    def __add__(self, other: SensitivityResult) -> SensitivityResult:
        for name in ("shape", "size", "eps", "convention", "seed"):
            if getattr(self, name) != getattr(other, name):
                raise ValueError(
                    f"expected two sensitivities with the same {name}, "
                    f"got {getattr(self, name)} and {getattr(other, name)}"
                )
        if bool(len(self.class_map_sum)) != bool(len(other.class_map_sum)):
            raise ValueError("expected both sensitivities with maps per class, or neither; one was asked for them")
        classes = max(len(self.class_count), len(other.class_count))

        def padded(a: NDArray[Any]) -> NDArray[Any]:
            return np.concatenate([a, np.zeros((classes - len(a), *a.shape[1:]), a.dtype)])

        return dataclasses.replace(
            self,
            class_power=padded(self.class_power) + padded(other.class_power),
            class_count=padded(self.class_count) + padded(other.class_count),
            class_map_sum=(
                padded(self.class_map_sum) + padded(other.class_map_sum)
                if len(self.class_map_sum)
                else self.class_map_sum
            ),
            **{
                name: getattr(self, name) + getattr(other, name)
                for name in (
                    "count",
                    "power_sum",
                    "power_squares",
                    "ring_sum",
                    "predicted_wrong",
                    "clean_wrong",
                )
            },
        )

    def plot(self) -> Figure:
        """The power (log scale), the radial profile and, if asked for, the predicted error."""
        from fastfreq.plots import plot_sensitivity

        return plot_sensitivity(self)

    _ARRAYS = (
        "power_sum", "power_squares", "ring_sum", "class_power", "class_count", "class_map_sum", "predicted_wrong",
    )  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Write everything to an .npz without pickle, all or nothing."""
        plain = ("shape", "size", "count", "eps", "seed", "clean_wrong", "details")
        header = {"convention": dataclasses.asdict(self.convention), **{k: getattr(self, k) for k in plain}}
        store.write_arrays(path, "sensitivity", header, {name: getattr(self, name) for name in self._ARRAYS})

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> SensitivityResult:
        """What `save` wrote."""
        fields: dict[str, Any] = {**header, **{name: arrays[name] for name in cls._ARRAYS}}
        fields["convention"] = Convention(**header["convention"])
        fields["shape"], fields["size"] = tuple(header["shape"]), tuple(header["size"])
        return cls(**fields)
