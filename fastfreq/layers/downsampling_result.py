"""Which layers of a network could work on a coarser grid, what that loses and what time it saves."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastfreq.results import codec
from fastfreq.results.folds import same, text
from fastfreq.results.result import Result
from fastfreq.vocabulary import statistics


@codec.record
@dataclasses.dataclass(frozen=True)
class LayerDownsampling:
    """How coarse the grid of one layer's output may be.

    Energies are of the output about the mean of each channel, channels weighted as the batch norm after it does.

    Attributes:
        size: (d,) of the output.
        crop: (d,) smallest grid of the output's proportions whose frequencies hold the stated energy.
        losses: stride -> share 0 .. of the energy that is lost when the output is computed at every s-th pixel and
            interpolated; aliasing included, so that it can be twice what a crop to that grid loses.
        stride: the largest with a loss of at most 1 - energy; 1 if none.
        multiply_adds: of the layer, per image.
        coarse_multiply_adds: the same at `stride`, interpolation included.
    """

    size: tuple[int, ...]
    crop: tuple[int, ...]
    losses: dict[int, float]
    stride: int
    multiply_adds: int
    coarse_multiply_adds: int

    @property
    def pays(self) -> bool:
        """Whether `stride` saves multiplications, so that it is applied."""
        return self.coarse_multiply_adds < self.multiply_adds


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Downsampling(Result, kind="downsampling"):
    """Where a network can be down-sampled, and what it does to its accuracy and its time on real images.

    Attributes:
        model: class of the model.
        input_size: (c, ...) of the images.
        energy: share of each layer's output energy that is to be kept.
        layers: by name, in order of execution.
        correct: (n,) whether the model is right about each image.
        coarse_correct: (n,) the same with all strides that pay applied.
        seconds: (r, 2) of a forward pass over one batch, before and after, in turn.
        batch: images in that batch.
        skipped: (name, reason) of convolutions that were left out.
    """

    SHAPES: ClassVar[dict[str, str]] = {"correct": "n", "coarse_correct": "n", "seconds": "_ 2"}

    model: str = same()
    input_size: tuple[int, ...] = same()
    energy: float = same()
    layers: dict[str, LayerDownsampling] = same()
    correct: NDArray[np.bool_] = same()
    coarse_correct: NDArray[np.bool_] = same()
    seconds: NDArray[np.float64] = same()
    batch: int = same()
    skipped: tuple[tuple[str, str], ...] = text(())

    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.correct)

    @property
    def strides(self) -> dict[str, int]:
        """What `downsampled` applies: layer -> stride, where it pays."""
        return {name: layer.stride for name, layer in self.layers.items() if layer.stride > 1 and layer.pays}

    @property
    def accuracy(self) -> tuple[float, float, float]:
        """(share right before, low, high), a 95 % Wilson interval."""
        return _share(self.correct)

    @property
    def coarse_accuracy(self) -> tuple[float, float, float]:
        """(share right after, low, high), a 95 % Wilson interval."""
        return _share(self.coarse_correct)

    @property
    def difference(self) -> tuple[float, float, float]:
        """(accuracy after - accuracy before, low, high) on the same images, a 95 % paired interval (Agresti, Min)."""
        lost, won = self._discordant
        low, high = statistics.paired_difference_interval(lost, won, len(self.correct))
        return (won - lost) / len(self.correct), float(low), float(high)

    @property
    def p_value(self) -> float:
        """Exact McNemar p-value of before against after."""
        return float(statistics.mcnemar(*self._discordant))

    @property
    def _discordant(self) -> tuple[int, int]:
        return int((self.correct & ~self.coarse_correct).sum()), int((~self.correct & self.coarse_correct).sum())

    @property
    def time_ratio(self) -> tuple[float, float, float]:
        """(median, smallest, largest) of seconds after / seconds before over the rounds."""
        ratios = self.seconds[:, 1] / self.seconds[:, 0]
        return float(np.median(ratios)), float(ratios.min()), float(ratios.max())

    @property
    def multiply_add_ratio(self) -> float:
        """Multiplications of all convolutions after / before."""
        before = sum(layer.multiply_adds for layer in self.layers.values())
        saved = sum(self.layers[n].multiply_adds - self.layers[n].coarse_multiply_adds for n in self.strides)
        return 1 - saved / before if before else math.nan

    def table(self) -> list[dict[str, Any]]:
        """One row per layer: layer, size, crop, stride, applied, losses by stride, both numbers of multiplications."""
        return [
            {
                "layer": name,
                "size": layer.size,
                "crop": layer.crop,
                "stride": layer.stride,
                "applied": name in self.strides,
                **{f"loss_{stride}": loss for stride, loss in layer.losses.items()},
                "multiply_adds": layer.multiply_adds,
                "coarse_multiply_adds": layer.coarse_multiply_adds,
            }
            for name, layer in self.layers.items()
        ]

    def summary(self) -> list[dict[str, Any]]:
        """In short: the layers that are applied, at most 40."""
        rows = self.table()
        return ([row for row in rows if row["applied"]] or rows)[:40]

    def headline(self) -> str:
        """How many layers, and what it does to accuracy."""
        (before, *_), (after, *_) = self.accuracy, self.coarse_accuracy
        return (
            f"{len(self.strides)} of {len(self.layers)} layers on a coarser grid, accuracy {before:.3f} to {after:.3f}"
        )

    def in_words(self) -> str:
        """What applying it does, in two sentences."""
        (before, *first), (after, *second), (gain, *both) = self.accuracy, self.coarse_accuracy, self.difference
        ratio, low, high = self.time_ratio
        return (
            f"{len(self.strides)} of {len(self.layers)} layers on a coarser grid, each losing at most "
            f"{1 - self.energy:.3g} of its energy. Accuracy {before:.3f} [{first[0]:.3f}, {first[1]:.3f}] becomes "
            f"{after:.3f} [{second[0]:.3f}, {second[1]:.3f}], difference {gain:+.3f} [{both[0]:+.3f}, {both[1]:+.3f}] "
            f"on the same {len(self.correct)} images, p = {self.p_value:.2g}; time {ratio:.2f} ({low:.2f} to "
            f"{high:.2f}) and multiplications {self.multiply_add_ratio:.2f} of what they were."
        )

    @classmethod
    def from_format_1(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Downsampling:
        """What version 0.1 wrote."""
        return cls(
            details={"model": header["model"]},
            model=header["model"],
            input_size=tuple(header["input_size"]),
            energy=header["energy"],
            layers={name: _layer(own) for name, own in header["layers"]},
            batch=header["batch"],
            skipped=tuple((name, reason) for name, reason in header["skipped"]),
            **{name: arrays[name] for name in ("correct", "coarse_correct", "seconds")},
        )


def _layer(own: dict[str, Any]) -> LayerDownsampling:
    sizes = {name: tuple(own[name]) for name in ("size", "crop")}
    return LayerDownsampling(**{**own, **sizes, "losses": {int(s): loss for s, loss in own["losses"].items()}})


def _share(correct: NDArray[np.bool_]) -> tuple[float, float, float]:
    low, high = statistics.wilson(correct.sum(), len(correct))
    return float(correct.mean()), float(low), float(high)
