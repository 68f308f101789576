"""What a measured heat map is: outcomes by frequency and image, that merge, and the figures read off them."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfreq.results import tables
from fastfreq.results.folds import Outcomes, condition, same, summed
from fastfreq.results.metrics_result import MetricsResult
from fastfreq.results.profile import RadialProfile
from fastfreq.vocabulary import fourier, statistics
from fastfreq.vocabulary.bounded_means import bounded_mean_interval
from fastfreq.vocabulary.conventions import Convention
from fastfreq.vocabulary.sums import ExactSum

FloatArray = NDArray[np.float64]
LAYER_KINDS = ("absolute", "relative", "cosine")


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Heatmap(MetricsResult, kind="heatmap"):
    """A Fourier heat map with everything needed to merge, compare and repeat it.

    Maps are (rows, columns) with zero frequency at (rows // 2, columns // 2); cells that were not evaluated are NaN.
    ``a + b`` merges shards: other images at the same frequencies, or other frequencies on the same images.

    Attributes:
        convention: what a perturbation was.
        eps: L2 norm of the perturbation per channel, in pixels of [0, 1].
        seed: key of the random signs.
        size: (rows, columns) of the map.
        frequencies: (f, 2) evaluated, canonical, sorted.
        labels, wrong, clean_wrong, sums, clean_sums: as in `MetricsResult`; conditions are frequencies.
        layers: layer -> (f, 3) sums over images of the absolute and relative change and the cosine.
        norms: (f, 2) sum over sampled images and channels of (norm left after clipping) / eps, and their number.
    """

    SHAPES: ClassVar[dict[str, str]] = {"frequencies": "m 2", "layers": "m 3", "norms": "m 2"}

    convention: Convention = same()
    eps: float = same()
    seed: int = same()
    size: tuple[int, int] = same()
    frequencies: NDArray[np.int64] = condition()
    layers: dict[str, ExactSum] = summed(conditions=0)
    norms: ExactSum = summed(conditions=0)

    # ---------------------------------------------------------------- maps
    def to_map(self, values: ArrayLike) -> FloatArray:
        """Values (f,) of the evaluated frequencies as a centred map; twins share a value, the rest is NaN."""
        return fourier.to_map(values, self.frequencies, self.shape[1:], self.size)

    @property
    def count(self) -> NDArray[np.int64]:
        """Images evaluated in each cell; 0 where none was."""
        return np.nan_to_num(self.to_map(np.full(len(self.frequencies), float(self.n_images)))).astype(np.int64)

    @property
    def error(self) -> FloatArray:
        """Top-1 error in 0 .. 1."""
        return self.metric("error")

    @property
    def clean_error(self) -> float:
        """Top-1 error of the same images without perturbation."""
        return float(self.clean_wrong.mean())

    @property
    def difference(self) -> FloatArray:
        """`error` minus `clean_error`."""
        return self.error - self.clean_error

    @property
    def low(self) -> FloatArray:
        """Lower end of the 95 % Wilson interval of `error`."""
        return self.interval()[0]

    @property
    def high(self) -> FloatArray:
        """Upper end of the 95 % Wilson interval of `error`."""
        return self.interval()[1]

    def interval(self, metric: str = "error", *, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """(low, high) maps of `metric`: Wilson for 0/1 metrics, Student's for means such as the loss."""
        low, high = self._interval(metric, confidence)
        return self.to_map(low), self.to_map(high)

    def metric(self, name: str) -> FloatArray:
        """The map of one metric: mean over images."""
        return self.to_map(self._mean(name))

    def layer(self, name: str, kind: str = "relative") -> FloatArray:
        """Mean change of a hidden layer T over images x, as a map.

        Kinds: "absolute" ||T(x~) - T(x)||_2 (Yin et al. 2019, the authors' code), "relative" the same over
        ||T(x)||_2 of each image, "cosine" between T(x~) and T(x).
        """
        if name not in self.layers or kind not in LAYER_KINDS:
            raise KeyError(
                f"expected a layer of {list(self.layers)} and a kind of {list(LAYER_KINDS)}, got {name!r}, {kind!r}"
            )
        return self.to_map(self.layers[name].value[:, LAYER_KINDS.index(kind)] / self.n_images)

    @property
    def effective_eps(self) -> FloatArray:
        """L2 norm per channel actually left after clipping, mean over a sample of images, as a map."""
        return self.to_map(self._effective_eps())

    def _effective_eps(self) -> FloatArray:
        with np.errstate(invalid="ignore", divide="ignore"):
            total, count = self.norms.value.T
            return self.eps * total / count

    def radial(self) -> RadialProfile:
        """`error` averaged over rings, with a 95 % interval that treats images, not cells, as the sample.

        Cells of one ring share their images, so pooling their counts would give bands several times too
        narrow: each image's mean over the ring is one observation.
        """
        rings = fourier.ring(self.frequencies, self.shape[1:])
        _, cells = fourier.unique_frequencies(self.shape[1:], self.size)
        per_frequency = np.bincount(cells.reshape(-1))
        if len(per_frequency) != len(self.frequencies):
            raise ValueError("expected a complete map for a radial profile; merge the missing frequencies first")
        radii, means, lows, highs, weights = [], [], [], [], []
        for r in np.unique(rings):
            member = np.flatnonzero(rings == r)
            weight = per_frequency[member].astype(np.float64)
            per_image = np.zeros(self.n_images)
            for k, w in zip(member, weight, strict=True):
                per_image += w * self.wrong.unpack(k)
            per_image /= weight.sum()
            low, high = bounded_mean_interval(per_image)
            radii.append(float(r))
            means.append(per_image.mean())
            lows.append(float(low))
            highs.append(float(high))
            weights.append(int(weight.sum()))
        return RadialProfile(*(np.array(a) for a in (radii, means, lows, highs, weights)))

    def arrange(self, values: ArrayLike) -> FloatArray:
        """Values by frequency as a map, for comparisons."""
        return self.to_map(values)

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per evaluated frequency: ky, kx, radius, count, every metric with its interval, effective eps."""
        f = self.frequencies
        columns: dict[str, Any] = {"ky": f[:, 0], "kx": f[:, 1], "radius": fourier.radius(f, self.shape[1:])}
        columns["count"] = np.full(len(f), self.n_images)
        columns |= self._metric_columns()
        for name, sums in self.layers.items():
            for index, kind in enumerate(LAYER_KINDS):
                columns[f"{name}_{kind}"] = sums.value[:, index] / self.n_images
        columns["effective_eps"] = self._effective_eps()
        return tables.from_columns(columns)

    def summary(self) -> list[dict[str, Any]]:
        """In short: one row per ring of a complete map; one row over all frequencies of a part of one."""
        _, cells = fourier.unique_frequencies(self.shape[1:], self.size)
        if len(self.frequencies) != int(cells.max()) + 1:
            error = self._mean("error")
            return [{"frequencies": len(error), "error": float(error.mean()), "largest": float(error.max())}]
        rings = self.radial()
        columns: dict[str, Any] = {"radius": rings.radius, "error": rings.value}
        return tables.from_columns(columns | {"error_low": rings.low, "error_high": rings.high})

    def headline(self) -> str:
        """Range of the error, and the error without perturbation."""
        error = self._mean("error")
        low, high = statistics.wilson(self.clean_wrong.sum(), self.n_images)
        clean = f"{self.clean_error:.3f} [{float(low):.3f}, {float(high):.3f}]"
        return f"error {error.min():.3f} to {error.max():.3f} over {len(error):,} frequencies, clean {clean}"

    @classmethod
    def from_format_1(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Heatmap:
        """What version 0.1 wrote."""
        names = {"sums": header["metrics"], "clean_sums": header["metrics"], "layers": header["layers"]}
        sums: dict[str, Any] = {
            field: {name: ExactSum.of(arrays[f"{field}/{i}"]) for i, name in enumerate(each)}
            for field, each in names.items()
        }
        ids = arrays["image_ids"]
        return cls(
            **cls._of_format_1(header, ids),
            convention=Convention.from_header(header["convention"]),
            eps=float(header["eps"]),
            seed=int(header["seed"]),
            size=tuple(header["size"]),
            frequencies=arrays["frequencies"],
            labels=arrays["labels"],
            wrong=Outcomes(arrays["wrong"], len(ids)),
            clean_wrong=arrays["clean_wrong"],
            norms=ExactSum.of(arrays["norms"]),
            **sums,
        )
