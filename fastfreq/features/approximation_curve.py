"""How few numbers of a fixed frame give an image again: best n-term approximation, and its rate."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from numpy.typing import NDArray

from fastfreq.engine.images import Chunk
from fastfreq.engine.measure import measure_images
from fastfreq.engine.measurement import Measurement
from fastfreq.engine.run import RunOptions
from fastfreq.engine.session import Session
from fastfreq.results import tables
from fastfreq.results.folds import by_image, condition, same
from fastfreq.results.result import ImagesResult
from fastfreq.vocabulary import numbers, statistics

from . import frames

FloatArray = NDArray[np.float64]
_FITTED = (1 / 2621, 1 / 131)  # of an image's numbers: 100 and 2,000 of 512 x 512
_COUNTS = 25


@dataclasses.dataclass(frozen=True)
class ApproximationRate:
    """A power law fitted to errors: error = constant / n^alpha.

    Attributes:
        alpha: mean of the images' exponents of the squared error.
        low: lower end of its 95 % interval over images; NaN for a single image.
        high: upper end.
        images: whose exponents there are: those without an error in the range have none.
        lowest: fewest terms fitted.
        highest: most terms fitted.
    """

    alpha: float
    low: float
    high: float
    images: int
    lowest: int
    highest: int


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ApproximationCurve(ImagesResult, kind="approximation_curve"):
    """Errors of images approximated by few terms of a frame.

    Attributes:
        shape: (c, h, w) of the images.
        frame: "fourier", "wavelet db4" ..., "curvelet".
        counts: (k,) real numbers kept, of all channels together, ascending.
        errors: (k, n) mean over pixels and channels of the squared error, image by image.
    """

    SHAPES: ClassVar[dict[str, str]] = {"counts": "k", "errors": "k n"}

    shape: tuple[int, int, int] = same()
    frame: str = same()
    counts: NDArray[np.int64] = condition()
    errors: FloatArray = by_image(conditions=0)

    def _check_shapes(self) -> None:
        super()._check_shapes()
        if self.errors.shape != (len(self.counts), self.n_images):
            raise ValueError(f"expected `errors` of shape {(len(self.counts), self.n_images)}, got {self.errors.shape}")

    @property
    def error(self) -> FloatArray:
        """(k,) mean over images."""
        return self.errors.mean(axis=1)

    def interval(self, *, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """(low, high) of `error` over images: Student's, at least 0; NaN for a single image."""
        low, high = statistics.student_interval(
            self.errors.sum(axis=1), np.square(self.errors).sum(axis=1), self.n_images, confidence=confidence
        )
        return np.maximum(low, 0), high

    def rate(self, *, lowest: int | None = None, highest: int | None = None) -> ApproximationRate:
        """The exponent alpha of squared error = constant / n^alpha: least squares of log error on log n, by image.

        Theory, for pictures that are smooth but for edges that are smooth curves: 1/2 for Fourier, 1 for wavelets, 2
        (up to log^3 n) for curvelets.

        Args:
            lowest: fewest terms fitted; None for 1 / 2,621 of the image's numbers, 100 of 512 x 512.
            highest: most terms fitted; None for 1 / 131 of them, 2,000 of 512 x 512.

        Raises:
            ValueError: fewer than three counts in the range, or no image with an error there.

        Source: DeVore 1998, section 5 for the theory; Candes, Donoho 2004 for curvelets.
        """
        size = math.prod(self.shape)
        lowest = max(1, round(_FITTED[0] * size)) if lowest is None else numbers.as_int("lowest", lowest)
        highest = round(_FITTED[1] * size) if highest is None else numbers.as_int("highest", highest)
        chosen = (self.counts >= lowest) & (self.counts <= highest)
        if chosen.sum() < 3:
            raise ValueError(
                f"expected at least three of the counts from {lowest} to {highest} terms to fit a rate to, got "
                f"{chosen.sum()}; widen `lowest` and `highest`, or measure at more `counts`"
            )
        errors = self.errors[chosen]
        errors = errors[:, (errors > 0).all(axis=0)]
        if not errors.shape[1]:
            raise ValueError("expected an image with an error to fit a rate to, all images are exact in this range")
        x = np.log(self.counts[chosen])
        weight = (x - x.mean()) / np.square(x - x.mean()).sum()
        alphas = -(weight @ np.log(errors))
        low, high = (float(v) for v in statistics.student_interval(alphas.sum(), (alphas**2).sum(), len(alphas)))
        fitted = self.counts[chosen]
        return ApproximationRate(float(alphas.mean()), low, high, len(alphas), int(fitted[0]), int(fitted[-1]))

    def table(self) -> list[dict[str, Any]]:
        """One row per count: terms, mean squared error with its interval."""
        low, high = self.interval()
        columns = {"terms": self.counts, "images": np.full(len(self.counts), self.n_images), "error": self.error}
        return tables.from_columns(columns | {"error_low": low, "error_high": high})

    def summary(self) -> list[dict[str, Any]]:
        """In short, one row: frame, images, the rate where there is one."""
        row: dict[str, Any] = {"frame": self.frame, "images": self.n_images}
        try:
            rate = self.rate()
        except ValueError:
            return [row]
        return [{**row, "alpha": rate.alpha, "alpha_low": rate.low, "alpha_high": rate.high}]

    def headline(self) -> str:
        """The rate."""
        try:
            rate = self.rate()
        except ValueError as error:
            return f"no rate: {error}".partition(";")[0]
        alpha = f"{rate.alpha:.3f} [{rate.low:.3f}, {rate.high:.3f}]"
        return f"{self.frame}: squared error falls as 1 / n^alpha, alpha {alpha}"


