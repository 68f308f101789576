"""`dwt2` and `idwt2` on a CPU: compiled code for float32 where numba is there, else the reference."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastfreq_kernels import simd
from fastfreq_kernels._threads import each_in_threads

from . import _geometry, _reference

_VALUES = 1 << 16  # of planes that a thread takes at a time: small planes go together


def dwt2(
    images: Tensor, low: Sequence[float], high: Sequence[float], mode: str, shrink: str, threshold: float
) -> Tensor:
    """The reference's answer."""
    code = _code(images)
    if code is None:
        return _reference.dwt2(images, low, high, mode, shrink, threshold)
    (n, c, h, w), taps = images.shape, len(low)
    rows, columns = (_geometry.length(side, taps, mode) for side in (h, w))
    out = images.new_empty((n, c, 4, rows, columns))
    kind, _, rectified = shrink.partition(" ")
    limit = np.float32(threshold)
    settings = code.Shrink(
        ("", "hard", "soft").index(kind), bool(rectified), limit, np.nextafter(limit, np.float32(np.inf))
    )
    along = _along(code, w, low, high, mode)
    flat, starts, stride, tail = _planes(images.detach(), 2 * code.LANES)
    across = _across(code, h, stride, low, high, mode)
    target, local = out.view(-1).numpy(), threading.local()

    def run(plane: int) -> None:
        if not hasattr(local, "work"):
            local.work = torch.zeros(2, 2 * along.half).numpy()
        source, start = (tail, 0) if plane == len(starts) - 1 else (flat, starts[plane])
        code.analyse(source, start, across, along, settings, target, plane * 4 * rows * columns, local.work)

    _each(run, len(starts), h * w)
    return out


def idwt2(approximation: Tensor, details: Tensor, low: Sequence[float], high: Sequence[float], mode: str) -> Tensor:
    """The reference's answer."""
    code = _code(details)
    if code is None:
        return _reference.idwt2(approximation, details, low, high, mode)
    n, c, _, rows, columns = details.shape
    taps = len(low)
    across, along = (
        code.Back(
            _geometry.restored(side, taps, mode), *_geometry.synthesis(side, taps, mode), *map(_floats, (low, high))
        )
        for side in (rows, columns)
    )
    out = details.new_empty((n, c, across.size, along.size))
    smooth, places, stride, end = _planes(approximation.detach(), 2 * code.LANES)
    bands, starts, _, tail = _planes(details.detach(), 2 * code.LANES)
    target, local = out.view(-1).numpy(), threading.local()

    def run(plane: int) -> None:
        if not hasattr(local, "work"):
            local.work = torch.zeros(3, 2 * len(along.source) + along.size + 8 * code.LANES).numpy()
        last, place = plane == len(starts) - 1, plane * across.size * along.size
        one = (end, 0, stride) if last else (smooth, places[plane], stride)
        three = (tail, 0) if last else (bands, starts[plane])
        code.synthesise(*one, *three, columns, rows * columns, across, along, target, place, local.work)

    _each(run, len(starts), across.size * along.size)
    return out


def _code(x: Tensor) -> Any:
    if x.dtype != torch.float32:
        return None
    return simd.compiled("dwt2", "wavelet transforms take ten times as long")


def _floats(taps: Sequence[float]) -> Any:
    return np.array(taps, np.float32)


def _across(code: Any, h: int, stride: int, low: Sequence[float], high: Sequence[float], mode: str) -> Any:
    """The extension across rows, `stride` numbers apart, folded into the filters."""
    taps = len(low)
    table = _geometry.analysis(h, taps, mode)
    at = 2 * np.arange(_geometry.length(h, taps, mode))[:, None] + np.arange(taps)
    ends = np.broadcast_to([0, h - 1], (len(at), 2))
    starts = np.concatenate([table.source[at], ends], axis=1) * stride
    filters = []
    for each in (low, high):
        weights = np.array(each)[::-1]
        edges = np.stack([table.first[at] @ weights, table.last[at] @ weights], axis=1)
        filters.append(np.concatenate([table.scale[at] * weights, edges], axis=1).astype(np.float32))
    extrapolated = (table.first[at] != 0).any(axis=1) | (table.last[at] != 0).any(axis=1)
    return code.Across(taps + 2 * extrapolated.astype(np.int64), np.ascontiguousarray(starts), *filters)


def _along(code: Any, w: int, low: Sequence[float], high: Sequence[float], mode: str) -> Any:
    """The extension along rows, of the samples beyond a row's own."""
    taps = len(low)
    table = _geometry.analysis(w, taps, mode)
    extended, begin = len(table.source), table.before
    half = -(-(max(extended, w + begin) // 2 + 4 * code.LANES) // code.LANES) * code.LANES
    at = np.arange(max(extended, begin + w))
    place = at // 2 + at % 2 * half
    beyond = np.concatenate([np.arange(begin), np.arange(begin + w, extended)])
    return code.Along(
        w, _geometry.length(w, taps, mode), begin, half, place[beyond], place[begin + table.source[beyond]],
        *(np.ascontiguousarray(each[beyond]) for each in table[2:]), place[[begin, begin + w - 1]],
        *(_floats(each[::-1]) for each in (low, high)),
    )  # fmt: skip


def _planes(x: Tensor, beyond: int) -> tuple[Any, list[int], int, Any]:
    """Planes x[i, j] as compiled code reads them, which may read `beyond` numbers past them.

    Returns:
        All numbers, where each plane starts, how far its rows are apart, and the last plane with zeros behind.
    """
    if not x.numel():
        return np.zeros(0, np.float32), [], 0, None
    if not (x[0, 0].is_contiguous() or (x.ndim == 4 and x.stride(3) == 1 and x.stride(2) > x.shape[3])):
        x = x.contiguous()
    plane = x[0, 0]
    size = 1 + sum((side - 1) * step for side, step in zip(plane.shape, plane.stride(), strict=True))
    starts = [i * x.stride(0) + j * x.stride(1) for i in range(x.shape[0]) for j in range(x.shape[1])]
    flat = x.as_strided((max(starts) + size,), (1,))
    tail = torch.cat([flat[starts[-1] : starts[-1] + size], flat.new_zeros(beyond)])
    return flat.numpy(), starts, plane.stride(-2), tail.numpy()


def _each(run: Any, planes: int, size: int) -> None:
    many = max(1, _VALUES // max(1, size))

    def some(start: int) -> None:
        for plane in range(start, min(planes, start + many)):
            run(plane)

    if planes:
        each_in_threads([lambda start=start: some(start) for start in range(0, planes, many)])
