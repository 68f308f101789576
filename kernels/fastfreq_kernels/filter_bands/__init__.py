"""Images x masks -> filtered, clipped, normalised, cast batch: one transform per image, one inverse per band."""

from __future__ import annotations

import torch
from torch import Tensor

from fastfreq_kernels import _checks, _dispatch
from fastfreq_kernels._output import OUTPUT, Output

from . import _cpu, _reference

__all__ = ["filter_bands"]


def filter_bands(
    images: Tensor,
    masks: Tensor,
    *,
    normalise_contrast: bool = False,
    clip: bool = False,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    backend: str | None = None,
) -> Tensor:
    """normalise(clip(Re ifft2(M fft2(image)))) of every image under every mask: (b, n, c, h, w), band-major.

    Of a mask its symmetric part (M(k) + M(-k)) / 2 acts: the real part of the filtered image is taken. Masks with
    M(k) = M(-k) lose nothing to it. Arithmetic is float32 (float64 in the reference if `images` is).

    Args:
        images: (n, c, h, w), float32, bfloat16 or float16 in [0, 1], or uint8, which is divided by 255; any strides.
        masks: (b, h, w), bool or float32, over the unshifted plane (zero frequency at [0, 0]).
        normalise_contrast: give each filtered image the mean and the standard deviation, over all its channels and
            pixels, of the original. One with less than 1e-5 of its deviation left becomes grey.
        clip: to [0, 1], before normalisation.
        mean: (c,), subtracted after clipping; needs `std`.
        std: (c,), divided by after `mean` is subtracted; not zero.
        dtype: of the result: float32, bfloat16 or float16.
        channels_last: lay each image of the result out with the channels innermost.
        backend: None chooses: the reference if a gradient is needed, else "triton" on a GPU and "cpu" on a CPU. One
            that is named is used or refused.

    Raises:
        ValueError: a shape, device or value other than these.
        TypeError: a dtype other than these.
        RuntimeError: a backend that cannot run here, or that cannot give the gradient that an input requires.
    """
    double = backend == "reference"
    _checks.check_images(images, double=double)
    _checks.check_masks(masks, images, double=double)
    output = Output(clip, mean, std, dtype, channels_last)
    _checks.check_output(output, images, double=double)
    return _FILTER(images, masks, normalise_contrast, output, backend=backend)


def _fake(images: Tensor, masks: Tensor, normalise_contrast: bool, output: Output) -> Tensor:
    return output.empty(images, masks.shape[0], images.shape[0])


_FILTER = _dispatch.register(
    "filter_bands",
    f"(Tensor images, Tensor masks, bool normalise_contrast, {OUTPUT}) -> Tensor",
    reference=_reference.filter_bands,
    cpu=_cpu.filter_bands,
    fake=_fake,
)
