"""Images x frequencies -> perturbed, clipped, normalised, cast batch, in one pass."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor

from fastfreq_kernels import _dispatch

from . import _checks, _cpu, _reference

__all__ = ["PhiloxSigns", "fourier_perturb", "fourier_signs"]

SignMode = Literal["channel", "image", "none"]


@dataclasses.dataclass(frozen=True, eq=False)
class PhiloxSigns:
    """Signs still to be drawn; `fourier_perturb` draws those of its images and frequencies itself.

    Attributes:
        seed: 64-bit key.
        image_ids: (n,) int64, what identifies each image whatever its batch, shard or order.
        mode: drawn for each "channel" of each image, for each "image", or "none" (all +1).
    """

    seed: int
    image_ids: Tensor
    mode: SignMode = "channel"


def fourier_signs(
    image_ids: Tensor,
    frequencies: Tensor,
    shape: tuple[int, int, int],
    *,
    seed: int,
    signs: str = "channel",
    backend: str | None = None,
) -> Tensor:
    """Random signs (f, n, c), -1 or +1, int8, of images x frequencies.

    A sign is a function of (seed, image, channel, frequency) and of nothing else: the top bit of Philox4x32-10 with
    key `seed` and counter (image low word, image high word, channel, 65536 (ky mod h) + (kx mod w)); set means -1.
    All backends agree bit for bit.

    Args:
        image_ids: (n,) int64, what identifies each image whatever its batch, shard or order.
        frequencies: (f, 2) int64, cycles per image (ky, kx), of any sign.
        shape: (c, h, w) of the images, sides below 65536.
        seed: 64-bit key, from 0 to 2**64 - 1.
        signs: drawn for each "channel" of each image, for each "image" (that of channel 0), or "none" (all +1).
        backend: None chooses; "triton", "cpu" or "reference" is used or refused.

    Raises:
        ValueError: a shape, seed, mode or device other than these.
        TypeError: ids or frequencies that are not int64.
        RuntimeError: a backend that cannot run here.
    """
    _checks.check_image_ids(image_ids)
    _checks.check_frequencies(frequencies, image_ids.device)
    _checks.check_shape(shape)
    _checks.check_seed(seed)
    _checks.check_mode(signs)
    path = _dispatch.choose(backend, image_ids.device.type, differentiated=False)
    c, h, w = shape
    if signs == "none":
        return torch.ones(len(frequencies), len(image_ids), c, dtype=torch.int8, device=image_ids.device)
    drawn_channels = c if signs == "channel" else 1
    if path == "reference":
        drawn = _reference.signs(seed, image_ids, drawn_channels, frequencies, (h, w))
    else:
        draw = _SIGNS if path == "operator" else _dispatch.interpreted("fourier_perturb:signs")
        # operators take signed integers: the same 64 bits
        drawn = draw(image_ids, frequencies, drawn_channels, h, w, seed if seed < 2**63 else seed - 2**64)
    return drawn if drawn_channels == c else drawn.expand(-1, -1, c)


def fourier_perturb(
    images: Tensor,
    frequencies: Tensor,
    signs: Tensor | PhiloxSigns,
    *,
    eps: float,
    phase: float,
    clip: bool,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    backend: str | None = None,
) -> Tensor:
    """normalise(clip(image + sign eps U)) of every image at every frequency: (f n, c, h, w), frequency-major.

    U[y, x] is proportional to cos(2 pi (ky y / h + kx x / w) + phase) and has L2 norm 1; at self-conjugate
    frequencies, where U is its own mirror image, the phase is 0. Row i n + j of the result is image j at frequency i.
    Arithmetic is float32 (float64 in the reference if `images` is), whatever goes in or out.

    Args:
        images: (n, c, h, w), float32, bfloat16 or float16 in [0, 1], or uint8, which is divided by 255; any strides.
        frequencies: (f, 2) int64, cycles per image (ky, kx), of any sign.
        signs: (f, n, c) int8, -1 or +1 (0 leaves a channel as it is), or `PhiloxSigns` to have them drawn.
        eps: L2 norm of the perturbation in each channel, in pixels of [0, 1], before clipping.
        phase: radians.
        clip: to [0, 1], before normalisation; NaN stays NaN.
        mean: (c,), subtracted after clipping; needs `std`.
        std: (c,), divided by after `mean` is subtracted; not zero.
        dtype: of the result: float32, bfloat16 or float16.
        channels_last: lay the result out with the channels innermost.
        backend: None chooses: the reference if a gradient is needed, else "triton" on a GPU and "cpu" on a CPU. One
            that is named is used or refused.

    Raises:
        ValueError: a shape, device or value other than these.
        TypeError: a dtype other than these.
        RuntimeError: a backend that cannot run here, or that cannot give the gradient that an input requires.
    """
    double = backend == "reference"
    _checks.check_images(images, double=double)
    device = images.device
    _checks.check_frequencies(frequencies, device)
    _checks.check_perturbation(eps, phase, dtype, double=double)
    _checks.check_normalisation(mean, std, images)
    differentiated = torch.is_grad_enabled() and (
        images.requires_grad or (mean is not None and mean.requires_grad) or (std is not None and std.requires_grad)
    )
    path = _dispatch.choose(backend, device.type, differentiated=differentiated)
    n, c, h, w = images.shape
    if isinstance(signs, PhiloxSigns):
        _checks.check_image_ids(signs.image_ids)
        _checks.check_ids_match(signs.image_ids, images)
        signs = fourier_signs(
            signs.image_ids, frequencies, (c, h, w), seed=signs.seed, signs=signs.mode, backend=backend
        )
    else:
        _checks.check_signs(signs, (frequencies.shape[0], n, c), device)
    if path == "reference":
        out = _reference.perturb(
            images, frequencies, signs, eps=eps, phase=phase, clip=clip, mean=mean, std=std, dtype=dtype
        )
        return out.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    run = _PERTURB if path == "operator" else _dispatch.interpreted("fourier_perturb:perturb")
    return run(images, frequencies, signs, eps, phase, clip, mean, std, dtype, channels_last)


def _fake_perturb(
    images: Tensor,
    frequencies: Tensor,
    signs: Tensor,
    eps: float,
    phase: float,
    clip: bool,
    mean: Tensor | None,
    std: Tensor | None,
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    n, c, h, w = images.shape
    count = frequencies.shape[0] * n
    if channels_last:
        return images.new_empty((count, h, w, c), dtype=dtype).permute(0, 3, 1, 2)
    return images.new_empty((count, c, h, w), dtype=dtype)


def _cpu_signs(image_ids: Tensor, frequencies: Tensor, channels: int, height: int, width: int, seed: int) -> Tensor:
    return _reference.signs(seed, image_ids, channels, frequencies, (height, width))


def _fake_signs(image_ids: Tensor, frequencies: Tensor, channels: int, height: int, width: int, seed: int) -> Tensor:
    return image_ids.new_empty((frequencies.shape[0], image_ids.shape[0], channels), dtype=torch.int8)


_PERTURB = _dispatch.register(
    "fourier_perturb",
    "(Tensor images, Tensor frequencies, Tensor signs, float eps, float phase, bool clip, Tensor? mean, Tensor? std, "
    "ScalarType dtype, bool channels_last) -> Tensor",
    cpu=_cpu.perturb,
    triton="fourier_perturb:perturb",
    fake=_fake_perturb,
)
_SIGNS = _dispatch.register(
    "fourier_signs",
    "(Tensor image_ids, Tensor frequencies, SymInt channels, SymInt height, SymInt width, int seed) -> Tensor",
    cpu=_cpu_signs,
    triton="fourier_perturb:signs",
    fake=_fake_signs,
)
