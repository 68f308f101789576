"""`filter_bands` on a CPU: compiled code where numba is there and has the transform, else torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastfreq_kernels import _numba, _planes
from fastfreq_kernels._threads import split_over_threads

from . import _cpu_torch

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
        c, lanes = images.shape[1], _code().LANES
        self._scale, self._shift = torch.ones(c), torch.zeros(c)
        if mean is not None and std is not None:
            self._scale, self._shift = 1 / std.float(), -mean.float() / std.float()
        self._masks = masks.detach().contiguous()
        self._passed = self._masks[:, 0, 0].double().numpy()
        self._kept = torch.empty(len(masks), shape.groups, shape.w * lanes).numpy()
        self._wanted = torch.empty(len(masks), shape.groups, dtype=torch.bool).numpy()
        k = torch.arange(shape.groups * lanes)
        weights = torch.where((k == 0) | (2 * k == shape.h), 1.0, 2.0) * (k <= shape.h // 2)
        self._row_weights = weights.numpy()
        self._out = _planes.empty(images, len(masks), dtype, channels_last=channels_last)
        flat = self._out.permute(0, 1, 3, 4, 2) if channels_last else self._out
        flat = flat.reshape(-1)
        self._flat = flat.view(torch.uint16).numpy() if dtype == torch.bfloat16 else flat.numpy()

    def __call__(self) -> Tensor:
        split_over_threads(self._arrange, len(self._masks))
        split_over_threads(self._filter, len(self._masks) * len(self._images))
        return self._out

    def _arrange(self, start: int, stop: int) -> None:
        masks = self._masks.view(torch.uint8) if self._masks.dtype == torch.bool else self._masks
        _code().arrange(masks.numpy(), start, stop, self._shape, self._kept, self._wanted)

    def _filter(self, start: int, stop: int) -> None:
        """Pairs in the order of images, so that a thread transforms an image once."""
        code, shape, (n, c, h, w) = _code(), self._shape, self._images.shape
        b = len(self._masks)

        def scratch(*size: int) -> Any:
            return torch.zeros(size).numpy()  # torch's memory starts where a cache line does

        spectra, rows = scratch(2, c, shape.spectrum_size)  # `rows` stays 0 past the last column
        columns, corner = scratch(c, shape.buffer_size), scratch(4 * code.LANES**2)
        x, y = scratch(2, shape.buffer_size)
        means, energies = torch.empty(2, c, dtype=torch.float64).numpy()
        terms = self._scale.numpy(), self._shift.numpy()
        for i in range(start // b, -(-stop // b)):
            image = self._images[i]
            unit = 255.0 if image.dtype == torch.uint8 else 1.0
            image = (image if image.dtype == torch.uint8 else image.float()).contiguous().view(c, h * w).numpy()
            code.analyse(image, unit, shape, self._row_weights, x, y, corner, spectra, means, energies)
            for j in range(max(start, i * b) - i * b, min(stop, (i + 1) * b) - i * b):
                code.synthesise(
                    spectra, means, energies, self._kept[j], self._wanted[j], self._passed[j], *terms, self._clip,
                    self._contrast, shape, self._row_weights, rows, columns, y, corner, self._flat,
                    (j * n + i) * c * h * w, self._channels_last,
                )  # fmt: skip
