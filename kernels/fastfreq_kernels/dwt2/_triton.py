"""`dwt2` and `idwt2` on a GPU: a program makes a tile of all four bands, or a tile of the image, of one plane.

It goes through the rows that its tile needs, one at a time: both filters along the row, whose columns the tables of
`_geometry` name, and then the row's share in every row of the tile. Nothing stands between images and coefficients, and
no sum is left to atomics. Filters and tables are copied to a device once and kept.

Per pixel of a plane, with F taps and tiles of R rows, of four bytes:
    analysis     4 (2 R + F - 2) / 2 R   bytes read, 4 written; (2 R + F - 2) / 2 R (2 F + 4 R) / 2 multiplications
    synthesis    4 (R + F - 2) / R       bytes read, 4 written
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastfreq_kernels import _configs
from fastfreq_kernels._launch import Launch, check_image, run_on

from . import _geometry


@triton.jit
def _analysed_row(
    row, low, high, columns, scales, firsts, lasts, at, inside, w, TAPS: tl.constexpr, EXTRAPOLATE: tl.constexpr
):  # fmt: skip
    """Both filters along a row, to the coefficients whose first extended sample is `at`."""
    first = tl.load(row)
    last = tl.load(row + w - 1)
    a = tl.zeros_like(at).to(first.dtype)
    d = tl.zeros_like(a)
    for j in range(TAPS):
        index = tl.load(columns + at + j, mask=inside, other=0)
        value = tl.load(row + index, mask=inside, other=0.0)
        value *= tl.load(scales + at + j, mask=inside, other=0.0).to(value.dtype)
        if EXTRAPOLATE:
            value += tl.load(firsts + at + j, mask=inside, other=0.0).to(value.dtype) * first
            value += tl.load(lasts + at + j, mask=inside, other=0.0).to(value.dtype) * last
        a += tl.load(low + j) * value
        d += tl.load(high + j) * value
    return a, d


@triton.jit
def _shrunk(value, threshold, SOFT: tl.constexpr, RECTIFIED: tl.constexpr):
    magnitude = tl.abs(value)
    left = magnitude
    if SOFT:
        left = magnitude - threshold
    if not RECTIFIED:
        left = tl.where(value < 0, -left, left)
    return tl.where(magnitude <= threshold, 0.0, left)


@triton.jit
def analyse_kernel(
    out, images, low, high, threshold, c, h, w, image_stride, channel_stride, high_out, wide_out, extended,
    rows, row_scales, row_firsts, row_lasts, columns, column_scales, column_firsts, column_lasts,
    TAPS: tl.constexpr, EXTRAPOLATE: tl.constexpr, SHRINK: tl.constexpr, SOFT: tl.constexpr, RECTIFIED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """A tile of the bands (4, high_out, wide_out) of one plane; filters last tap first."""
    across, down = tl.cdiv(wide_out, COLUMNS), tl.cdiv(high_out, ROWS)
    pid = tl.program_id(0)
    plane = (pid // across // down).to(tl.int64)
    top = pid // across % down * ROWS
    o, p = top + tl.arange(0, ROWS), pid % across * COLUMNS + tl.arange(0, COLUMNS)
    inside = p < wide_out
    source = images + plane // c * image_stride + plane % c * channel_stride
    aa = tl.zeros((ROWS, COLUMNS), dtype=images.dtype.element_ty)
    da, ad, dd = aa, aa, aa
    begin_low = tl.zeros((ROWS,), dtype=images.dtype.element_ty)
    begin_high, end_low, end_high = begin_low, begin_low, begin_low
    for t in range(2 * ROWS + TAPS - 2):
        at = 2 * top + t
        valid = at < extended
        row = source + tl.load(rows + at, mask=valid, other=0) * w
        a, d = _analysed_row(
            row, low, high, columns, column_scales, column_firsts, column_lasts, 2 * p, inside, w, TAPS, EXTRAPOLATE
        )
        tap = t - 2 * tl.arange(0, ROWS)
        used = (tap >= 0) & (tap < TAPS)
        f, g = tl.load(low + tap, mask=used, other=0.0), tl.load(high + tap, mask=used, other=0.0)
        if EXTRAPOLATE:
            begin = tl.load(row_firsts + at, mask=valid, other=0.0).to(f.dtype)
            end = tl.load(row_lasts + at, mask=valid, other=0.0).to(f.dtype)
            begin_low += f * begin
            begin_high += g * begin
            end_low += f * end
            end_high += g * end
        scale = tl.load(row_scales + at, mask=valid, other=0.0).to(f.dtype)
        f *= scale
        g *= scale
        aa += f[:, None] * a[None, :]
        da += g[:, None] * a[None, :]
        ad += f[:, None] * d[None, :]
        dd += g[:, None] * d[None, :]
    if EXTRAPOLATE:
        for end in range(2):
            row = source + end * (h - 1) * w
            a, d = _analysed_row(
                row, low, high, columns, column_scales, column_firsts, column_lasts, 2 * p, inside, w, TAPS, EXTRAPOLATE
            )
            f, g = tl.where(end == 0, begin_low, end_low), tl.where(end == 0, begin_high, end_high)
            aa += f[:, None] * a[None, :]
            da += g[:, None] * a[None, :]
            ad += f[:, None] * d[None, :]
            dd += g[:, None] * d[None, :]
    if SHRINK:
        limit = tl.load(threshold)
        da, ad = _shrunk(da, limit, SOFT, RECTIFIED), _shrunk(ad, limit, SOFT, RECTIFIED)
        dd = _shrunk(dd, limit, SOFT, RECTIFIED)
    band = tl.cast(high_out, tl.int64) * wide_out
    target = out + 4 * plane * band + (o[:, None] * wide_out + p[None, :])
    kept = (o < high_out)[:, None] & inside[None, :]
    tl.store(target, aa, mask=kept)
    tl.store(target + band, da, mask=kept)
    tl.store(target + 2 * band, ad, mask=kept)
    tl.store(target + 3 * band, dd, mask=kept)


@triton.jit
def synthesise_kernel(
    out, smooth, details, low, high, c, wide_in, band, image_stride, channel_stride, row_stride, image_step,
    channel_step, h, w, rows, row_before, row_shift, row_extended, columns, column_before, column_shift,
    TAPS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """A tile of the plane (h, w) of an approximation, strides in front, and three bands of rows of wide_in."""
    across, down = tl.cdiv(w, COLUMNS), tl.cdiv(h, ROWS)
    pid = tl.program_id(0)
    plane = (pid // across // down).to(tl.int64)
    i = pid // across % down * ROWS + tl.arange(0, ROWS)
    x = pid % across * COLUMNS + tl.arange(0, COLUMNS)
    inside = x < w
    smooth += plane // c * image_stride + plane % c * channel_stride
    details += plane // c * image_step + plane % c * channel_step
    u, v = i + row_shift, x + column_shift
    top = row_before + (pid // across % down * ROWS + row_shift) // 2 - TAPS // 2 + 1
    total = tl.zeros((ROWS, COLUMNS), dtype=out.dtype.element_ty)
    for step in range(ROWS // 2 + TAPS // 2):
        k = top + step
        valid = (k >= 0) & (k < row_extended)
        index = tl.load(rows + k, mask=valid, other=0)
        row, three = smooth + index * row_stride, details + index * wide_in
        a = tl.zeros((COLUMNS,), dtype=out.dtype.element_ty)
        d = a
        for q in range(TAPS // 2):
            at = tl.load(columns + column_before + v // 2 - q, mask=inside, other=0)
            f = tl.load(low + 2 * q + v % 2)
            g = tl.load(high + 2 * q + v % 2)
            a += f * tl.load(row + at, mask=inside, other=0.0)
            a += g * tl.load(three + band + at, mask=inside, other=0.0)
            d += f * tl.load(three + at, mask=inside, other=0.0)
            d += g * tl.load(three + 2 * band + at, mask=inside, other=0.0)
        tap = u - 2 * (k - row_before)
        used = (tap >= 0) & (tap < TAPS)  # by a row of the plane only where k is valid
        f, g = tl.load(low + tap, mask=used, other=0.0), tl.load(high + tap, mask=used, other=0.0)
        total += f[:, None] * a[None, :] + g[:, None] * d[None, :]
    target = out + plane * h * w + (i[:, None] * w + x[None, :])
    tl.store(target, total, mask=(i < h)[:, None] & inside[None, :])


def dwt2(
    images: Tensor, low: Sequence[float], high: Sequence[float], mode: str, shrink: str, threshold: float
) -> Tensor:
    """The reference's answer."""
    n, c, h, w = images.shape
    size = (_geometry.length(side, len(low), mode) for side in (h, w))
    out = images.new_empty((n, c, 4, *size))
    run_on(images, lambda: analyse_launches(out, images, low, high, mode, shrink, threshold))
    return out


