"""Which frequencies images hold, and which ones a corruption changes: mean spectra in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import fastfreq_kernels as kernels
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fastfreq.core.image_spectra import KINDS, Kind, SpectrumResult
from fastfreq.vocabulary import checks

_PIXELS = 1 << 26  # transformed in one call: bounds the memory of a large tensor's spectrum on a GPU
_LARGEST = 8.0  # pixels of [0, 1] with any noise added stay below; bytes cast to floats do not

Corruption = Callable[[Tensor], Any]


def image_spectrum(
    images: Any,
    *,
    kind: Kind = "magnitude",
    side: int | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> SpectrumResult:
    """Mean spectrum of images: E|F(X)(k)| for every frequency k and every ring of frequencies, in one pass.

    F is the orthonormal 2-D DFT of each channel. Sums over images are float64, so that any number of images can be
    averaged and batches do not matter.

    Args:
        images: (n, c, h, w) tensor or array, float in [0, 1] or uint8; or an iterable of such batches, alone or as
            (images, labels), read once.
        kind: "magnitude" for E|F|, as in Yin et al. 2019; "power" for E|F|^2.
        side: None for images of one shape: a map, and rings one cycle per shorter side wide. An integer for images of
            any sizes from it on: rings 1 / side cycles per pixel wide up to half a cycle per pixel, and no map.
        device: where to transform; None for where the images are.
        progress: show a progress bar.

    Returns:
        A SpectrumResult: `.map`, `.radial()`, `.slope()`, `.plot()`; `a + b` merges shards.

    Raises:
        ValueError: no images, NaN, pixels outside [0, 1], sizes or channels that differ, or a `side` beyond them.
        TypeError: images of another type.

    Source: Yin et al. 2019, section 3 and Figure 2 (left).
    """
    sums = SpectrumSums(kind, "images", side)
    for batch in tqdm(_batches(images), unit="batch", desc="spectrum", disable=not progress):
        sums.add(batch if device is None else batch.to(device))
    return sums.result()


def difference_spectrum(
    images: Any,
    corruption: Corruption | Any,
    *,
    name: str | None = None,
    kind: Kind = "magnitude",
    side: int | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> SpectrumResult:
    """Mean spectrum of what a corruption changes: E|F(C(X) - X)(k)|.

    Args:
        images: as for `image_spectrum`.
        corruption: a function of a float batch (n, c, h, w) in [0, 1] that returns a batch of the same shape; or the
            corrupted images themselves in the order of `images`, as a tensor, array or iterable of batches.
        name: of the corruption, kept with the result; None takes the function's.
        kind: as for `image_spectrum`.
        side: as for `image_spectrum`.
        device: where to corrupt and transform; None for where the images are.
        progress: show a progress bar.

    Returns:
        A SpectrumResult of the differences.

    Raises:
        ValueError: a corruption that returns another shape, NaN or infinity, or bytes as floats; too few corrupted
            images; images that `image_spectrum` refuses.
        TypeError: images of another type.

    Source: Yin et al. 2019, section 3 and Figure 2.
    """
    function: Corruption | None = corruption if callable(corruption) else None
    if name is None:
        name = "corruption" if function is None else getattr(function, "__name__", type(function).__name__)
    sums = SpectrumSums(kind, f"difference by {name}", side)
    clean = _batches(images)
    pairs = zip(clean, _in_step(corruption), strict=True) if function is None else ((x, None) for x in clean)
    try:
        for batch, given in tqdm(pairs, unit="batch", desc="spectrum", disable=not progress):
            pixels = as_pixels(batch if device is None else batch.to(device))
            corrupted = given if function is None else function(pixels.clone())
            sums.add(changed(corrupted, pixels, f"corruption {name!r}") - pixels)
    except ValueError as error:
        if "zip()" in str(error):
            raise ValueError(
                "expected as many batches of corrupted images as of `images`, got fewer or more; "
                "are both read in the same order and batch size?"
            ) from error
        raise
    return sums.result()


def as_pixels(images: Tensor) -> Tensor:
    """Pixels in [0, 1] as floats."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def changed(output: Any, pixels: Tensor, what: str) -> Tensor:
    """What a corruption or attack made of `pixels`, checked: the same shape, finite, in units of [0, 1].

    Raises:
        ValueError: anything else.
    """
    out = torch.as_tensor(output)
    if out.shape != pixels.shape:
        raise ValueError(
            f"expected {what} to return images of shape {tuple(pixels.shape)}, got {tuple(out.shape)}; "
            f"a difference needs the same images at the same size"
        )
    out = as_pixels(out.to(pixels.device))
    if not torch.isfinite(out).all():
        raise ValueError(f"expected {what} to return finite pixels, got NaN or infinity")
    if out.numel() and float(out.abs().max()) > _LARGEST:
        raise ValueError(
            f"expected {what} to return pixels in units of [0, 1], got values up to {float(out.abs().max()):.4g}; "
            f"divide by 255, or return uint8"
        )
    return out


