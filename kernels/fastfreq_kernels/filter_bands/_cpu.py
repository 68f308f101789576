"""`filter_bands` on a CPU: compiled code where numba is there and has the transform, else torch."""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastfreq_kernels import _planes, simd
from fastfreq_kernels._output import Output
from fastfreq_kernels._planes_cpu import Writer, filtered
from fastfreq_kernels._threads import each_in_threads

_BANDS = 7  # of an image that a thread filters before it looks for other work
_DTYPES = (torch.float32, torch.bfloat16)  # of results that compiled code writes


def filter_bands(images: Tensor, masks: Tensor, normalise_contrast: bool, output: Output) -> Tensor:
    """The reference's answer in float32 arithmetic."""
    shape = _shape(images, output.dtype)
    if shape is None:
        return _by_torch(images, masks, normalise_contrast, output)
    return _Compiled(shape, images, masks, normalise_contrast, output)()


def _by_torch(images: Tensor, masks: Tensor, normalise_contrast: bool, output: Output) -> Tensor:
    """See `_planes_cpu`."""
    pixels = _planes.pixels_of(images).contiguous()
    mean_of = pixels.mean(dim=(-2, -1), keepdim=True)  # most of a photograph: without it rounding errors are halved
    passed = masks[:, 0, 0].to(pixels.dtype)[:, None, None, None, None]
    out = output.empty(images, len(masks), len(images))
    write = Writer(out, output)

    def centred(part: slice) -> Tensor:
        return pixels[part] - mean_of[part]

    for bands, part, planes in filtered(centred, images.shape, masks):
        planes.add_(passed[bands] * mean_of[part])
        if normalise_contrast:
            gain, offset = _planes.contrast(planes, pixels[part], (-3, -2, -1))
            planes.mul_(gain).add_(offset)
        write(bands, part, planes)
    return out


def _code() -> Any:
    return simd.compiled("filter_bands", "filtering images takes 4 times as long")


def _shape(images: Tensor, dtype: torch.dtype) -> Any:
    """What compiled code knows of these planes, or None where there is none for them."""
    code = _code() if dtype in _DTYPES else None
    return code and code.shape_of(*images.shape[2:])


class _Compiled:
    """One call of compiled code, arguments as for `filter_bands`; pairs of images and bands are split over threads."""

    def __init__(self, shape: Any, images: Tensor, masks: Tensor, normalise_contrast: bool, output: Output) -> None:
        self._shape, self._images, self._contrast = shape, images.detach(), normalise_contrast
        c = images.shape[1]
        scale, shift = output.terms() or (torch.ones(c), torch.zeros(c))
        self._local = threading.local()
        self._masks = (masks.view(torch.uint8) if masks.dtype == torch.bool else masks.detach()).contiguous().numpy()
        self._kept: list[Any] = [None] * len(masks)
        self._out = output.empty(images, len(masks), len(images))
        flat = self._out.movedim(-3, -1) if output.channels_last else self._out
        flat = flat.reshape(-1)
        flat = flat.view(torch.uint16) if output.dtype == torch.bfloat16 else flat
        self._finish = _code().Finish(flat.numpy(), output.channels_last, output.clip, scale.numpy(), shift.numpy())

    def __call__(self) -> Tensor:
        tasks = [
            functools.partial(self._filter, image, range(len(self._masks))[start : start + _BANDS])
            for image in range(len(self._images))
            for start in range(0, len(self._masks), _BANDS)
        ]
        if tasks:
            each_in_threads(tasks)
        return self._out

    def _filter(self, image: int, bands: range) -> None:
        scratch = self._scratch()
        if scratch.image != image:
            self._analyse(image, scratch)
        scratch.image = image
        n, c, h, w = self._images.shape
        for band in bands:
            start = (band * n + image) * c * h * w
            _code().synthesise(
                scratch.analysed, self._mask(band), self._contrast, self._shape, scratch.work, self._finish, start
            )

    def _mask(self, band: int) -> Any:
        """In the order of the spectra; threads that want the same one at once both make it."""
        found = self._kept[band]
        if found is None:
            mask = self._masks[band]
            found = self._kept[band] = _code().Mask(*_code().arrange(mask, self._shape), float(mask[0, 0]))
        return found

    def _analyse(self, image: int, scratch: Any) -> None:
        pixels = self._images[image]
        unit = 255.0 if pixels.dtype == torch.uint8 else 1.0
        pixels = (pixels if pixels.dtype == torch.uint8 else pixels.float()).contiguous().flatten(1)
        _code().analyse(pixels.numpy(), unit, self._shape, scratch.work, scratch.analysed)

    def _scratch(self) -> Any:
        """This thread's."""
        own, shape, c = self._local, self._shape, self._images.shape[1]
        if not hasattr(own, "image"):

            def zeros(*size: int) -> Any:
                return torch.zeros(size).numpy()  # torch's memory starts where a cache line does

            own.image = None
            spectra, rows = zeros(2, c, shape.spectrum_size)  # `rows` stays 0 past the last column
            own.analysed = _code().Analysed(spectra, *np.zeros((2, c)))
            x, y = zeros(2, shape.buffer_size)
            own.work = _code().Work(rows, zeros(c, shape.buffer_size), x, y, zeros(4 * _code().LANES ** 2))
        return own
