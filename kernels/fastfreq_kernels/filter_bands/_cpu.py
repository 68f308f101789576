"""`filter_bands` on a CPU: compiled code where numba is there and has the transform, else torch."""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastfreq_kernels import _numba, _planes
from fastfreq_kernels._threads import each_in_threads

from . import _cpu_torch

_BANDS = 7  # of an image that a thread filters before it looks for other work
_DTYPES = (torch.float32, torch.bfloat16)  # of results that compiled code writes


def filter_bands(
    images: Tensor,
    masks: Tensor,
    normalise_contrast: bool,
    clip: bool,
    mean: Tensor | None,
    std: Tensor | None,
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    """The reference's answer in float32 arithmetic, laid out channels_last or contiguous."""
    arguments = images, masks, normalise_contrast, clip, mean, std, dtype, channels_last
    shape = _shape(images, dtype)
    return _cpu_torch.filter_bands(*arguments) if shape is None else _Compiled(shape, *arguments)()


def _code() -> Any:
    return _numba.compiled("filter_bands._compiled", "filtering images takes 4 times as long")


def _shape(images: Tensor, dtype: torch.dtype) -> Any:
    """What compiled code knows of these planes, or None where there is none for them."""
    code = _code() if dtype in _DTYPES else None
    return code and code.shape_of(*images.shape[2:])


class _Compiled:
    """One call of compiled code, arguments as for `filter_bands`; pairs of images and bands are split over threads."""

    def __init__(
        self,
        shape: Any,
        images: Tensor,
        masks: Tensor,
        normalise_contrast: bool,
        clip: bool,
        mean: Tensor | None,
        std: Tensor | None,
        dtype: torch.dtype,
        channels_last: bool,
    ) -> None:
        self._shape, self._images = shape, images.detach()
        self._clip, self._contrast, self._channels_last = clip, normalise_contrast, channels_last
        c = images.shape[1]
        scale, shift = torch.ones(c), torch.zeros(c)
        if mean is not None and std is not None:
            scale, shift = 1 / std.float(), -mean.float() / std.float()
        self._terms = scale.numpy(), shift.numpy()
        self._local = threading.local()
        self._masks = (masks.view(torch.uint8) if masks.dtype == torch.bool else masks.detach()).contiguous().numpy()
        self._passed = self._masks[:, 0, 0].astype(np.float64)
        self._kept: list[tuple[Any, Any] | None] = [None] * len(masks)
        self._out = _planes.empty(images, len(masks), dtype, channels_last=channels_last)
        flat = self._out.permute(0, 1, 3, 4, 2) if channels_last else self._out
        flat = flat.reshape(-1)
        self._flat = flat.view(torch.uint16).numpy() if dtype == torch.bfloat16 else flat.numpy()

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
            _code().synthesise(
                scratch.spectra, scratch.means, scratch.energies, *self._mask(band), self._passed[band], *self._terms,
                self._clip, self._contrast, self._shape, scratch.rows, scratch.columns, scratch.y,
                scratch.corner, self._flat, (band * n + image) * c * h * w, self._channels_last,
            )  # fmt: skip

    def _mask(self, band: int) -> tuple[Any, Any]:
        """In the order of the spectra; threads that want the same one at once both make it."""
        found = self._kept[band]
        if found is None:
            found = self._kept[band] = _code().arrange(self._masks[band], self._shape)
        return found

    def _analyse(self, image: int, scratch: Any) -> None:
        pixels = self._images[image]
        unit = 255.0 if pixels.dtype == torch.uint8 else 1.0
        pixels = (pixels if pixels.dtype == torch.uint8 else pixels.float()).contiguous().flatten(1)
        _code().analyse(
            pixels.numpy(), unit, self._shape, scratch.x, scratch.y, scratch.corner,
            scratch.spectra, scratch.means, scratch.energies,
        )  # fmt: skip

    def _scratch(self) -> Any:
        """This thread's."""
        own, shape, c = self._local, self._shape, self._images.shape[1]
        if not hasattr(own, "image"):

            def zeros(*size: int) -> Any:
                return torch.zeros(size).numpy()  # torch's memory starts where a cache line does

            own.image = None
            own.spectra, own.rows = zeros(2, c, shape.spectrum_size)  # `rows` stays 0 past the last column
            own.columns, own.corner = zeros(c, shape.buffer_size), zeros(4 * _code().LANES ** 2)
            own.x, own.y = zeros(2, shape.buffer_size)
            own.means, own.energies = np.zeros((2, c))
        return own