def _in_step(corrupted: Any) -> Iterator[Tensor]:
    return ((_first(batch)) for batch in _iterable(corrupted, "corrupted images"))


def _batches(images: Any) -> Iterator[Tensor]:
    """Checked batches of images."""
    for item in _iterable(images, "images"):
        batch = _first(item)
        checks.check_images(batch)
        if len(batch):
            yield batch


def _iterable(images: Any, name: str) -> Iterable[Any]:
    if isinstance(images, (Tensor, np.ndarray)):
        return [images]
    if isinstance(images, Iterable):
        return images
    raise TypeError(
        f"expected {name} as a tensor, an array or an iterable of batches, got {type(images).__name__}; "
        f"put single images into a batch with images[None]"
    )


def _first(item: Any) -> Tensor:
    """The images of one batch, which may carry labels."""
    images = item[0] if isinstance(item, (tuple, list)) and item else item
    if not isinstance(images, (Tensor, np.ndarray)):
        raise TypeError(f"expected batches of images or of (images, labels), got {type(images).__name__}")
    return torch.from_numpy(np.ascontiguousarray(images)) if isinstance(images, np.ndarray) else images


class SpectrumSums:
    """Running sums of a spectrum over images.

    Args:
        kind: "magnitude" or "power".
        subject: what is transformed, for people.
        side: rings are 1 / side cycles per pixel wide; None for those of images of one shape.
    """

    def __init__(self, kind: Kind, subject: str, side: int | None) -> None:
        if kind not in KINDS:
            raise ValueError(f"expected `kind` of {list(KINDS)}, got {kind!r}")
        if side is not None and side < 1:
            raise ValueError(f"expected a positive `side`, got {side}")
        self._kind: Kind = kind
        self._subject, self._side = subject, side
        self._shape: tuple[int, ...] | None = None
        self._sums: dict[str, Any] = {}
        self.count = 0

    def add(self, signal: Tensor) -> None:
        """Take in a batch (n, c, h, w) of images, or of differences."""
        shape = tuple(signal.shape[1:])
        self._shape = self._shape or shape
        if shape[0] != self._shape[0] or (self._side is None and shape != self._shape):
            hint = "convert them to one colour mode" if shape[0] != self._shape[0] else "resize or crop them, or "
            if shape[0] == self._shape[0]:
                hint += (
                    f"pass `side` (at most {min(*shape[1:], *self._shape[1:])}) to average rings in cycles per pixel"
                )
            raise ValueError(f"expected all images of one shape, got {self._shape} and {shape}; {hint}")
        cells, frequency, spread = kernels.radial_cells(shape[1], shape[2], side=self._side)
        each = max(1, _PIXELS // math.prod(shape))
        for start in range(0, max(len(signal), 1), each):  # an empty batch adds zeros: sums of no images have shapes
            part = signal[start : start + each]
            rings, plane = kernels.radial_power(part, side=self._side, magnitude=self._kind == "magnitude")
            means = rings.double().cpu() / cells
            profile = means.mean(dim=1)
            self._accumulate("ring_sum", means.sum(dim=0))
            self._accumulate("ring_moments", profile.T @ profile)
            if self._side is None:
                self._accumulate("plane_sum", plane.cpu())
        self.count += len(signal)
        self._accumulate("ring_cells", cells * len(signal))
        middle = torch.where(frequency > 0, frequency, 1.0).log()
        self._accumulate("log_frequency_sum", torch.stack([middle, spread]) * len(signal))

    def _accumulate(self, name: str, value: Tensor) -> None:
        self._sums[name] = self._sums[name] + value if name in self._sums else value

    def result(self, *, seen: int | None = None, details: dict[str, str] | None = None) -> SpectrumResult:
        """Everything so far, of `seen` images looked at.

        Raises:
            ValueError: no images were taken in.
        """
        if self._shape is None:
            raise ValueError("expected at least one image, got none")
        c, h, w = self._shape
        sums = {name: value.numpy() for name, value in self._sums.items()}
        sums.setdefault("plane_sum", np.zeros((0, 0, 0)))
        return SpectrumResult(
            kind=self._kind,
            subject=self._subject,
            shape=(c, h, w) if self._side is None else None,
            side=min(h, w) if self._side is None else self._side,
            count=self.count,
            seen=self.count if seen is None else seen,
            details={"torch": torch.__version__, **(details or {})},
            **sums,
        )
