"""`fourier_waves` on a GPU: one launch for a batch, every element read and written once.

A program has a tile of one channel of one image. The cosines and sines of its rows and columns, from integers reduced
exactly, are made in place: cos(a + b) = cos a cos b - sin a sin b. No table is written, since none is used twice.

Per channel of h w pixels, b bytes each:
    read         b_in h w
    written      b h w
    arithmetic   6 h w, and some fifty for each row and column of a tile, mostly integers
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastfreq_kernels._device import turn
from fastfreq_kernels._launch import Launch, check_image, run_on

_ROWS, _COLUMNS, _WARPS = 16, 64, 4  # tile of one program; not yet measured on any GPU


@triton.jit(do_not_specialize=["h", "w"])  # a side of 1 would be a constant, which has no `.to`
def waves_kernel(
    out, images, frequencies, signs, strengths, channels, h, w, row, image_n, image_c, image_y, image_x,
    frequency_n, frequency_k, sign_n, sign_c, amplitude, cos_phase, sin_phase,
    UINT8: tl.constexpr, CLIP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """A tile of out (n, channels, h, w), contiguous, with rows of `row` = w; strengths (n,) contiguous, too."""
    wide, high = tl.cdiv(row, COLUMNS), tl.cdiv(h, ROWS)
    pid = tl.program_id(0)
    plane = (pid // (wide * high)).to(tl.int64)
    image, channel = plane // channels, plane % channels
    y = (pid // wide % high * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    j = pid % wide * COLUMNS + tl.arange(0, COLUMNS)
    x = j.to(tl.int64)
    inside = (y < h)[:, None] & (j < row)[None, :]

    rows, columns = h.to(tl.int64), w.to(tl.int64)
    ky = tl.load(frequencies + image * frequency_n)
    kx = tl.load(frequencies + image * frequency_n + frequency_k)
    ky, kx = (ky % rows + rows) % rows, (kx % columns + columns) % columns
    own_twin = ((2 * ky) % rows == 0) & ((2 * kx) % columns == 0)  # a real basis image without phase
    sign = tl.load(signs + image * sign_n + channel * sign_c).to(tl.float32)
    scale = sign * tl.load(strengths + image).to(tl.float32) * amplitude
    scale = tl.where(own_twin, scale * 0.7071067811865476, scale)
    real = tl.where(own_twin, 1.0, cos_phase) * scale
    imaginary = tl.where(own_twin, 0.0, sin_phase) * scale
    row_cos, row_sin = turn(ky, y, rows)
    column_cos, column_sin = turn(kx, x, columns)
    shifted_cos, shifted_sin = row_cos * real - row_sin * imaginary, row_sin * real + row_cos * imaginary

    at = image * image_n + channel * image_c + y[:, None] * image_y + x[None, :] * image_x
    value = tl.load(images + at, mask=inside, other=0).to(tl.float32)
    if UINT8:
        value = value / 255
    value = value + shifted_cos[:, None] * column_cos[None, :] - shifted_sin[:, None] * column_sin[None, :]
    if CLIP:  # a NaN in the image stays one
        value = tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL)
        value = tl.minimum(value, 1.0, propagate_nan=tl.PropagateNan.ALL)
    to = (plane * rows + y[:, None]) * row + j[None, :]
    tl.store(out + to, value.to(out.dtype.element_ty), mask=inside)


def waves(
    images: Tensor, frequencies: Tensor, signs: Tensor, strengths: Tensor, phase: float, clip: bool, dtype: torch.dtype
) -> Tensor:
    """As the reference, in float32 arithmetic; nothing waits for the GPU."""
    out = torch.empty(images.shape, dtype=dtype, device=images.device)
    if out.numel():
        run_on(images, lambda: [launch(out, images, frequencies, signs, strengths, phase, clip)])
    return out


def launch(
    out: Tensor, images: Tensor, frequencies: Tensor, signs: Tensor, strengths: Tensor, phase: float, clip: bool
) -> Launch:
    """The launch that fills `out`."""
    n, c, h, w = images.shape
    check_image(h * w)
    image_n, image_c, image_y, image_x = images.stride()
    return Launch(
        waves_kernel,
        (n * c * triton.cdiv(h, _ROWS) * triton.cdiv(w, _COLUMNS),),
        {
            "out": out, "images": images, "frequencies": frequencies, "signs": signs,
            "strengths": strengths.contiguous(), "channels": c, "h": h, "w": w, "row": w,
            "image_n": image_n, "image_c": image_c, "image_y": image_y, "image_x": image_x,
            "frequency_n": frequencies.stride(0), "frequency_k": frequencies.stride(1),
            "sign_n": signs.stride(0), "sign_c": signs.stride(1), "amplitude": math.sqrt(2 / (h * w)),
            "cos_phase": math.cos(phase), "sin_phase": math.sin(phase), "UINT8": images.dtype == torch.uint8,
            "CLIP": clip, "ROWS": _ROWS, "COLUMNS": _COLUMNS,
        },
        _WARPS,
    )  # fmt: skip
