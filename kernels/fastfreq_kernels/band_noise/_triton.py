"""`gaussian_noise` and `band_noise` on a GPU: the noise by its own kernel, the rest as `filter_bands` does it.

Per value of the noise: 4 bytes written, a quarter of Philox's hundred integer instructions, half a logarithm and half
a cosine and sine.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastfreq_kernels import _configs, _philox, _planes
from fastfreq_kernels._device import turn, words
from fastfreq_kernels._launch import Launch, run_on
from fastfreq_kernels._output import Output
from fastfreq_kernels.filter_bands._triton import filtered_launches

from . import _reference


@triton.jit
def _log(x):
    """Natural logarithm of a normal number, to two ulp: the GPU's own one loses its digits next to 1."""
    bits = x.to(tl.int32, bitcast=True)
    exponent = (bits - 0x3F3504F3) >> 23  # of the power of two that leaves a mantissa from sqrt(1/2) to sqrt(2)
    mantissa = (bits - (exponent << 23)).to(tl.float32, bitcast=True)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    t = s * s
    series = t * (1 / 3 + t * (1 / 5 + t * (1 / 7 + t * (1 / 9))))
    return exponent.to(tl.float32) * 0.6931471805599453 + 2.0 * (s + s * series)


@triton.jit
def _box_muller(radius, share):
    """Two standard normal values of two words of 32 bits."""
    u = ((radius >> 8).to(tl.int32) + 1).to(tl.float32) * (1 / 16777216)
    angle = (share >> 8).to(tl.int32)
    cos, sin = turn(angle, 1, tl.full((), 16777216, tl.int32))
    length = tl.sqrt(-2.0 * _log(u))
    return length * cos, length * sin


@triton.jit(do_not_specialize=["seed", "kind"])
def gaussian_kernel(
    out, image_ids, stride_n, count, channels, pixels, quads, seed, kind, DENSE: tl.constexpr, BLOCK: tl.constexpr
):
    """Fills out (images, channels, pixels), four values of each of `count` counters: see `_reference.box_muller`."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    at = start + tl.arange(0, BLOCK)
    plane = at // quads
    image = tl.load(image_ids + plane // channels * stride_n, mask=at < count, other=0)
    a, b, c, d = words(seed, kind, image, plane % channels, at % quads)
    first, second = _box_muller(a, b)
    third, fourth = _box_muller(c, d)
    values = tl.reshape(tl.join(tl.join(first, third), tl.join(second, fourth)), (4 * BLOCK,))
    to = 4 * start + tl.arange(0, 4 * BLOCK)
    if DENSE:  # the counters of a plane end with it
        tl.store(out + to, values, mask=to < 4 * count)
    else:
        pixel = to % (4 * quads)
        tl.store(out + to // (4 * quads) * pixels + pixel, values, mask=(to < 4 * count) & (pixel < pixels))


def gaussian(image_ids: Tensor, shape: Sequence[int], seed: int, domain: int) -> Tensor:
    """The reference's values in float32 arithmetic."""
    out = torch.empty((len(image_ids), *shape), dtype=torch.float32, device=image_ids.device)
    if out.numel():
        run_on(image_ids, lambda: [gaussian_launch(out, image_ids, seed, domain)])
    return out


def gaussian_launch(out: Tensor, image_ids: Tensor, seed: int, domain: int) -> Launch:
    """The launch that fills out (n, c, h, w)."""
    n, c, h, w = out.shape
    quads = triton.cdiv(h * w, 4)
    return Launch(
        gaussian_kernel,
        (triton.cdiv(n * c * quads, _configs.NOISE_BLOCK),),
        {
            "out": out, "image_ids": image_ids, "stride_n": image_ids.stride(0), "count": n * c * quads,
            "channels": c, "pixels": h * w, "quads": quads, "seed": seed,
            "kind": _philox.stream(_philox.GAUSSIAN, domain), "DENSE": h * w % 4 == 0, "BLOCK": _configs.NOISE_BLOCK,
        },
        _configs.NOISE_WARPS,
    )  # fmt: skip


def band_noise(
    images: Tensor, masks: Tensor, image_ids: Tensor, norm: float, seed: int, domain: int, output: Output
) -> Tensor:
    """The reference's answer in float32 arithmetic."""
    pixels = _planes.pixels_of(images).contiguous()
    out = output.empty(images, len(masks), len(images))

    def noise(part: slice) -> Tensor:
        return gaussian(image_ids[part], images.shape[1:], seed, domain)

    def terms(_bands: slice, _part: slice, squares: Tensor) -> tuple[Tensor, Tensor]:
        gain = _reference.gain_to(squares.sqrt(), norm)
        return gain, torch.zeros_like(gain)

    run_on(images, lambda: filtered_launches(out, noise, terms, masks, output, base=pixels, energy=True))
    return out
