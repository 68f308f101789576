"""Which frequencies a corruption changes: the mean spectrum of corrupted images minus their originals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Unpack

import torch
from torch import Tensor

from fastfreq.attacks import as_pixels, changed
from fastfreq.engine import sources
from fastfreq.engine.images import Chunk
from fastfreq.engine.measure import measure_images
from fastfreq.engine.run import RunOptions
from fastfreq.engine.session import Session
from fastfreq.results.folds import same

from .corruption_sources import CommonCorruption
from .spectra import Spectrum, SpectrumMeasurement, Statistic

Corruption = Callable[[Tensor], Any]


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DifferenceSpectrum(Spectrum, kind="difference_spectrum"):
    """Mean spectrum of what a corruption changes.

    Attributes:
        corruption: its name.
    """

    corruption: str = same()

    @property
    def subject(self) -> str:
        """What was transformed."""
        return f"difference by {self.corruption}"


def difference_spectrum(
    images: Any,
    corruption: Corruption | Any,
    *,
    name: str | None = None,
    kind: Statistic = "magnitude",
    side: int | None = None,
    **run: Unpack[RunOptions],
) -> DifferenceSpectrum:
    """Mean spectrum of what a corruption changes: E|F(C(X) - X)(k)|.

    Args:
        images: as for `image_spectrum`.
        corruption: a function of a float batch (n, c, h, w) in [0, 1] that returns a batch of the same shape; or the
            corrupted images themselves in the order of `images`, as a tensor, array or iterable of batches.
        name: of the corruption, kept with the result; None takes the function's. Results of two names do not merge:
            give two corruptions two names.
        kind: as for `image_spectrum`.
        side: as for `image_spectrum`.
        **run: `RunOptions` but those of models: batch_size, device, first_image, shard, checkpoint, progress. A random
            function depends on batches, unless it is a `common_corruption`. Corrupted images by themselves take no
            checkpoint, which could not tell them from others.

    Returns:
        A DifferenceSpectrum.

    Raises:
        ValueError: a corruption that returns another shape, NaN or infinity, or bytes as floats; too few or too many
            corrupted images; images that `image_spectrum` refuses.
        TypeError: images of another type, or an option of models.

    Source: Yin et al. 2019, section 3 and Figure 2.
    """
    if callable(corruption):
        given = None
        name = name or getattr(corruption, "__name__", type(corruption).__name__)
    else:
        if run.get("checkpoint") is not None:
            raise ValueError(
                "expected a function as `corruption` with `checkpoint`, which cannot tell corrupted images from "
                "others; leave `checkpoint` out, or use `shard` and save each result"
            )
        given = InStep(corruption, run.get("first_image", 0))
    whole = tuple(run.get("shard", (0, 1))) == (0, 1)
    what = _Difference(kind, side, corruption, given, name or "corruption", whole)
    return measure_images(what, images, run)


class InStep:
    """Corrupted images that come in the order of the clean ones, by id."""

    def __init__(self, corrupted: Any, first_image: int) -> None:
        self._batches: Iterator[Tensor] = (batch.images for batch in sources.batches(corrupted))
        self._next, self._waiting = first_image, torch.zeros(0)

    def take(self, ids: Tensor) -> Tensor:
        """Those of ascending ids, later ones than before.

        Raises:
            ValueError: there are fewer.
        """
        found = []
        while len(ids):
            rows = ids - self._next
            here = rows < len(self._waiting)
            if here.any():
                found.append(as_pixels(self._waiting[rows[here].to(self._waiting.device)]))
            ids = ids[~here]
            if len(ids):
                self._next += len(self._waiting)
                batch = next(self._batches, None)
                if batch is None:
                    raise ValueError(
                        f"expected as many corrupted images as `images`, got none for image {int(ids[0])}; are both "
                        f"read in the same order?"
                    )
                self._waiting = batch
        if len({tuple(images.shape[1:]) for images in found}) > 1:
            raise ValueError(
                f"expected corrupted images of the shape of `images`, got {[tuple(each.shape[1:]) for each in found]}"
            )
        return torch.cat(found)

    def check_spent(self, last: int) -> None:
        """Refuse corrupted images after that of the last id, which another rank may have taken.

        Raises:
            ValueError: there are some.
        """
        while self._next + len(self._waiting) <= last and (batch := next(self._batches, None)) is not None:
            self._next, self._waiting = self._next + len(self._waiting), batch
        if self._next + len(self._waiting) > last + 1 or any(map(len, self._batches)):
            raise ValueError(
                f"expected as many corrupted images as `images`, got some after image {last}; are both read in the "
                f"same order?"
            )


class _Difference(SpectrumMeasurement):
    """Corrupted images minus their originals."""

    result, label = DifferenceSpectrum, "spectrum of differences"

    def __init__(
        self, kind: str, side: int | None, corruption: Any, given: InStep | None, name: str, whole: bool
    ) -> None:
        super().__init__(kind, side)
        self._corruption, self._given, self._name, self._whole = corruption, given, name, whole

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """As in `Measurement`."""
        return {"corruption": self._name, **super().settings(shape)}

    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        """As in `Measurement`."""
        self.check_shape(chunk.images)
        pixels = as_pixels(chunk.images)
        sums = self.sums(changed(self._corrupted(chunk, pixels), pixels, f"corruption {self._name!r}") - pixels)
        session.advance(len(chunk))
        return sums

    def _corrupted(self, chunk: Chunk, pixels: Tensor) -> Any:
        if self._given is not None:
            return self._given.take(chunk.ids.cpu())
        if isinstance(self._corruption, CommonCorruption):
            return self._corruption.by_id(pixels, chunk.ids)
        with torch.inference_mode(False):
            return self._corruption(pixels.clone())  # its own to overwrite

    def finish(self, result: Spectrum) -> None:
        """As in `Measurement`."""
        if self._given is not None and self._whole:  # a shard does not know how many images there are
            self._given.check_spent(int(result.image_ids[-1]))
