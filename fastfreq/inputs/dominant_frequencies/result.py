"""What removing single frequencies does to each class: loss and error increases as maps, the dominant frequencies."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfreq.results import tables
from fastfreq.results.folds import Outcomes, by_class, by_image, classes, same
from fastfreq.results.result import ModelResult
from fastfreq.vocabulary import fourier, statistics
from fastfreq.vocabulary.sums import ExactSum

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


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DominantFrequencies(ModelResult, kind="dominant_frequencies"):
    """Loss and error increases, class by class, when frequencies are removed from the images.

    Maps are (rows, columns) with zero frequency at (rows // 2, columns // 2), exactly symmetric: k and -k are removed
    together. ``a + b`` merges shards of images.

    Attributes:
        size: (rows, columns) of the maps.
        patch: width of the square of frequencies that is removed at a time, 1 for single ones.
        labels: (n,) true classes.
        wrong: (g, n) where an image without the patch was misclassified.
        clean_wrong: (n,) bool, the same of whole images.
        classes: (k,) labels that have images, ascending.
        loss_sum: (k, g) sum over images of the cross entropy without the patch minus that of the whole image.
        loss_squares: (k, g) sum of squares of the same.
        clean_loss: (k,) sum of the cross entropy of whole images.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "labels": "n", "wrong": "g n", "clean_wrong": "n", "classes": "k", "loss_sum": "k g",
        "loss_squares": "k g", "clean_loss": "k",
    }  # fmt: skip

    size: tuple[int, int] = same()
    patch: int = same()
    labels: IntArray = by_image()
    wrong: Outcomes = by_image()
    clean_wrong: NDArray[np.bool_] = by_image()
    classes: IntArray = classes()
    loss_sum: ExactSum = by_class()
    loss_squares: ExactSum = by_class()
    clean_loss: ExactSum = by_class()

    def __post_init__(self) -> None:
        super().__post_init__()
        count = len(patches(self.shape[1:], self.size, self.patch)[0])
        for name, axis in (("loss_sum", 1), ("loss_squares", 1), ("wrong", 0)):
            if getattr(self, name).shape[axis] != count:
                raise ValueError(f"expected `{name}` of {count} patches, got shape {getattr(self, name).shape}")

    # ---------------------------------------------------------------- maps
    def _to_map(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values (g,) of the patches as a centred map."""
        _, cells = fourier.unique_frequencies(self.shape[1:], self.size)
        _, patch_of = patches(self.shape[1:], self.size, self.patch)
        return values[patch_of[cells]]

    def arrange(self, values: ArrayLike) -> FloatArray:
        """Values (g,) by patch as a centred map, for comparisons."""
        return self._to_map(np.asarray(values, np.float64))

    @property
    def class_count(self) -> IntArray:
        """(k,) images of each of `classes`."""
        return np.unique(self.labels, return_counts=True)[1]

    def _row(self, label: int) -> int:
        """Row of a class."""
        found = np.flatnonzero(self.classes == label)
        if not len(found):
            raise KeyError(f"expected one of the classes with images, {self.classes.tolist()}, got {label}")
        return int(found[0])

    def _loss(self, label: int | None) -> tuple[FloatArray, FloatArray, int]:
        """(sum, sum of squares, images) of the loss increase, by patch, of one class or of all."""
        if label is None:
            return self.loss_sum.sum(axis=0).value, self.loss_squares.sum(axis=0).value, self.n_images
        row = self._row(label)
        return self.loss_sum[row].value, self.loss_squares[row].value, int(self.class_count[row])

    def wrong_counts(self, label: int | None = None) -> tuple[IntArray, int]:
        """Misclassified images of one class or (None) all: without each patch (g,), and as they are."""
        if label is None:
            return self.wrong.counts, int(self.clean_wrong.sum())
        own = self.labels == self.classes[self._row(label)]
        counts = np.bitwise_count(self.wrong.packed & np.packbits(own)).sum(axis=-1, dtype=np.int64)
        return counts, int(self.clean_wrong[own].sum())

    def loss_increase(self, label: int | None = None) -> FloatArray:
        """Map of the mean increase of the cross entropy when a patch is removed, of one class or (None) all images."""
        total, _, count = self._loss(label)
        return self._to_map(total / count)

    def interval(self, label: int | None = None, *, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """(low, high) maps of `loss_increase`, Student's over images; NaN for a class of one image."""
        low, high = statistics.student_interval(*self._loss(label), confidence=confidence)
        return self._to_map(low), self._to_map(high)

    def error_increase(self, label: int | None = None) -> FloatArray:
        """Map of the error without a patch minus the error of whole images."""
        counts, clean = self.wrong_counts(label)
        return self._to_map((counts - clean) / self._loss(label)[2])

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

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per class and patch: class, ky, kx (of the patch's middle), radius, count, increases, interval."""
        middle = patches(self.shape[1:], self.size, self.patch)[0] * self.patch
        rows: list[dict[str, Any]] = []
        for label in self.classes.tolist():
            total, squares, count = self._loss(label)
            wrong, clean = self.wrong_counts(label)
            columns: dict[str, Any] = {"class": label, "ky": middle[:, 0], "kx": middle[:, 1]}
            columns |= {"radius": fourier.radius(middle, self.shape[1:]), "count": count}
            columns["loss_increase"] = total / count
            columns["loss_increase_low"], columns["loss_increase_high"] = statistics.student_interval(
                total, squares, count
            )
            columns["error_increase"] = (wrong - clean) / count
            rows += tables.from_columns(columns)
        return rows

    def summary(self) -> list[dict[str, Any]]:
        """In short: one row per class with the frequency whose removal raises the loss most."""
        middle = patches(self.shape[1:], self.size, self.patch)[0] * self.patch
        rows = []
        for label in self.classes.tolist():
            total, squares, count = self._loss(label)
            best = int(total.argmax())
            low, high = statistics.student_interval(total[best], squares[best], count)
            row: dict[str, Any] = {"class": label, "images": count}
            row |= {"clean error": self.wrong_counts(label)[1] / count}
            row |= {"ky": int(middle[best, 0]), "kx": int(middle[best, 1])}
            row |= {"loss increase": float(total[best] / count)}
            rows.append(row | {"loss increase_low": float(low), "loss increase_high": float(high)})
        return rows

    def headline(self) -> str:
        """The frequency whose removal raises the loss of all images most."""
        total, _, count = self._loss(None)
        best = int(total.argmax())
        ky, kx = patches(self.shape[1:], self.size, self.patch)[0][best] * self.patch
        return f"loss rises most, by {total[best] / count:.3g}, without ({ky}, {kx}); {len(self.classes)} classes"

    @classmethod
    def from_format_1(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> DominantFrequencies:
        """What version 0.1 wrote: counts by class, without outcomes by image.

        Which image was wrong is not known: ids are negative, so that they are nobody's, and labels and outcomes stand
        in any order that gives the counts of every class. Two such files do not merge.
        """
        count, ids = arrays["class_count"], arrays["image_ids"]
        place = np.arange(len(ids)) - np.repeat(np.cumsum(count) - count, count)  # of an image in its class
        return cls(
            **cls._of_format_1(header, np.arange(-len(ids), 0)),
            size=tuple(header["size"]),
            patch=int(header["patch"]),
            labels=np.repeat(arrays["classes"], count),
            wrong=Outcomes.of(place < np.repeat(arrays["wrong"], count, axis=0).T),
            clean_wrong=place < np.repeat(arrays["clean_wrong"], count),
            classes=arrays["classes"],
            loss_sum=ExactSum.of(arrays["loss_sum"]),
            loss_squares=ExactSum.of(arrays["loss_squares"]),
            clean_loss=ExactSum.of(arrays["clean_loss"]),
        )
