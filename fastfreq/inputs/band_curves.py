"""Accuracy over bandwidths of a family of masks: what `filter_curve` and `noise_curve` share."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fastfreq.engine.images import Chunk
from fastfreq.engine.measurement import Measurement
from fastfreq.engine.session import Session
from fastfreq.results import tables
from fastfreq.results.folds import Outcomes, condition, same, summed
from fastfreq.results.metrics_result import MetricsResult
from fastfreq.vocabulary import masks, metrics
from fastfreq.vocabulary.metrics import Metric
from fastfreq.vocabulary.sums import ExactSum

FloatArray = NDArray[np.float64]

# of network input made in one call: all bands of an image together, as they share its transform. On two cores a curve
# of ResNet-18 at 224 x 224 took 3 % longer with 24 MiB (median of four pairs)
_AHEAD_BYTES = 64 << 20
_SAMPLE = 32  # the distance to the original is measured on images whose id is a multiple of this


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class BandCurve(MetricsResult):
    """Accuracy of a classifier over bandwidths of a filter, or of the noise added to its input.

    ``a + b`` merges shards: other images at the same bandwidths, or other bandwidths on the same images.

    Attributes:
        mask: name of the family of masks, see `fastfreq.vocabulary.masks`; "custom-..." for masks of the caller.
        clip: whether pixels were clipped to [0, 1].
        bandwidths: (b,) in the family's unit, ascending; indices of custom masks.
        labels, wrong, clean_wrong, sums, clean_sums: as in `MetricsResult`; conditions are bandwidths.
        distances: (b, 2) sum over sampled images and channels of ||altered - image||, and their number.
    """

    SHAPES: ClassVar[dict[str, str]] = {"bandwidths": "m", "distances": "m 2"}

    mask: str = same()
    clip: bool = same()
    bandwidths: FloatArray = condition()
    distances: ExactSum = summed(conditions=0)

    # ---------------------------------------------------------------- figures
    @property
    def correct(self) -> NDArray[np.bool_]:
        """(b, n) where the altered image was classified correctly."""
        return ~self.wrong.unpack()

    @property
    def accuracy(self) -> FloatArray:
        """(b,) top-1 accuracy in 0 .. 1."""
        return 1 - self.wrong_counts / self.n_images

    @property
    def error(self) -> FloatArray:
        """(b,) top-1 error in 0 .. 1."""
        return self.metric("error")

    @property
    def clean_accuracy(self) -> float:
        """Top-1 accuracy on the images as they are."""
        return 1 - float(self.clean_wrong.mean())

    @property
    def low(self) -> FloatArray:
        """(b,) lower end of the 95 % Wilson interval of `accuracy`."""
        return 1 - self.interval("error")[1]

    @property
    def high(self) -> FloatArray:
        """(b,) upper end of the 95 % Wilson interval of `accuracy`."""
        return 1 - self.interval("error")[0]

    def metric(self, name: str) -> FloatArray:
        """(b,) mean of a metric over images."""
        return self._mean(name)

    def interval(self, metric: str = "error", *, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """(low, high), each (b,), of a metric: Wilson for 0/1 metrics, Student's for means such as the loss."""
        return self._interval(metric, confidence)

    @property
    def distance(self) -> FloatArray:
        """(b,) mean L2 distance per channel between altered images and their originals, over a sample of images.

        For noise the norm that clipping left of it. NaN where no image was sampled.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            total, count = self.distances.value.T
            return total / count

    @property
    def axis(self) -> str:
        """What the bandwidths are, as it stands on an axis."""
        return masks.MASKS[self.mask].axis if self.mask in masks.MASKS else "mask"

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per bandwidth: count, accuracy with its interval, every metric with its own, distance."""
        columns: dict[str, Any] = {"bandwidth": self.bandwidths, "count": np.full(len(self.bandwidths), self.n_images)}
        columns |= {"accuracy": self.accuracy, "accuracy_low": self.low, "accuracy_high": self.high}
        columns["clean_accuracy"] = self.clean_accuracy
        columns |= self._metric_columns()
        columns["distance"] = self.distance
        return tables.from_columns(columns)

    def summary(self) -> list[dict[str, Any]]:
        """In short: one row per bandwidth with the accuracy, every other metric, and the distance."""
        columns: dict[str, Any] = {self.axis: self.bandwidths}
        columns |= {"accuracy": self.accuracy, "accuracy_low": self.low, "accuracy_high": self.high}
        for name in self.sums:
            columns[name] = self.metric(name)
            columns[f"{name}_low"], columns[f"{name}_high"] = self.interval(name)
        return tables.from_columns(columns | {"L2 distance per channel": self.distance})

    def headline(self) -> str:
        """Range of the accuracy, and that of the images as they are."""
        accuracy = self.accuracy
        return f"accuracy {accuracy.min():.3f} to {accuracy.max():.3f}, of whole images {self.clean_accuracy:.3f}"

    @classmethod
    def fields_of_format_1(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
        """What version 0.1 wrote, as fields."""
        sums = {
            kind: {name: ExactSum.of(arrays[f"{kind}/{i}"]) for i, name in enumerate(header["metrics"])}
            for kind in ("sums", "clean_sums")
        }
        ids = arrays["image_ids"]
        return {
            **MetricsResult._of_format_1(header, ids),
            "mask": header["mask"],
            "clip": bool(header["clip"]),
            "wrong": Outcomes(arrays["wrong"], len(ids)),
            "distances": ExactSum.of(arrays["distances"]),
            **{name: arrays[name] for name in ("bandwidths", "labels", "clean_wrong")},
            **sums,
        }


# (images, masks (b, h, w), layout as for `kernels.filter_bands`) -> (b, n, c, h, w)
Alter = Callable[..., Tensor]


class BandMeasurement(Measurement):
    """Every mask on every image.

    Args:
        alter: what is done to images.
        kind: name of a family of masks, or masks (b, h, w).
        bandwidths: of the family; None for its usual ones.
        clip: to [0, 1].
        named: metrics besides the top-1 error.
        asked: other settings, as they stand in the result.
    """

    def __init__(
        self,
        alter: Alter,
        *,
        kind: str | ArrayLike,
        bandwidths: Sequence[float] | None,
        clip: bool,
        named: Sequence[str] | Mapping[str, str | Metric],
        asked: dict[str, Any],
    ) -> None:
        self._alter, self._kind, self._bandwidths, self._clip, self._asked = alter, kind, bandwidths, clip, asked
        self.metrics = metrics.resolve(named)

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """As in `Measurement`."""
        name, bandwidths, self._masks = _masks(self._kind, self._bandwidths, shape[1:])
        return {"mask": name, "bandwidths": bandwidths, "clip": self._clip, **self._asked}

    def keys(self) -> dict[str, list[str]]:
        """As in `Measurement`."""
        return {"sums": list(self.metrics)}

    def passes(self, shape: tuple[int, int, int]) -> float:
        """As in `Measurement`."""
        return 1 + len(self._masks)

    def start(self, session: Session) -> None:
        """As in `Measurement`."""
        self._kept = torch.from_numpy(self._masks).to(session.device)

    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        """As in `Measurement`."""
        clean = session.clean(chunk, measured=self.metrics)
        network = session.network

        def make(part: slice, rows: slice, each: int) -> tuple[Tensor, ...]:
            some = chunk.part(part)
            altered = self._alter(
                some,
                self._kept[rows],
                clip=self._clip,
                **network.takes,
            )
            return altered.flatten(0, 1).split(each * len(some))

        seen = session.outcomes(
            chunk,
            len(self._kept),
            make,
            measured=self.metrics,
            clean=clean.predicted[0].to(session.device),
            describe="under mask {}".format,
            ahead=_AHEAD_BYTES,
        )
        return {
            "wrong": Outcomes.of(seen.wrong(chunk.labels)),
            "clean_wrong": clean.wrong(chunk.labels)[0],
            "sums": {name: metrics.moments([seen.values[name]], m) for name, m in self.metrics.items()},
            "clean_sums": {name: metrics.moments([clean.values[name]], m)[0] for name, m in self.metrics.items()},
            "distances": self._distances(chunk),
        }

    def _distances(self, chunk: Chunk) -> ExactSum:
        """||altered - image|| of a sample, over channels, before normalisation."""
        some = chunk.part(chunk.ids % _SAMPLE == 0)
        shape = len(self._kept), len(some) * chunk.images.shape[1]
        lengths = torch.zeros(shape, dtype=torch.float64, device=chunk.images.device)
        for row, mask in enumerate(self._kept.split(1)) if len(some) else ():
            altered = self._alter(some, mask, clip=self._clip)[0]
            lengths[row] = torch.linalg.vector_norm(altered - some.images, dim=(-2, -1)).flatten().double()
        count = np.full(len(lengths), float(lengths.shape[1]))
        return ExactSum.stack([ExactSum.of(lengths, axis=1), ExactSum.of(count)])


def _masks(
    kind: str | ArrayLike, bandwidths: Sequence[float] | None, shape: tuple[int, int]
) -> tuple[str, FloatArray, NDArray[np.bool_]]:
    """(name, bandwidths (b,) ascending, masks (b, h, w)) for images of `shape`."""
    if not isinstance(kind, str):
        given = masks.check_symmetric(kind, shape)
        wanted = np.arange(len(given)) if bandwidths is None else np.asarray(bandwidths, np.float64)
        if wanted.shape != (len(given),):
            raise ValueError(f"expected one bandwidth per mask ({len(given)}), got {len(wanted)}")
        order = _ascending(wanted)
        digest = hashlib.sha256(np.packbits(given).tobytes()).hexdigest()[:8]
        return f"custom-{digest}", wanted[order].astype(np.float64), given[order]
    family = masks.named(kind)
    chosen = masks.default_bandwidths(family.name, shape) if bandwidths is None else bandwidths
    wanted = np.asarray(chosen, np.float64)
    if wanted.ndim != 1 or not wanted.size or not np.isfinite(wanted).all():
        raise ValueError(f"expected a list of `bandwidths`, at least one, got {chosen!r}")
    wanted = wanted[_ascending(wanted)]
    return family.name, wanted, masks.stack(family.name, shape, wanted.tolist())


def _ascending(wanted: NDArray[Any]) -> NDArray[np.int64]:
    if len(np.unique(wanted)) != len(wanted):
        raise ValueError(f"expected different `bandwidths`, got some twice in {wanted.tolist()}")
    return np.argsort(wanted)
