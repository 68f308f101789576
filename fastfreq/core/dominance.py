"""What removing single frequencies does to each class: loss and error increases as maps, the dominant frequencies."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastfreq.core.results import import_pandas
from fastfreq.results import store, tables
from fastfreq.vocabulary import fourier, statistics

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def patches(shape: tuple[int, int], size: tuple[int, int], patch: int) -> tuple[IntArray, IntArray]:
    """Squares of frequencies, each with its mirror image, that tile a centred map.

    Along an axis frequency k belongs to tile sign(k) floor((|k| + p / 2) / p): tiles are p wide, symmetric about
    zero, and for even p the one in the middle is p - 1 wide. A tile and its mirror image are one patch.

    Args:
        shape: (h, w) of the image.
        size: (rows, columns) of the map.
        patch: width p.

    Returns:
        tiles (g, 2), a representative (ty, tx) of each patch, centred on (ty p, tx p); and patch_of (f,), the patch
        of each of the map's distinct frequencies (`fourier.unique_frequencies`).
    """
    frequencies, _ = fourier.unique_frequencies(shape, size)
    tiles = np.sign(frequencies) * ((2 * np.abs(frequencies) + patch) // (2 * patch))
    mirrored = (tiles[:, 1] < 0) | ((tiles[:, 1] == 0) & (tiles[:, 0] < 0))
    tiles = np.where(mirrored[:, None], -tiles, tiles)
    found, patch_of = np.unique(tiles, axis=0, return_inverse=True)
    return found, patch_of.reshape(-1)


@dataclasses.dataclass(frozen=True, eq=False)
class DominantFrequencyResult:
    """Loss and error increases, class by class, when frequencies are removed from the images.

    Maps are (rows, columns) with zero frequency at (rows // 2, columns // 2), exactly symmetric: k and -k are removed
    together. Shards of images merge with ``+``.

    Attributes:
        shape: (c, h, w) of the images.
        size: (rows, columns) of the maps.
        patch: width of the square of frequencies that is removed at a time, 1 for single ones.
        image_ids: (n,) ascending.
        classes: (k,) labels that have images, ascending.
        class_count: (k,) images of each class.
        loss_sum: (k, g) sum over images of the cross entropy without the patch minus that of the whole image.
        loss_squares: (k, g) sum of squares of the same.
        wrong: (k, g) images misclassified without the patch.
        clean_wrong: (k,) whole images misclassified.
        clean_loss: (k,) sum of the cross entropy of whole images.
        details: model name, precision, versions: text for people.
    """

    shape: tuple[int, int, int]
    size: tuple[int, int]
    patch: int
    image_ids: IntArray
    classes: IntArray
    class_count: IntArray
    loss_sum: FloatArray
    loss_squares: FloatArray
    wrong: IntArray
    clean_wrong: IntArray
    clean_loss: FloatArray
    details: dict[str, str]

    def __post_init__(self) -> None:
        expected = (len(self.classes), len(patches(self.shape[1:], self.size, self.patch)[0]))
        for name in ("loss_sum", "loss_squares", "wrong"):
            if getattr(self, name).shape != expected:
                raise ValueError(
                    f"expected `{name}` of shape {expected}, one value per class and patch, got "
                    f"{getattr(self, name).shape}; the result is damaged"
                )

    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.image_ids)

    # ---------------------------------------------------------------- maps
    def _to_map(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values (g,) of the patches as a centred map."""
        _, cells = fourier.unique_frequencies(self.shape[1:], self.size)
        _, patch_of = patches(self.shape[1:], self.size, self.patch)
        return values[patch_of[cells]]

    def _rows(self, label: int | None) -> list[int]:
        """Rows of one class, or of all."""
        if label is None:
            return list(range(len(self.classes)))
        found = np.flatnonzero(self.classes == label)
        if not len(found):
            raise KeyError(f"expected one of the classes with images, {self.classes.tolist()}, got {label}")
        return [int(found[0])]

    def _loss(self, label: int | None) -> tuple[FloatArray, FloatArray, int]:
        rows = self._rows(label)
        return self.loss_sum[rows].sum(axis=0), self.loss_squares[rows].sum(axis=0), int(self.class_count[rows].sum())

    def loss_increase(self, label: int | None = None) -> FloatArray:
        """Map of the mean increase of the cross entropy when a patch is removed, of one class or (None) all images."""
        total, _, count = self._loss(label)
        return self._to_map(total / count)

    def interval(self, label: int | None = None, *, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """(low, high) maps of `loss_increase`, normal over images; NaN for a class of one image."""
        low, high = statistics.mean_interval(*self._loss(label), confidence=confidence)
        return self._to_map(low), self._to_map(high)

    def error_increase(self, label: int | None = None) -> FloatArray:
        """Map of the error without a patch minus the error of whole images."""
        rows = self._rows(label)
        more = self.wrong[rows].sum(axis=0) - self.clean_wrong[rows].sum()
        return self._to_map(more / self.class_count[rows].sum())

    def dominant(self, label: int | None = None, *, share: float = 0.05) -> NDArray[np.bool_]:
        """The dominant frequencies: the `share` of the map's cells whose removal raises the loss most, as a mask.

        Patches are taken in descending order of `loss_increase` as long as they fit into the share (the first one
        always does) and as long as removing them raises the loss at all.

        Raises:
            ValueError: a share outside 0 .. 1.

        Source: Wang, Veldhuis, Brune, Strisciuglio 2023, section 3: the top-X % of the map.
        """
        if not 0 < share <= 1:
            raise ValueError(f"expected a `share` above 0 and at most 1, got {share}")
        total, _, _ = self._loss(label)
        _, cells = fourier.unique_frequencies(self.shape[1:], self.size)
        _, patch_of = patches(self.shape[1:], self.size, self.patch)
        area = np.bincount(patch_of[cells].reshape(-1), minlength=len(total))
        order = np.argsort(-total, kind="stable")
        fits = np.cumsum(area[order]) <= share * cells.size
        fits[0] = True
        chosen = np.zeros(len(total), dtype=np.bool_)
        chosen[order] = fits & (total[order] > 0)
        return self._to_map(chosen)

    # ---------------------------------------------------------------- merging
    def __add__(self, other: DominantFrequencyResult) -> DominantFrequencyResult:
        for name in ("shape", "size", "patch"):
            if getattr(self, name) != getattr(other, name):
                raise ValueError(
                    f"expected two results with the same {name}, got {getattr(self, name)} and {getattr(other, name)}"
                )
        if self.details.get("model_fingerprint") != other.details.get("model_fingerprint"):
            raise ValueError("expected two shards of one model, got different weights")
        ids = np.sort(np.concatenate([self.image_ids, other.image_ids]))
        if len(np.unique(ids)) != len(ids):
            raise ValueError("expected shards of different images, some image ids are in both; use `shard=(i, n)`")
        classes = np.union1d(self.classes, other.classes)
        sums: dict[str, Any] = {}
        for name in self._SUMS:
            mine, theirs = getattr(self, name), getattr(other, name)
            both = np.zeros((len(classes), *mine.shape[1:]), mine.dtype)
            both[np.searchsorted(classes, self.classes)] += mine
            both[np.searchsorted(classes, other.classes)] += theirs
            sums[name] = both
        return dataclasses.replace(self, image_ids=ids, classes=classes, **sums)

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per class and patch: class, ky, kx (of the patch's middle), radius, count, increases, interval."""
        tiles, _ = patches(self.shape[1:], self.size, self.patch)
        k, g = self.loss_sum.shape
        middle = np.tile(tiles * self.patch, (k, 1))
        count = self.class_count[:, None]
        low, high = statistics.mean_interval(self.loss_sum, self.loss_squares, count)
        columns: dict[str, Any] = {"class": np.repeat(self.classes, g), "ky": middle[:, 0], "kx": middle[:, 1]}
        columns["radius"] = fourier.radius(middle, self.shape[1:])
        columns["count"] = np.repeat(self.class_count, g)
        columns["loss_increase"] = (self.loss_sum / count).reshape(-1)
        columns["loss_increase_low"], columns["loss_increase_high"] = low.reshape(-1), high.reshape(-1)
        columns["error_increase"] = ((self.wrong - self.clean_wrong[:, None]) / count).reshape(-1)
        return tables.from_columns(columns)

    def summary(self) -> list[dict[str, Any]]:
        """In short: one row per class with the frequency whose removal raises the loss most."""
        tiles, _ = patches(self.shape[1:], self.size, self.patch)
        low, high = statistics.mean_interval(self.loss_sum, self.loss_squares, self.class_count[:, None])
        rows, best = np.arange(len(self.classes)), self.loss_sum.argmax(axis=1)
        columns: dict[str, Any] = {"class": self.classes, "images": self.class_count}
        columns |= {"clean error": self.clean_wrong / self.class_count}
        columns |= {"ky": tiles[best, 0] * self.patch, "kx": tiles[best, 1] * self.patch}
        columns |= {"loss increase": self.loss_sum[rows, best] / self.class_count}
        columns |= {"loss increase_low": low[rows, best], "loss increase_high": high[rows, best]}
        return tables.from_columns(columns)

    def to_dataframe(self) -> pd.DataFrame:
        """`table` as a data frame."""
        return import_pandas().DataFrame(self.table())

    def plot(self, *, share: float | None = 0.05, names: dict[int, str] | None = None) -> Figure:
        """The map of each class, its dominant frequencies outlined."""
        from fastfreq.plots import plot_dominant_frequencies

        return plot_dominant_frequencies(self, share=share, names=names)

    _SUMS = ("class_count", "loss_sum", "loss_squares", "wrong", "clean_wrong", "clean_loss")
    _PLAIN = ("shape", "size", "patch", "details")

    def save(self, path: str | Path) -> None:
        """Write everything to an .npz without pickle, all or nothing."""
        arrays = {name: getattr(self, name) for name in ("image_ids", "classes", *self._SUMS)}
        store.write_arrays(path, "dominant_frequencies", {name: getattr(self, name) for name in self._PLAIN}, arrays)

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> DominantFrequencyResult:
        """What `save` wrote."""
        fields: dict[str, Any] = {**header, **{name: arrays[name] for name in ("image_ids", "classes", *cls._SUMS)}}
        fields["shape"], fields["size"] = tuple(header["shape"]), tuple(header["size"])
        return cls(**fields)
