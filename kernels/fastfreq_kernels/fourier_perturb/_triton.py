"""`fourier_perturb` on a GPU: every output element is written once, with 16-byte stores where rows allow it.

Three kernels. `tables_kernel` writes cos and sin of the row and column angles of every frequency, from integers
reduced exactly; `signs_kernel` draws the signs; `perturb_kernel` keeps a tile of one image in registers and writes it
for several frequencies, with cos(a + b) = cos a cos b - sin a sin b.

Per frequency and image of e = c h w elements, b bytes each:
    written      e b            the output, the only traffic that grows with frequencies x images
    read         e b_in / 8     the image, once for eight frequencies, mostly from L2; images in another layout than
                                the output's, and bytes, are copied first, once for all frequencies
                 8 (h + w c)    the tables, from L1 and L2
    arithmetic   6 e            two FMA for the wave, two for the clip, one FMA for the normalisation, half a cast
At 8 flops per element (an FMA is two) and 2 bytes, 4 flops per byte: bandwidth bounds it on every GPU with more than
4 flops per byte of fp32 vector throughput, an H200 having 14.

Signs are drawn by their own kernel, not in `perturb_kernel`: there, Philox's hundred integer instructions would be
repeated by every lane for its 32 elements, half as many again as everything else; here they cost one byte each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastfreq_kernels import _configs, _philox, _planes
from fastfreq_kernels._device import turn, words
from fastfreq_kernels._launch import Launch, run_on
from fastfreq_kernels._output import Output


@triton.jit(do_not_specialize=["h", "w"])  # a side of 1 would be a constant, which has no `.to`
def tables_kernel(
    rows, columns, frequencies, stride_f, stride_k, h, w, blocks, amplitude, own_amplitude, cos_phase, sin_phase,
    C: tl.constexpr, ROW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Rows (f, 2, h), with amplitude and phase, and columns (f, 2, ROW), each repeated C times: cos, then sin."""
    f = (tl.program_id(0) // blocks).to(tl.int64)
    at = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    high, wide = h.to(tl.int64), w.to(tl.int64)
    ky = tl.load(frequencies + f * stride_f)
    kx = tl.load(frequencies + f * stride_f + stride_k)
    ky, kx = (ky % high + high) % high, (kx % wide + wide) % wide
    own_twin = ((2 * ky) % high == 0) & ((2 * kx) % wide == 0)  # self-conjugate: a real basis image without phase
    scale = tl.where(own_twin, own_amplitude, amplitude)
    real = tl.where(own_twin, 1.0, cos_phase) * scale
    imaginary = tl.where(own_twin, 0.0, sin_phase) * scale

    cos, sin = turn(ky, at, high)
    tl.store(rows + 2 * f * high + at, cos * real - sin * imaginary, mask=at < high)
    tl.store(rows + (2 * f + 1) * high + at, sin * real + cos * imaginary, mask=at < high)
    cos, sin = turn(kx, at // C, wide)
    tl.store(columns + 2 * f * ROW + at, cos, mask=at < ROW)
    tl.store(columns + (2 * f + 1) * ROW + at, sin, mask=at < ROW)


@triton.jit(do_not_specialize=["seed", "kind"])
def signs_kernel(
    out, image_ids, frequencies, stride_n, stride_f, stride_k, count, n, channels, h, w, seed, kind,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Signs (f, n, channels): the top bit of Philox."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    f, channel = at // channels // n, at % channels
    image = tl.load(image_ids + (at // channels % n) * stride_n, mask=inside, other=0)
    ky = tl.load(frequencies + f * stride_f, mask=inside, other=0)
    kx = tl.load(frequencies + f * stride_f + stride_k, mask=inside, other=0)
    wave = ((ky % h + h) % h) * 65536 + (kx % w + w) % w
    word, _, _, _ = words(seed, kind, image, channel, wave)
    tl.store(out + at, 1 - 2 * (word >> 31).to(tl.int8), mask=inside)


@triton.jit
def perturb_kernel(
    out, images, rows, columns, signs, mean, std, n, f, h, sign_f, sign_n, sign_c,
    C: tl.constexpr, ROW: tl.constexpr, CHANNELS_LAST: tl.constexpr, CLIP: tl.constexpr, NORMALISE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, FREQUENCIES: tl.constexpr,
):  # fmt: skip
    """One tile of one plane (an image, or a channel of it when contiguous) at FREQUENCIES frequencies.

    Images are laid out as the output is: neighbours in the tile are neighbours in memory.
    """
    column_tiles: tl.constexpr = (ROW + COLUMNS - 1) // COLUMNS
    row_tiles = tl.cdiv(h, ROWS)
    planes = n if CHANNELS_LAST else n * C
    pid = tl.program_id(0)
    first_column = pid % column_tiles * COLUMNS
    first_row = (pid // column_tiles % row_tiles * ROWS).to(tl.int64)
    pid = pid // (column_tiles * row_tiles)
    plane, first_frequency = (pid % planes).to(tl.int64), (pid // planes).to(tl.int64) * FREQUENCIES

    y, j = (first_row + tl.arange(0, ROWS))[:, None], (first_column + tl.arange(0, COLUMNS))[None, :]
    if CHANNELS_LAST:
        image, channel = plane, j % C
    else:
        image, channel = plane // C, plane % C
    inside = (y < h) & (j < ROW)
    local = tl.arange(0, ROWS)[:, None] * ROW + tl.arange(0, COLUMNS)[None, :]
    start = (plane * h + first_row) * ROW + first_column
    pixels = tl.load(images + start + local, mask=inside, other=0).to(tl.float32)
    gain, shift = 1.0, 0.0
    if NORMALISE:
        gain = 1 / tl.load(std + channel).to(tl.float32)
        shift = -tl.load(mean + channel).to(tl.float32) * gain

    for k in range(first_frequency, tl.minimum(first_frequency + FREQUENCIES, f)):
        row_cos = tl.load(rows + 2 * k * h + y, mask=y < h, other=0)
        row_sin = tl.load(rows + (2 * k + 1) * h + y, mask=y < h, other=0)
        sign = tl.load(signs + k * sign_f + image * sign_n + channel * sign_c).to(tl.float32)
        column_cos = tl.load(columns + 2 * k * ROW + j, mask=j < ROW, other=0) * sign
        column_sin = tl.load(columns + (2 * k + 1) * ROW + j, mask=j < ROW, other=0) * sign
        value = pixels + row_cos * column_cos - row_sin * column_sin
        if CLIP:  # a NaN in the image stays one
            value = tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL)
            value = tl.minimum(value, 1.0, propagate_nan=tl.PropagateNan.ALL)
        if NORMALISE:
            value = value * gain + shift
        tl.store(out + k * planes * h * ROW + start + local, value.to(out.dtype.element_ty), mask=inside)


def perturb(images: Tensor, frequencies: Tensor, signs: Tensor, eps: float, phase: float, output: Output) -> Tensor:
    """Launch the tables and the perturbation; nothing waits for the GPU."""
    out = output.empty(images, len(frequencies) * len(images))
    if out.numel():
        run_on(images, lambda: launches(out, images, frequencies, signs, eps, phase, output))
    return out


def launches(
    out: Tensor, images: Tensor, frequencies: Tensor, signs: Tensor, eps: float, phase: float, output: Output
) -> list[Launch]:
    """The launches that fill `out` (f n, c, h, w), of `output.empty`."""
    channels_last, normalised = output.channels_last, output.mean is not None
    n, c, h, w = images.shape
    f, row = len(frequencies), w * c if channels_last else w
    repeated = c if channels_last else 1
    blocks = triton.cdiv(max(h, row), _configs.TABLES_BLOCK)
    rows = torch.empty((f, 2, h), dtype=torch.float32, device=images.device)
    columns = torch.empty((f, 2, row), dtype=torch.float32, device=images.device)
    tables = Launch(
        tables_kernel,
        (f * blocks,),
        {
            "rows": rows, "columns": columns, "frequencies": frequencies,
            "stride_f": frequencies.stride(0), "stride_k": frequencies.stride(1), "h": h, "w": w, "blocks": blocks,
            "amplitude": eps * math.sqrt(2 / (h * w)), "own_amplitude": eps * math.sqrt(1 / (h * w)),
            "cos_phase": math.cos(phase), "sin_phase": math.sin(phase),
            "C": repeated, "ROW": row, "BLOCK": _configs.TABLES_BLOCK,
        },
        4,
    )  # fmt: skip

    tile = _configs.perturb_tile(h, row)
    planes = n if channels_last else n * c
    tiles = triton.cdiv(h, tile.rows) * triton.cdiv(row, tile.columns)
    main = Launch(
        perturb_kernel,
        (tiles * planes * triton.cdiv(f, tile.frequencies),),
        {
            "out": out, "images": _laid_out(images, channels_last), "rows": rows, "columns": columns, "signs": signs,
            "mean": output.mean if normalised else rows, "std": output.std if normalised else rows,  # not read without
            "n": n, "f": f, "h": h,
            "sign_f": signs.stride(0), "sign_n": signs.stride(1), "sign_c": signs.stride(2),
            "C": c, "ROW": row, "CHANNELS_LAST": channels_last, "CLIP": output.clip, "NORMALISE": normalised,
            "ROWS": tile.rows, "COLUMNS": tile.columns, "FREQUENCIES": tile.frequencies,
        },
        tile.warps,
    )  # fmt: skip
    return [tables, main]


def _laid_out(images: Tensor, channels_last: bool) -> Tensor:
    """The images as a program reads them, a copy where they are not.

    A program that gathers pixels from another layout, or from bytes, has five times the loads at every frequency.
    """
    pixels = _planes.pixels_of(images) if images.dtype == torch.uint8 else images
    return (pixels.movedim(1, -1) if channels_last else pixels).contiguous()


def signs(image_ids: Tensor, frequencies: Tensor, shape: Sequence[int], seed: int, domain: int) -> Tensor:
    """Draw the signs (f, n, channels)."""
    out = torch.empty((len(frequencies), len(image_ids), shape[0]), dtype=torch.int8, device=image_ids.device)
    if out.numel():
        run_on(image_ids, lambda: [signs_launch(out, image_ids, frequencies, shape, seed, domain)])
    return out


def signs_launch(
    out: Tensor, image_ids: Tensor, frequencies: Tensor, shape: Sequence[int], seed: int, domain: int
) -> Launch:
    """The launch that fills `out`."""
    return Launch(
        signs_kernel,
        (triton.cdiv(out.numel(), _configs.SIGNS_BLOCK),),
        {
            "out": out, "image_ids": image_ids, "frequencies": frequencies, "stride_n": image_ids.stride(0),
            "stride_f": frequencies.stride(0), "stride_k": frequencies.stride(1),
            "count": out.numel(), "n": out.shape[1], "channels": out.shape[2], "h": shape[1], "w": shape[2],
            "seed": seed, "kind": _philox.stream(_philox.SIGNS, domain), "BLOCK": _configs.SIGNS_BLOCK,
        },
        4,
    )  # fmt: skip
