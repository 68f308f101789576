"""Images plus Gaussian noise in bands of frequencies, of a given norm: clipped, normalised, cast batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fastfreq_kernels import _checks, _dispatch, _philox
from fastfreq_kernels._output import OUTPUT, Output

from . import _cpu, _reference

__all__ = ["band_noise", "gaussian_noise"]


def gaussian_noise(
    image_ids: Tensor, shape: tuple[int, int, int], *, seed: int, domain: int = 0, backend: str | None = None
) -> Tensor:
    """Independent standard normal values (n, c, h, w), float32.

    A value is a function of (seed, domain, image, channel, pixel) and of nothing else: Box and Muller's transform of
    Philox4x32-10, whose words all backends agree on bit for bit; the values, on a few float32 roundings.

    Args:
        image_ids: (n,) int64, what identifies each image whatever its batch, shard or order.
        shape: (c, h, w) of the images, at most 65536 channels, sides below 65536.
        seed: 64-bit key, from 0 to 2**64 - 1.
        domain: what the values are for, from 0 to 2**15 - 1: no two domains share a number.
        backend: None chooses; "triton", "cpu" or "reference" is used or refused.

    Raises:
        ValueError: a shape, seed or domain other than these.
        TypeError: ids that are not int64.
        RuntimeError: a backend that cannot run here.

    Source: Salmon et al. 2011 (Philox); Box, Muller 1958.
    """
    _checks.check_image_ids(image_ids)
    _checks.check_shape(shape)
    _checks.check_stream(seed, domain, shape[0])
    return _GAUSSIAN(image_ids, shape, _philox.signed(seed), domain, backend=backend)


def band_noise(
    images: Tensor,
    masks: Tensor,
    image_ids: Tensor,
    *,
    norm: float,
    seed: int,
    domain: int = 0,
    clip: bool = False,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    backend: str | None = None,
) -> Tensor:
    """normalise(clip(image + norm N / ||N||)) of every image and mask: (b, n, c, h, w), band-major.

    N = Re ifft2(M fft2(noise)) with the image's `gaussian_noise`, rescaled in each channel to L2 norm `norm`; the
    same noise under every mask. A mask that keeps nothing leaves the image as it is, bit for bit.

    Args:
        images: (n, c, h, w), float32, bfloat16 or float16 in [0, 1], or uint8, which is divided by 255; any strides.
        masks: (b, h, w), bool or float32, over the unshifted plane (zero frequency at [0, 0]).
        image_ids: (n,) int64, what identifies each image whatever its batch, shard or order.
        norm: L2 norm of the noise in each channel, in pixels of [0, 1], before clipping.
        seed: 64-bit key of the noise.
        domain: what the noise is for, as in `gaussian_noise`.
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

    Source: Yin et al. 2019, section 4 and Figure 5.
    """
    double = backend == "reference"
    _checks.check_images(images, double=double)
    _checks.check_masks(masks, images, double=double)
    _checks.check_image_ids(image_ids, images)
    _checks.check_stream(seed, domain, images.shape[1])
    if not (math.isfinite(norm) and norm >= 0):
        raise ValueError(f"expected a finite `norm` from 0, got {norm!r}")
    output = Output(clip, mean, std, dtype, channels_last)
    _checks.check_output(output, images, double=double)
    return _BAND_NOISE(images, masks, image_ids, norm, _philox.signed(seed), domain, output, backend=backend)


def _fake_gaussian(image_ids: Tensor, shape: Sequence[int], seed: int, domain: int) -> Tensor:
    return image_ids.new_empty((image_ids.shape[0], *shape), dtype=torch.float32)


def _fake_band_noise(
    images: Tensor, masks: Tensor, image_ids: Tensor, norm: float, seed: int, domain: int, output: Output
) -> Tensor:
    return output.empty(images, masks.shape[0], images.shape[0])


_GAUSSIAN = _dispatch.register(
    "gaussian_noise",
    "(Tensor image_ids, SymInt[3] shape, int seed, int domain) -> Tensor",
    reference=_reference.gaussian,
    cpu=_cpu.gaussian,
    fake=_fake_gaussian,
)
_BAND_NOISE = _dispatch.register(
    "band_noise",
    f"(Tensor images, Tensor masks, Tensor image_ids, float norm, int seed, int domain, {OUTPUT}) -> Tensor",
    reference=_reference.band_noise,
    cpu=_cpu.band_noise,
    fake=_fake_band_noise,
)
