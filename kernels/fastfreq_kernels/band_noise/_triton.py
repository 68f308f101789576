"""`gaussian_noise` and `band_noise` on a GPU: the noise by its own kernel, the rest as `filter_bands` does it.

Per value of the noise: 4 bytes written, a quarter of Philox's hundred integer instructions, half a logarithm and half
a cosine and sine.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastfreq_kernels import _planes
from fastfreq_kernels.filter_bands._triton import filtered, finish_launch
from fastfreq_kernels.fourier_perturb._triton import Launch, _low_word, _on_device, _turn

from . import _reference

_BLOCK = 256  # counters of one program, of four values each; not yet measured on any GPU
_WARPS = 4  # not yet measured on any GPU


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
def _box_muller(radius, turn):
    """Two standard normal values of two words of 32 bits."""
    u = ((radius >> 8).to(tl.int32) + 1).to(tl.float32) * (1 / 16777216)
    angle = (turn >> 8).to(tl.int32)
    cos, sin = _turn(angle, 1, tl.full((), 16777216, tl.int32))
    length = tl.sqrt(-2.0 * _log(u))
    return length * cos, length * sin


@triton.jit(do_not_specialize=["seed"])
def gaussian_kernel(
    out, image_ids, stride_n, count, channels, pixels, quads, seed, DENSE: tl.constexpr, BLOCK: tl.constexpr
):
    """Fills out (images, channels, pixels), four values of each of `count` counters: see `_reference.gaussian`."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    at = start + tl.arange(0, BLOCK)
    plane = at // quads
    image = tl.load(image_ids + plane // channels * stride_n, mask=at < count, other=0)
    channel = (plane % channels) + 2147483648
    a, b, c, d = tl.philox(
        seed, _low_word(image), _low_word(image >> 32), _low_word(channel), _low_word(at % quads)
    )  # fmt: skip
    first, second = _box_muller(a, b)
    third, fourth = _box_muller(c, d)
    values = tl.reshape(tl.join(tl.join(first, third), tl.join(second, fourth)), (4 * BLOCK,))
    to = 4 * start + tl.arange(0, 4 * BLOCK)
    if DENSE:  # the counters of a plane end with it
        tl.store(out + to, values, mask=to < 4 * count)
    else:
        pixel = to % (4 * quads)
        tl.store(out + to // (4 * quads) * pixels + pixel, values, mask=(to < 4 * count) & (pixel < pixels))


INTERPRETED = not isinstance(gaussian_kernel, triton.JITFunction)  # TRITON_INTERPRET=1 when triton was imported


def gaussian(image_ids: Tensor, channels: int, height: int, width: int, seed: int) -> Tensor:
    """The reference's values in float32 arithmetic."""
    out = torch.empty((len(image_ids), channels, height, width), dtype=torch.float32, device=image_ids.device)
    if out.numel():
        _on_device(image_ids, gaussian_launch(out, image_ids, seed))
    return out


def gaussian_launch(out: Tensor, image_ids: Tensor, seed: int) -> Launch:
    """The launch that fills out (n, c, h, w)."""
    n, c, h, w = out.shape
    quads = triton.cdiv(h * w, 4)
    return Launch(
        gaussian_kernel,
        (triton.cdiv(n * c * quads, _BLOCK),),
        {
            "out": out, "image_ids": image_ids, "stride_n": image_ids.stride(0), "count": n * c * quads,
            "channels": c, "pixels": h * w, "quads": quads, "seed": seed, "DENSE": h * w % 4 == 0, "BLOCK": _BLOCK,
        },
        _WARPS,
    )  # fmt: skip


def band_noise(
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
    """The reference's answer in float32 arithmetic, laid out channels_last or contiguous."""
    pixels = _planes.pixels_of(images).contiguous()
    c, h, w = images.shape[1:]
    out = _planes.empty(images, len(masks), dtype, channels_last=channels_last)

    def run() -> None:
        def noise(part: slice) -> Tensor:
            return gaussian(image_ids[part], c, h, w, seed)

        for bands, part, planes, squares in filtered(noise, images.shape, masks, energy=True):
            gain = _reference.gain_to(squares.sqrt(), norm)
            offset = torch.zeros_like(gain)
            finish_launch(out[bands, part], planes, gain, offset, pixels[part], clip=clip, mean=mean, std=std)()

    _on_device(images, run)
    return out
