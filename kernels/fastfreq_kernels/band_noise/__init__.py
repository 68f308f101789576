"""Images plus Gaussian noise in bands of frequencies, of a given norm: clipped, normalised, cast batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastfreq_kernels import _dispatch, _planes
from fastfreq_kernels.fourier_perturb import _checks

from . import _cpu, _reference

__all__ = ["band_noise", "gaussian_noise"]


def gaussian_noise(image_ids: Tensor, shape: tuple[int, int, int], *, seed: int, backend: str | None = None) -> Tensor:
    """Independent standard normal values (n, c, h, w), float32.

    A value is a function of (seed, image, channel, pixel) and of nothing else: Box and Muller's transform of
    Philox4x32-10, whose words all backends agree on bit for bit; the values, on a few float32 roundings.

    Args:
        image_ids: (n,) int64, what identifies each image whatever its batch, shard or order.
        shape: (c, h, w) of the images, sides below 65536.
        seed: 64-bit key, from 0 to 2**64 - 1.
        backend: None chooses; "triton", "cpu" or "reference" is used or refused.

    Raises:
        ValueError: a shape or seed other than these.
        TypeError: ids that are not int64.
        RuntimeError: a backend that cannot run here.

    Source: Salmon et al. 2011 (Philox); Box, Muller 1958.
    """
    _checks.check_image_ids(image_ids)
    _checks.check_shape(shape)
    _checks.check_seed(seed)
    path = _dispatch.choose(backend, image_ids.device.type, differentiated=False)
    if path == "reference":
        return _reference.gaussian(seed, image_ids, shape, torch.float64).float()
    run = _GAUSSIAN if path == "operator" else _dispatch.interpreted("band_noise:gaussian")
    return run(image_ids, *shape, _signed(seed))


def band_noise(
    images: Tensor,
    masks: Tensor,
    image_ids: Tensor,
    *,
    norm: float,
    seed: int,
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
    _planes.check_masks(masks, images, double=double)
    _checks.check_image_ids(image_ids)
    if image_ids.shape[0] != images.shape[0] or image_ids.device != images.device:
        raise ValueError(
            f"expected `image_ids` of shape ({images.shape[0]},) on {images.device}, one per image, "
            f"got {tuple(image_ids.shape)} on {image_ids.device}"
        )
    _checks.check_seed(seed)
    if not (math.isfinite(norm) and norm >= 0):
        raise ValueError(f"expected a finite `norm` from 0, got {norm!r}")
    _checks.check_perturbation(0.0, 0.0, dtype, double=double)
    _checks.check_normalisation(mean, std, images)
    differentiated = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (images, masks, mean, std)
    )
    path = _dispatch.choose(backend, images.device.type, differentiated=differentiated)
    if path == "reference":
        out = _reference.band_noise(
            images, masks, image_ids, norm=norm, seed=seed, clip=clip, mean=mean, std=std, dtype=dtype
        )
        return _planes.laid_out(out, channels_last=channels_last)
    run = _BAND_NOISE if path == "operator" else _dispatch.interpreted("band_noise:band_noise")
    return run(images, masks, image_ids, norm, _signed(seed), clip, mean, std, dtype, channels_last)


def _signed(seed: int) -> int:
    """Operators take signed integers: the same 64 bits."""
    return seed if seed < 2**63 else seed - 2**64


def _fake_gaussian(image_ids: Tensor, channels: int, height: int, width: int, seed: int) -> Tensor:
    return image_ids.new_empty((image_ids.shape[0], channels, height, width), dtype=torch.float32)


def _fake_band_noise(
    images: Tensor,
    masks: Tensor,
    image_ids: Tensor,
    norm: float,
    seed: int,
    clip: bool,
    mean: Tensor | None,
    std: Tensor | None,
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    return _planes.empty(images, masks.shape[0], dtype, channels_last=channels_last)


_GAUSSIAN = _dispatch.register(
    "gaussian_noise",
    "(Tensor image_ids, SymInt channels, SymInt height, SymInt width, int seed) -> Tensor",
    cpu=_cpu.gaussian,
    triton="band_noise:gaussian",
    fake=_fake_gaussian,
)
_BAND_NOISE = _dispatch.register(
    "band_noise",
    "(Tensor images, Tensor masks, Tensor image_ids, float norm, int seed, bool clip, Tensor? mean, Tensor? std, "
    "ScalarType dtype, bool channels_last) -> Tensor",
    cpu=_cpu.band_noise,
    triton="band_noise:band_noise",
    fake=_fake_band_noise,
)
