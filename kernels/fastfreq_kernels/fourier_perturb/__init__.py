"""Images x frequencies -> perturbed, clipped, normalised, cast batch, in one pass."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from fastfreq_kernels import _checks, _dispatch, _philox
from fastfreq_kernels._output import OUTPUT, Output

from . import _cpu, _reference

__all__ = ["PhiloxSigns", "fourier_perturb", "fourier_signs"]

SignMode = Literal["channel", "image", "none"]
_MODES = ("channel", "image", "none")


@dataclasses.dataclass(frozen=True, eq=False)
class PhiloxSigns:
    """Signs still to be drawn; `fourier_perturb` draws those of its images and frequencies itself.

    Attributes:
        seed: 64-bit key.
        image_ids: (n,) int64, what identifies each image whatever its batch, shard or order.
        mode: drawn for each "channel" of each image, for each "image", or "none" (all +1).
        domain: what the signs are for, as in `fourier_signs`.
        common: one draw for all frequencies, as in `fourier_signs`.
    """

    seed: int
    image_ids: Tensor
    mode: SignMode = "channel"
    domain: int = 0
    common: bool = False


def fourier_signs(
    image_ids: Tensor,
    frequencies: Tensor,
    shape: tuple[int, int, int],
    *,
    seed: int,
    domain: int = 0,
    signs: str = "channel",
    common: bool = False,
    backend: str | None = None,
) -> Tensor:
    """Random signs (f, n, c), -1 or +1, int8, of images x frequencies.

    A sign is a function of (seed, domain, image, channel, frequency) and of nothing else: the top bit of Philox4x32-10
    with key `seed` and the counter that `_philox` lays out; set means -1. All backends agree bit for bit.

    Args:
        image_ids: (n,) int64, what identifies each image whatever its batch, shard or order.
        frequencies: (f, 2) int64, cycles per image (ky, kx), of any sign.
        shape: (c, h, w) of the images, at most 65536 channels, sides below 65536.
        seed: 64-bit key, from 0 to 2**64 - 1.
        domain: what the signs are for, from 0 to 2**15 - 1: no two domains share a number.
        signs: drawn for each "channel" of each image, for each "image" (that of channel 0), or "none" (all +1).
        common: give all frequencies the signs of frequency (0, 0). Each frequency's signs are distributed as before;
            those of two frequencies are equal and no longer independent.
        backend: None chooses; "triton", "cpu" or "reference" is used or refused.

    Raises:
        ValueError: a shape, seed, domain, mode or device other than these.
        TypeError: ids or frequencies that are not int64.
        RuntimeError: a backend that cannot run here.
    """
    _checks.check_image_ids(image_ids)
    _checks.check_frequencies(frequencies, image_ids.device)
    _checks.check_shape(shape)
    _checks.check_stream(seed, domain, shape[0])
    if signs not in _MODES:
        raise ValueError(f"expected `signs` to be one of {_MODES}, got {signs!r}")
    c, h, w = shape
    if signs == "none":
        _dispatch.choose(backend, image_ids.device.type, differentiated=False)
        return torch.ones(len(frequencies), len(image_ids), c, dtype=torch.int8, device=image_ids.device)
    drawn = c if signs == "channel" else 1
    of = torch.zeros_like(frequencies[:1]) if common else frequencies
    out = _SIGNS(image_ids, of, (drawn, h, w), _philox.signed(seed), domain, backend=backend)
    return out.expand(len(frequencies), -1, c) if common or drawn != c else out


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
    if not math.isfinite(eps) or not math.isfinite(phase):
        raise ValueError(f"expected finite `eps` and `phase`, got {eps!r} and {phase!r}")
    output = Output(clip, mean, std, dtype, channels_last)
    _checks.check_output(output, images, double=double)
    if isinstance(signs, PhiloxSigns):
        _checks.check_image_ids(signs.image_ids, images, "signs.image_ids")
        signs = fourier_signs(
            signs.image_ids, frequencies, (images.shape[1], images.shape[2], images.shape[3]),
            seed=signs.seed, domain=signs.domain, signs=signs.mode, common=signs.common, backend=backend,
        )  # fmt: skip
    else:
        _check_signs(signs, (frequencies.shape[0], images.shape[0], images.shape[1]), device)
    return _PERTURB(images, frequencies, signs, eps, phase, output, backend=backend)


def _check_signs(signs: Tensor, shape: tuple[int, int, int], device: torch.device) -> None:
    """(f, n, c) int8 on `device`."""
    if signs.shape != shape:
        raise ValueError(
            f"expected `signs` of shape (f, n, c) = {tuple(shape)}, got {tuple(signs.shape)}; draw them with "
            "fourier_signs"
        )
    if signs.dtype != torch.int8:
        raise TypeError(f"expected `signs` of torch.int8, got {signs.dtype}; use signs.to(torch.int8)")
    _checks.check_device("signs", signs, device)


def _fake_perturb(
    images: Tensor, frequencies: Tensor, signs: Tensor, eps: float, phase: float, output: Output
) -> Tensor:
    return output.empty(images, frequencies.shape[0] * images.shape[0])


def _fake_signs(image_ids: Tensor, frequencies: Tensor, shape: Sequence[int], seed: int, domain: int) -> Tensor:
    return image_ids.new_empty((frequencies.shape[0], image_ids.shape[0], shape[0]), dtype=torch.int8)


_PERTURB = _dispatch.register(
    "fourier_perturb",
    f"(Tensor images, Tensor frequencies, Tensor signs, float eps, float phase, {OUTPUT}) -> Tensor",
    reference=_reference.perturb,
    cpu=_cpu.perturb,
    fake=_fake_perturb,
)
_SIGNS = _dispatch.register(
    "fourier_signs",
    "(Tensor image_ids, Tensor frequencies, SymInt[3] shape, int seed, int domain) -> Tensor",
    reference=_reference.signs,
    cpu=_reference.signs,
    fake=_fake_signs,
)
