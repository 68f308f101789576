"""Which frequencies images hold: their mean spectrum in one pass."""

from __future__ import annotations

import dataclasses
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from fastfreq.engine.images import Chunk
from fastfreq.engine.measure import measure_images
from fastfreq.engine.run import RunOptions
from fastfreq.engine.session import Session

from .spectra import Spectrum, SpectrumMeasurement, Statistic


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ImageSpectrum(Spectrum, kind="image_spectrum"):
    """Mean spectrum of images."""

    @property
    def subject(self) -> str:
        """What was transformed."""
        return "images"

    @classmethod
    def from_format_1(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Spectrum:
        """What version 0.1 wrote: spectra of images, of differences and of attacks as one kind."""
        fields, subject = cls.fields_of_format_1(header, arrays), header["subject"]
        if subject.startswith("difference by "):
            from .difference_spectrum import DifferenceSpectrum

            return DifferenceSpectrum(corruption=subject.removeprefix("difference by "), **fields)
        if subject.startswith("what ") and subject.endswith(" adds"):
            from .adversarial_spectrum import AdversarialSpectrum

            return AdversarialSpectrum(
                model=None,
                attack=fields["details"].get("attack", ""),
                attack_name=subject.removeprefix("what ").removesuffix(" adds"),
                labels=np.full(len(fields["image_ids"]), -1),
                **fields,
            )
        return cls(**fields)


def image_spectrum(
    images: Any, *, kind: Statistic = "magnitude", side: int | None = None, **run: Unpack[RunOptions]
) -> ImageSpectrum:
    """Mean spectrum of images: E|F(X)(k)| for every frequency k and every ring of frequencies, in one pass.

    F is the orthonormal 2-D DFT of each channel, in float32, or float64 for float64 images. Sums over images are exact,
    so that any number of images can be averaged and batches, order and shards change no bit.

    Args:
        images: (n, c, h, w) tensor or array, float in [0, 1] or uint8; or an iterable of such batches, alone or as
            (images, labels), read once.
        kind: "magnitude" for E|F|, as in Yin et al. 2019; "power" for E|F|^2.
        side: None for images of one shape: a map, and rings one cycle per shorter side wide. An integer for images of
            any sizes from it on: rings 1 / side cycles per pixel wide up to half a cycle per pixel, and no map.
        **run: `RunOptions` but those of models: batch_size, device, first_image, shard, checkpoint, progress.

    Returns:
        An ImageSpectrum: `.map`, `.radial()`, `.slope()`, `.plot()`; `a + b` merges shards.

    Raises:
        ValueError: no images, NaN, pixels outside [0, 1], sizes or channels that differ, or a `side` beyond them.
        TypeError: images of another type, or an option of models.

    Source: Yin et al. 2019, section 3 and Figure 2 (left).
    """
    return measure_images(_Images(kind, side), images, run)


class _Images(SpectrumMeasurement):
    """Images as they are."""

    result, label, as_given = ImageSpectrum, "spectrum of images", True

    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        """As in `Measurement`."""
        self.check_shape(chunk.images)
        sums = self.sums(chunk.images)
        session.advance(len(chunk))
        return sums