def approximation_curve(
    images: Any,
    *,
    frame: str = "fourier",
    wavelet: str | None = None,
    counts: Sequence[int] | None = None,
    **run: Unpack[RunOptions],
) -> ApproximationCurve:
    """Best n-term approximation: the error that the n largest coefficients of a fixed frame leave, for many n.

    In an orthonormal basis it is the sum of squares of the other coefficients (Parseval), in float64. A term is one
    real number; those of all channels of an image compete.

    Args:
        images: (n, c, h, w) tensor or array, float in [0, 1] or uint8; or an iterable of such batches.
        frame: "fourier", the real orthonormal Fourier basis; "wavelet", a periodic orthonormal one, for even sides;
            "curvelet", uniform discrete curvelets, a tight frame: the largest coefficients and what the adjoint
            makes of them.
        wavelet: name of an orthogonal wavelet of PyWavelets; None for "db4".
        counts: numbers of terms, ascending; None for 25 from 1 / 26,214 to 1 / 64 of the image's numbers.
        **run: `RunOptions` but those of models: batch_size, device, first_image, shard, checkpoint, progress.

    Returns:
        An ApproximationCurve: `.error`, `.interval()`, `.rate()`, `.plot()`; `a + b` merges shards.

    Raises:
        ValueError: no images, bad pixels, another frame or wavelet, counts beyond the image's numbers, or sides that
            the frame cannot divide.
        TypeError: images of another type, or an option of models.
        ImportError: the library that has the frame is not installed.

    Source: DeVore 1998; Candes, Donoho 2004.
    """
    return measure_images(_Approximation(frame, wavelet, counts), images, run)


class _Approximation(Measurement):
    """Image by image, in float64."""

    result, label, needs_labels = ApproximationCurve, "approximation", False

    def __init__(self, frame: str, wavelet: str | None, counts: Sequence[int] | None) -> None:
        self._kind, self._wavelet, self._asked = frame, wavelet, counts

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """As in `Measurement`."""
        self._frame, self._size = frames.named(self._kind, shape[1:], name=self._wavelet), math.prod(shape)
        asked = self._asked
        if asked is None:
            asked = np.unique(
                np.geomspace(max(1, self._size / 26214), max(2, self._size / 64), _COUNTS).round()
            ).astype(int)
        self._counts = numbers.ascending("counts", asked, numbers.as_int)
        if self._counts[0] < 0 or self._counts[-1] > self._size:
            raise ValueError(f"expected `counts` from 0 to the {self._size} numbers of an image, got {[*self._counts]}")
        return {"shape": shape, "frame": self._frame.name, "counts": np.array(self._counts, np.int64)}

    def passes(self, shape: tuple[int, int, int]) -> float:
        """As in `Measurement`."""
        return 1

    def batch_size(self, shape: tuple[int, int, int], device: torch.device) -> int | None:
        """As in `Measurement`."""
        return max(1, min(64, (1 << 22) // math.prod(shape)))

    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        """As in `Measurement`."""
        found = []
        for image in chunk.images.cpu():  # NaN was refused where the images were read
            found.append(self._frame.errors(image.double(), self._counts))
            session.advance(1)
        return {"errors": torch.stack(found, dim=1).numpy() / self._size}