def idwt2(approximation: Tensor, details: Tensor, low: Sequence[float], high: Sequence[float], mode: str) -> Tensor:
    """The reference's answer."""
    n, c, _, h, w = details.shape
    size = (_geometry.restored(side, len(low), mode) for side in (h, w))
    out = details.new_empty((n, c, *size))
    run_on(details, lambda: synthesise_launches(out, approximation, details, low, high, mode))
    return out


def analyse_launches(
    out: Tensor, images: Tensor, low: Sequence[float], high: Sequence[float], mode: str, shrink: str, threshold: float
) -> Iterator[Launch]:
    """The launch that fills out (n, c, 4, h', w'), or none."""
    images = images if images[:1, :1].is_contiguous() else images.contiguous()
    n, c, h, w = images.shape
    check_image(max(h * w, out[:1, :1].numel()))
    rows, columns = (_table(side, len(low), mode, images.device) for side in (h, w))
    kind, _, rectified = shrink.partition(" ")
    high_out, wide_out = out.shape[3:]
    if out.numel():
        yield Launch(
            analyse_kernel,
            (triton.cdiv(wide_out, _configs.WAVELET_COLUMNS) * triton.cdiv(high_out, _configs.WAVELET_ROWS) * n * c,),
            {
                "out": out, "images": images, "low": _filter(low, True, images), "high": _filter(high, True, images),
                "threshold": _filter([threshold], False, images), "c": c, "h": h, "w": w,
                "image_stride": images.stride(0),
                "channel_stride": images.stride(1), "high_out": high_out, "wide_out": wide_out,
                "extended": len(rows[0]), "rows": rows[0], "row_scales": rows[1], "row_firsts": rows[2],
                "row_lasts": rows[3], "columns": columns[0], "column_scales": columns[1], "column_firsts": columns[2],
                "column_lasts": columns[3], "TAPS": len(low), "EXTRAPOLATE": mode in _geometry.EXTRAPOLATE,
                "SHRINK": bool(kind), "SOFT": kind == "soft", "RECTIFIED": bool(rectified),
                "ROWS": _configs.WAVELET_ROWS, "COLUMNS": _configs.WAVELET_COLUMNS,
            },
            _configs.WAVELET_WARPS,
            together=int(len(low) > 16),  # all the registers that long filters want
        )  # fmt: skip


