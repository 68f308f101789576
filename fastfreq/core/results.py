"""What a measured heat map is: sums over images that merge, and the figures read off them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfreq.results import store
from fastfreq.vocabulary import fourier, statistics
from fastfreq.vocabulary.conventions import Convention

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from fastfreq.core.comparison import Comparison

FloatArray = NDArray[np.float64]
LAYER_KINDS = ("absolute", "relative", "cosine")


@dataclasses.dataclass(frozen=True, eq=False)
class RadialProfile:
    """A map averaged over rings.

    Attributes:
        radius: (r,) ring radii in cycles per image (per shorter side where sides differ).
        value: (r,) mean over the ring's cells and all images.
        low: (r,) lower end of the 95 % interval over images.
        high: (r,) upper end.
        cells: (r,) cells of the map in each ring.
    """

    radius: FloatArray
    value: FloatArray
    low: FloatArray
    high: FloatArray
    cells: NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class HeatmapResult:
    """A Fourier heat map with everything needed to merge, compare and repeat it.

    Maps are (rows, columns) with zero frequency at (rows // 2, columns // 2); cells that were not
    evaluated are NaN. ``a + b`` merges shards: other images at the same frequencies, or other
    frequencies on the same images.

    Attributes:
        convention: what a perturbation was.
        eps: L2 norm of the perturbation per channel, in pixels of [0, 1].
        seed: key of the random signs.
        shape: (c, h, w) of the images.
        size: (rows, columns) of the map.
        frequencies: (f, 2) evaluated, canonical, sorted.
        image_ids: (n,) what identified each image to the sign generator, ascending.
        labels: (n,) true classes.
        wrong: (f, ceil(n / 8)) uint8, packed: bit set where the perturbed image was misclassified.
        clean_wrong: (n,) bool, the same without perturbation.
        sums: metric -> (f, 2) sum and sum of squares over images.
        clean_sums: metric -> (2,) the same without perturbation.
        layers: layer -> (f, 3) sums over images of the absolute and relative change and the cosine.
        norms: (f, 2) sum over sampled images and channels of (norm left after clipping) / eps, and their number.
        details: model name, precision, versions: text for people.
    """

    convention: Convention
    eps: float
    seed: int
    shape: tuple[int, int, int]
    size: tuple[int, int]
    frequencies: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    wrong: NDArray[np.uint8]
    clean_wrong: NDArray[np.bool_]
    sums: dict[str, FloatArray]
    clean_sums: dict[str, FloatArray]
    layers: dict[str, FloatArray]
    norms: FloatArray
    details: dict[str, str]

    # ---------------------------------------------------------------- maps
    def to_map(self, values: ArrayLike) -> FloatArray:
        """Values (f,) of the evaluated frequencies as a centred map; twins share a value, the rest is NaN."""
        every, cells = fourier.unique_frequencies(self.shape[1:], self.size)
        full = np.full(len(every), np.nan)
        width = max(self.shape)
        key = np.array([4 * width, 1])
        full[np.searchsorted(every @ key, self.frequencies @ key)] = values
        return full[cells]

    @property
    def count(self) -> NDArray[np.int64]:
        """Images evaluated in each cell; 0 where none was."""
        return np.nan_to_num(self.to_map(np.full(len(self.frequencies), float(self.n_images)))).astype(np.int64)

    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.image_ids)

    @property
    def wrong_counts(self) -> NDArray[np.int64]:
        """(f,) images misclassified at each evaluated frequency."""
        return np.bitwise_count(self.wrong).sum(axis=1, dtype=np.int64)

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
        """(low, high) maps of `metric`: Wilson for 0/1 metrics, normal for means such as the loss."""
        low, high = self._interval(metric, confidence)
        return self.to_map(low), self.to_map(high)

    def _interval(self, metric: str, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """`interval` per evaluated frequency."""
        if metric == "error":
            return statistics.wilson(self.wrong_counts, self.n_images, confidence=confidence)
        total, squares = self._sums(metric).T
        if np.all(total == squares) and np.all(total <= self.n_images):  # values 0 and 1 only
            return statistics.wilson(total, self.n_images, confidence=confidence)
        return statistics.mean_interval(total, squares, self.n_images, confidence=confidence)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics measured."""
        return ("error", *self.sums)

    def metric(self, name: str) -> FloatArray:
        """The map of one metric: mean over images."""
        return self.to_map(self._mean(name))

    def _mean(self, name: str) -> FloatArray:
        """`metric` per evaluated frequency."""
        return (self.wrong_counts if name == "error" else self._sums(name)[:, 0]) / self.n_images

    def clean_metric(self, name: str) -> float:
        """A metric of the same images without perturbation."""
        if name == "error":
            return self.clean_error
        self._sums(name)
        return float(self.clean_sums[name][0] / self.n_images)

    def _sums(self, metric: str) -> FloatArray:
        if metric not in self.sums:
            raise KeyError(f"expected one of the metrics measured ({', '.join(self.metrics)}), got {metric!r}")
        return self.sums[metric]

    def layer(self, name: str, kind: str = "relative") -> FloatArray:
        """Mean change of a hidden layer T over images x, as a map.

        Kinds: "absolute" ||T(x~) - T(x)||_2 (Yin et al. 2019, the authors' code), "relative" the same over
        ||T(x)||_2 of each image, "cosine" between T(x~) and T(x).
        """
        if name not in self.layers or kind not in LAYER_KINDS:
            raise KeyError(
                f"expected a layer of {list(self.layers)} and a kind of {list(LAYER_KINDS)}, got {name!r}, {kind!r}"
            )
        return self.to_map(self.layers[name][:, LAYER_KINDS.index(kind)] / self.n_images)

    @property
    def effective_eps(self) -> FloatArray:
        """L2 norm per channel actually left after clipping, mean over a sample of images, as a map."""
        return self.to_map(self._effective_eps())

    def _effective_eps(self) -> FloatArray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.eps * self.norms[:, 0] / self.norms[:, 1]

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
                per_image += w * np.unpackbits(self.wrong[k], count=self.n_images)
            per_image /= weight.sum()
            low, high = statistics.mean_interval(per_image.sum(), np.square(per_image).sum(), self.n_images)
            radii.append(float(r))
            means.append(per_image.mean())
            lows.append(max(float(low), 0.0))
            highs.append(min(float(high), 1.0))
            weights.append(int(weight.sum()))
        return RadialProfile(*(np.array(a) for a in (radii, means, lows, highs, weights)))

    # ---------------------------------------------------------------- merging and comparing
    def __add__(self, other: HeatmapResult) -> HeatmapResult:
        from fastfreq.core.merging import merge

        return merge(self, other)

    def compare(self, other: HeatmapResult) -> Comparison:
        """Paired comparison with another model on the same images, frequencies and signs.

        Raises:
            ValueError: the two maps differ in images, labels, frequencies, convention, eps or seed.
        """
        from fastfreq.core.comparison import compare

        return compare(self, other)

    # ---------------------------------------------------------------- out of the toolkit
    def to_dataframe(self) -> pd.DataFrame:
        """One row per evaluated frequency: ky, kx, radius, count, every metric with its interval, effective eps."""
        pd = import_pandas()
        f = self.frequencies
        columns: dict[str, Any] = {"ky": f[:, 0], "kx": f[:, 1], "radius": fourier.radius(f, self.shape[1:])}
        columns["count"] = np.full(len(f), self.n_images)
        for name in self.metrics:
            columns[name] = self._mean(name)
            columns[f"{name}_low"], columns[f"{name}_high"] = self._interval(name)
            columns[f"clean_{name}"] = self.clean_metric(name)
        for name, sums in self.layers.items():
            for index, kind in enumerate(LAYER_KINDS):
                columns[f"{name}_{kind}"] = sums[:, index] / self.n_images
        columns["effective_eps"] = self._effective_eps()
        return pd.DataFrame(columns)

    def plot(self, *, metric: str = "error", difference: bool = False) -> Figure:
        """The map as a matplotlib figure, axes in cycles per image, errors on the fixed scale 0 .. 1."""
        from fastfreq.plots import plot_heatmap

        return plot_heatmap(self, metric=metric, difference=difference)

    def save(self, path: str | Path) -> None:
        """Write everything to an .npz without pickle, all or nothing."""
        header = {
            "convention": dataclasses.asdict(self.convention),
            **{k: getattr(self, k) for k in ("eps", "seed", "shape", "size", "details")},
            "metrics": list(self.sums),
            "layers": list(self.layers),
        }
        names = ("frequencies", "image_ids", "labels", "wrong", "clean_wrong", "norms")
        arrays = {name: getattr(self, name) for name in names}
        for kind in ("sums", "clean_sums", "layers"):
            arrays.update({f"{kind}/{i}": a for i, a in enumerate(getattr(self, kind).values())})
        store.write_arrays(path, "heatmap", header, arrays)

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> HeatmapResult:
        """What `save` wrote."""
        metrics, layers = header["metrics"], header["layers"]
        n, f = len(arrays["image_ids"]), len(arrays["frequencies"])
        if arrays["wrong"].shape != (f, (n + 7) // 8) or arrays["clean_wrong"].shape != (n,):
            raise ValueError("expected outcomes for every image and frequency; the saved heat map is damaged")
        plain = ("frequencies", "image_ids", "labels", "wrong", "clean_wrong", "norms")
        return cls(
            convention=Convention(**header["convention"]),
            eps=float(header["eps"]),
            seed=int(header["seed"]),
            shape=tuple(header["shape"]),
            size=tuple(header["size"]),
            sums={name: arrays[f"sums/{i}"] for i, name in enumerate(metrics)},
            clean_sums={name: arrays[f"clean_sums/{i}"] for i, name in enumerate(metrics)},
            layers={name: arrays[f"layers/{i}"] for i, name in enumerate(layers)},
            details=dict(header["details"]),
            **{name: arrays[name] for name in plain},
        )


def import_pandas() -> Any:
    """pandas, or the way to it."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError("expected pandas for a data frame; pip install 'fastfreq[dataframe]'") from error
    return pandas
