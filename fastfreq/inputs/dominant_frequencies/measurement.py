"""Class-wise dominant frequencies: how much the loss grows when a frequency is removed from the images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastfreq.engine.images import Chunk
from fastfreq.engine.measure import measure
from fastfreq.engine.measurement import Measurement
from fastfreq.engine.run import RunOptions
from fastfreq.engine.session import Session
from fastfreq.results.folds import Outcomes
from fastfreq.vocabulary import checks, fourier, metrics, numbers
from fastfreq.vocabulary.sums import ExactSum

from .result import DominantFrequencies, patches


def dominant_frequencies(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    size: int | tuple[int, int] | None = None,
    patch: int = 1,
    **run: Unpack[RunOptions],
) -> DominantFrequencies:
    """Measure, class by class, how much the loss grows when each frequency is removed from the images.

    For every distinct frequency k of the map the network sees x - x_k, where x_k holds the coefficients of x at k
    and -k alone, and the increase of the cross entropy is averaged over the images of each true class. Frequencies
    are removed from what the network sees (after normalisation, as in the authors' code): removing zero frequency
    leaves the mean colour of the training images. Nothing is clipped. Each image is decoded and transformed once.

    Args:
        model: as for `heatmap`.
        images: as for `heatmap`.
        labels: as for `heatmap`.
        size: side, or (rows, columns), of the centred map; None for all h x w frequencies.
        patch: width of the square of frequencies that is removed at a time, together with its mirror image.
        **run: `RunOptions`: precision (Fourier transforms are float32), batch_size, device, shard, checkpoint,
            progress and more.

    Returns:
        A DominantFrequencies: `.loss_increase(label)`, `.dominant(label)`, `.plot()`.

    Raises:
        ValueError: a bad argument; the message says what was expected, what came and the way out.
        TypeError: an argument of the wrong type, or a model whose output holds no logits.
        FloatingPointError: logits that are NaN or infinite.

    Source: Wang, Veldhuis, Brune, Strisciuglio 2023, "What do neural networks learn in image classification? A
        frequency shortcut perspective" (ICCV), section 3.
    """
    what = _DominanceMeasurement(size=size, patch=numbers.as_int("patch", patch))
    return measure(what, model, images, labels, run)


class _DominanceMeasurement(Measurement):
    """Every patch removed from every image."""

    result, label, clean_first = DominantFrequencies, "frequencies", True

    def __init__(self, *, size: int | tuple[int, int] | None, patch: int) -> None:
        self._size, self._patch = size, patch
        self.metrics = metrics.resolve(("loss",))

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """As in `Measurement`."""
        size = checks.check_size(self._size, shape[1:])
        if not 1 <= self._patch <= max(size):
            raise ValueError(f"expected a `patch` from 1 to the map's {max(size)}, got {self._patch}")
        self._half, self._count = _half_plane(shape[1:], size, self._patch)
        return {"size": size, "patch": self._patch}

    def passes(self, shape: tuple[int, int, int]) -> float:
        """As in `Measurement`."""
        return 1 + self._count

    def start(self, session: Session) -> None:
        """As in `Measurement`."""
        self._owner = torch.from_numpy(self._half).to(session.device)

    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        """As in `Measurement`."""
        clean = session.clean(chunk, measured=self.metrics)
        network = session.network
        mean = None if network.mean is None else network.mean[:, None, None]
        spectrum = torch.fft.rfft2(chunk.images if mean is None else chunk.images - mean)
        shape = session.shape[1:]

        def make(part: slice, rows: slice, each: int) -> Iterator[Tensor]:
            for start in range(rows.start, rows.stop, each):
                number = torch.arange(start, min(rows.stop, start + each), device=session.device)
                mask = (self._owner == number[:, None, None])[:, None, None]
                removed = torch.fft.irfft2(spectrum[part] * mask, s=shape)
                yield network.clean_batch((chunk.images[part] - removed).flatten(0, 1))

        def describe(row: int) -> str:
            return f"patch {row} removed"

        seen = session.outcomes(chunk, self._count, make, measured=self.metrics, describe=describe)
        before = clean.values["loss"][0]
        more = (seen.values["loss"] - before).T  # (n, g)
        labels = chunk.labels.cpu()
        classes = np.unique(labels.numpy())
        return {
            "wrong": Outcomes.of(seen.wrong(labels)),
            "clean_wrong": clean.wrong(labels)[0],
            "classes": classes,
            "loss_sum": ExactSum.by_class(more, labels, classes),
            "loss_squares": ExactSum.by_class(more.square(), labels, classes),
            "clean_loss": ExactSum.by_class(before, labels, classes),
        }


def _half_plane(shape: tuple[int, int], size: tuple[int, int], patch: int) -> tuple[NDArray[np.int64], int]:
    """Patch number, from 0, of each bin (h, w // 2 + 1) of a real FFT, -1 outside the map; and how many patches."""
    h, w = shape
    frequencies, _ = fourier.unique_frequencies(shape, size)
    tiles, patch_of = patches(shape, size, patch)
    half = np.full((h, w // 2 + 1), -1, dtype=np.int64)
    for each in (frequencies, -frequencies):  # the first and last column hold both a frequency and its twin
        row, column = each[:, 0] % h, each[:, 1] % w
        inside = column <= w // 2
        half[row[inside], column[inside]] = patch_of[inside]
    return half, len(tiles)