def synthesise_launches(
    out: Tensor, smooth: Tensor, details: Tensor, low: Sequence[float], high: Sequence[float], mode: str
) -> Iterator[Launch]:
    """The launch that fills out (n, c, h, w), or none."""
    details = details if details[:1, :1].is_contiguous() else details.contiguous()
    smooth = smooth if smooth.stride(3) == 1 else smooth.contiguous()
    n, c, _, high_in, wide_in = details.shape
    check_image(max(3 * high_in * wide_in, high_in * smooth.stride(2), out[:1, :1].numel()))
    down, along = (_geometry.synthesis(side, len(low), mode) for side in (high_in, wide_in))
    h, w = out.shape[2:]
    rows, columns = (_index(side, len(low), mode, out.device) for side in (high_in, wide_in))
    if out.numel():
        yield Launch(
            synthesise_kernel,
            (triton.cdiv(w, _configs.WAVELET_COLUMNS) * triton.cdiv(h, _configs.WAVELET_ROWS) * n * c,),
            {
                "out": out, "smooth": smooth, "details": details, "low": _filter(low, False, out),
                "high": _filter(high, False, out), "c": c, "wide_in": wide_in, "band": high_in * wide_in,
                "image_stride": smooth.stride(0), "channel_stride": smooth.stride(1), "row_stride": smooth.stride(2),
                "image_step": details.stride(0), "channel_step": details.stride(1), "h": h, "w": w, "rows": rows,
                "row_before": down.before, "row_shift": down.shift, "row_extended": len(down.source),
                "columns": columns, "column_before": along.before, "column_shift": along.shift, "TAPS": len(low),
                "ROWS": _configs.WAVELET_ROWS, "COLUMNS": _configs.WAVELET_COLUMNS,
            },
            _configs.WAVELET_WARPS,
        )  # fmt: skip


def _filter(taps: Sequence[float], reverse: bool, like: Tensor) -> Tensor:
    return _taps(tuple(taps[::-1] if reverse else taps), like.dtype, like.device)


@functools.lru_cache(maxsize=256)
def _taps(taps: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(taps, dtype=dtype).to(device)


@functools.lru_cache(maxsize=256)
def _table(n: int, taps: int, mode: str, device: torch.device) -> tuple[Tensor, ...]:
    index, *weights = _geometry.analysis(n, taps, mode)[1:]
    return torch.from_numpy(index).int().to(device), *(torch.from_numpy(each).to(device) for each in weights)


@functools.lru_cache(maxsize=256)
def _index(n: int, taps: int, mode: str, device: torch.device) -> Tensor:
    return torch.from_numpy(_geometry.synthesis(n, taps, mode).source).int().to(device)
