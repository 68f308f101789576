"""`filter_bands` on a GPU, and what `band_noise` shares with it: what stands around cuFFT's transforms.

`mask_kernel` writes a plane's spectrum under several masks and, in the same read, the energy that each leaves, which
by Parseval is the variance of the filtered plane: the planes are not read again for their contrast or norm.
`finish_kernel` takes the planes to the network's input: gain, offset, image, clip, normalisation, cast, layout.
No sum is left to atomics, so equal calls give equal bits.

Per band and plane of p = h w pixels, of which the spectrum has half as many complex cells, b bytes in the result:
    mask         4 p + 4 p / 8    written, and the spectrum read once for eight bands; masks are shared by all planes
    transform    cuFFT's          a copy, columns, rows
    finish       4 p + b p        read and written
    arithmetic   12 p             flops, next to 5/2 p log2(p) of the transform
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastfreq_kernels import _configs, _planes
from fastfreq_kernels._launch import Launch, check_image, run_on
from fastfreq_kernels._output import Output

_PLANES_BYTES = 256 << 20  # of filtered planes at a time; bounds the memory between the kernels


@triton.jit
def mask_kernel(
    out, energy, spectrum, masks, planes, bands, cells, half, width,
    ENERGY: tl.constexpr, BANDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A block of one plane of spectrum (planes, 2 cells) times masks (bands, cells): out (bands, planes, 2 cells).

    energy (bands, planes, blocks) gets the sum of squares of the block, over the whole plane of frequencies.
    """
    size = 2 * cells
    blocks = tl.cdiv(size, BLOCK)
    pid = tl.program_id(0)
    block, plane, first = pid % blocks, (pid // blocks % planes).to(tl.int64), pid // blocks // planes * BANDS
    at = block * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    value = tl.load(spectrum + plane * size + at, mask=inside, other=0.0)
    column = at // 2 % half
    weight = tl.where((column == 0) | (2 * column == width), 1.0, 2.0)  # a cell stands for its twin, if it has one
    for i in range(tl.minimum(BANDS, bands - first)):
        band = first + i
        kept = value * tl.load(masks + band * cells + at // 2, mask=inside, other=0.0)
        row = plane + band * tl.cast(planes, tl.int64)
        tl.store(out + row * size + at, kept, mask=inside)
        if ENERGY:
            tl.store(energy + row * blocks + block, tl.sum(weight * kept * kept, axis=0))


@triton.jit
def finish_kernel(
    out, planes, images, gain, offset, mean, std, rows, sources, size, pixels, out_band,
    C: tl.constexpr, CHANNELS_LAST: tl.constexpr, BASE: tl.constexpr, CLIP: tl.constexpr, NORMALISE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """A block of one of `rows` images (of a channel of it when contiguous) of a band, `size` elements of out.

    planes (bands, sources, pixels), with gain and offset (bands, sources); images (sources, pixels), sources being
    images x channels.
    """
    blocks = tl.cdiv(size, BLOCK)
    pid = tl.program_id(0)
    at = pid % blocks * BLOCK + tl.arange(0, BLOCK)
    band, row = (pid // blocks // rows).to(tl.int64), (pid // blocks % rows).to(tl.int64)
    inside = at < size
    if CHANNELS_LAST:
        channel, pixel = at % C, at // C
        source = row * C + channel
    else:
        channel, pixel = row % C, at
        source = row + tl.zeros_like(at)
    plane = band * sources + source
    value = tl.load(planes + plane * pixels + pixel, mask=inside, other=0.0)
    value = value * tl.load(gain + plane, mask=inside, other=0.0) + tl.load(offset + plane, mask=inside, other=0.0)
    if BASE:
        value += tl.load(images + source * pixels + pixel, mask=inside, other=0.0)
    if CLIP:  # a NaN in the image stays one
        value = tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL)
        value = tl.minimum(value, 1.0, propagate_nan=tl.PropagateNan.ALL)
    if NORMALISE:
        value = (value - tl.load(mean + channel).to(tl.float32)) / tl.load(std + channel).to(tl.float32)
    tl.store(out + band * out_band + row * size + at, value.to(out.dtype.element_ty), mask=inside)


def filter_bands(images: Tensor, masks: Tensor, normalise_contrast: bool, output: Output) -> Tensor:
    """The reference's answer in float32 arithmetic."""
    pixels = _planes.pixels_of(images).contiguous()
    level = pixels.mean(dim=(-2, -1))  # most of a photograph: rounding errors are relative to what is transformed
    passed = masks[:, 0, 0].float()[:, None, None]
    out = output.empty(images, len(masks), len(images))

    def centred(part: slice) -> Tensor:
        return pixels[part] - level[part][..., None, None]

    def terms(bands: slice, part: slice, squares: Tensor) -> tuple[Tensor, Tensor]:
        offset = passed[bands] * level[part]
        if normalise_contrast:
            return _contrast(offset, squares, pixels[part])
        return torch.ones_like(offset), offset

    run_on(images, lambda: filtered_launches(out, centred, terms, masks, output, energy=normalise_contrast))
    return out


def _contrast(means: Tensor, squares: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """(gain, offset) (b, m, c) of planes of these means and sums of squares about them: see `_planes.contrast`."""
    level = means.mean(dim=-1, keepdim=True)
    within = squares.mean(dim=-1, keepdim=True) / pixels[0, 0].numel()
    deviation = (within + (means - level).square().mean(dim=-1, keepdim=True)).sqrt()
    wanted, aim = (t[..., 0, 0] for t in torch.std_mean(pixels, dim=(-3, -2, -1), keepdim=True, correction=0))
    gain, offset = _planes.rescaling(deviation, level, wanted, aim)
    return gain.expand_as(means).contiguous(), gain * means + offset


def filtered_launches(
    out: Tensor, source: Callable[[slice], Tensor], terms: Callable[[slice, slice, Tensor], tuple[Tensor, Tensor]],
    masks: Tensor, output: Output, *, base: Tensor | None = None, energy: bool,
) -> Iterator[Launch]:  # fmt: skip
    """The launches that fill out (b, n, c, h, w), each to be run before the next is asked for.

    Args:
        out: of `output.empty`.
        source: images -> the float32 planes (m, c, h, w) that are filtered.
        terms: bands, images and the planes' sums of squares (b, m, c) -> gain and offset (b, m, c).
        masks: (b, h, w).
        output: what is made of gain plane + offset + base.
        base: (n, c, h, w) contiguous images, or None.
        energy: without it the sums of squares are not there to read.
    """
    n, c, h, w = out.shape[1:]
    check_image(max(c * h * w, 2 * h * (w // 2 + 1)))
    half = _planes.half_masks(masks).contiguous()
    each = c * h * w * 4
    images_each = max(1, min(n, _PLANES_BYTES // each))
    bands_each = max(1, _PLANES_BYTES // (images_each * each))
    for i in range(0, n if len(masks) else 0, images_each):
        part = slice(i, min(i + images_each, n))
        spectrum = torch.fft.rfft2(source(part)).contiguous()
        for j in range(0, len(masks), bands_each):
            bands = slice(j, j + bands_each)
            kept = spectrum.new_empty((len(half[bands]), *spectrum.shape))
            launch = mask_launch(torch.view_as_real(kept), torch.view_as_real(spectrum), half[bands], w, energy=energy)
            yield launch
            # the 1 / (h w) of the inverse transform stands in the masks; Parseval's h w beside it
            squares = launch.arguments["energy"].sum(dim=-1) * (h * w)
            planes = torch.fft.irfft2(kept, s=(h, w), norm="forward").contiguous()
            gain, offset = terms(bands, part, squares)
            here = None if base is None else base[part]
            yield finish_launch(out[bands, part], planes, gain, offset, here, output)


def mask_launch(out: Tensor, spectrum: Tensor, half: Tensor, width: int, *, energy: bool) -> Launch:
    """The launch that fills out (b, m, c, h, w // 2 + 1, 2), and its "energy" (b, m, c, blocks)."""
    m, c, h, halved, _ = spectrum.shape
    blocks = triton.cdiv(2 * h * halved, _configs.BANDS_BLOCK)
    sums = torch.empty((len(half), m, c, blocks if energy else 1), dtype=torch.float32, device=out.device)
    return Launch(
        mask_kernel,
        (blocks * m * c * triton.cdiv(len(half), _configs.BANDS_EACH),),
        {
            "out": out, "energy": sums, "spectrum": spectrum, "masks": half, "planes": m * c, "bands": len(half),
            "cells": h * halved, "half": halved, "width": width, "ENERGY": energy,
            "BANDS": _configs.BANDS_EACH, "BLOCK": _configs.BANDS_BLOCK,
        },
        _configs.BANDS_WARPS,
    )  # fmt: skip


def finish_launch(
    out: Tensor, planes: Tensor, gain: Tensor, offset: Tensor, images: Tensor | None, output: Output
) -> Launch:
    """The launch that fills out (b, m, c, h, w), part of `output.empty`.

    planes (b, m, c, h, w), gain and offset (b, m, c), and the images (m, c, h, w) added to every band, all contiguous.
    """
    b, m, c, h, w = planes.shape
    channels_last = output.channels_last and c > 1
    normalised = output.mean is not None  # else mean and std are not read
    rows, size = (m, c * h * w) if channels_last else (m * c, h * w)
    return Launch(
        finish_kernel,
        (triton.cdiv(size, _configs.BANDS_BLOCK) * rows * b,),
        {
            "out": out, "planes": planes, "images": planes if images is None else images, "gain": gain,
            "offset": offset, "mean": output.mean if normalised else gain, "std": output.std if normalised else gain,
            "rows": rows, "sources": m * c, "size": size, "pixels": h * w, "out_band": out.stride(0),
            "C": c, "CHANNELS_LAST": channels_last, "BASE": images is not None, "CLIP": output.clip,
            "NORMALISE": normalised, "BLOCK": _configs.BANDS_BLOCK,
        },
        _configs.FINISH_WARPS,
    )  # fmt: skip
