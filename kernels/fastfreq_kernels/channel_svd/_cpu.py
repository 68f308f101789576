"""On a CPU: parts of the batch in threads, by LAPACK with one BLAS thread each, values alone by compiled code."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastfreq_kernels import simd
from fastfreq_kernels._taps import phase_tables
from fastfreq_kernels._threads import split_over_threads

from . import _reference

_TOGETHER = 9 << 20  # bytes of interleaved matrices up to which one lane per matrix beats lanes along its rows
_FEW = 4  # matrices that leave more lanes idle than that gains ...
_SMALL = 48  # ... and sides up to which LAPACK is then the quicker


def svd(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As the reference."""
    *batch, m, n = matrices.shape
    flat = matrices.reshape(-1, m, n)
    r = min(m, n)
    u, vh = flat.new_empty(len(flat), m, r), flat.new_empty(len(flat), r, n)
    s = torch.empty(len(flat), r, dtype=flat.real.dtype)

    def run(start: int, stop: int) -> None:
        u[start:stop], s[start:stop], vh[start:stop] = _reference.svd(flat[start:stop])

    _split(run, len(flat))
    return u.reshape(*batch, m, r), s.reshape(*batch, r), vh.reshape(*batch, r, n)


def singular_values(matrices: Tensor) -> Tensor:
    """Singular values alone."""
    *batch, m, n = matrices.shape
    flat = matrices.reshape(-1, m, n)
    s = torch.empty(len(flat), min(m, n), dtype=flat.real.dtype)
    if not _by_compiled_code(flat, s):

        def run(start: int, stop: int) -> None:
            s[start:stop] = torch.linalg.svdvals(flat[start:stop])

        _split(run, len(flat))
    return s.reshape(*batch, min(m, n))


def conv_singular_values(taps: Tensor, offsets: Tensor, frequencies: Tensor, grid: Sequence[int]) -> Tensor | None:
    """(g, f, r) singular values of a convolution's matrices, never all in memory; None where that does not pay."""
    g, _, a, b = taps.shape
    out = taps.new_empty(g, len(frequencies), min(a, b))
    code = _code(*out.shape[1:])
    if code is None or not taps.numel():
        return None
    scale = 2.0 ** -math.frexp(float(taps.abs().max()))[1]
    if not math.isfinite(scale):
        return None
    cosines, sines = (table.numpy() for table in phase_tables(offsets, frequencies, grid, taps.dtype))
    tall = (taps if a >= b else taps.mT) * scale  # (g, t, m, n)
    lanes = code.REGISTER // taps.element_size()
    exact = taps.dtype == torch.float64
    together = _together(code, tall[0, 0], len(frequencies))
    for group in range(g):
        each = tall[group].permute(1, 2, 0) if together else F.pad(tall[group], (0, -min(a, b) % lanes))
        source = each.contiguous().numpy()

        def run(start: int, stop: int, ascending: Any, source: Any = source) -> bool:
            table = cosines[start:stop], sines[start:stop]
            return code.conv_singular_values(source, min(a, b), *table, ascending, together, exact)

        if not _in_threads(code, run, out[group], together):
            return None
    return out / scale


def _by_compiled_code(matrices: Tensor, out: Tensor) -> bool:
    """Singular values of complex matrices (f, m, n) into `out`; False where that is not there or does not pay."""
    code = _code(*out.shape)
    if code is None or not matrices.is_complex():
        return False
    tall = matrices if matrices.shape[2] == out.shape[1] else matrices.mT
    parts = torch.view_as_real(tall.resolve_conj().contiguous()).flatten(2)
    exact = matrices.dtype == torch.complex128  # the rounding of squares is below that of float32
    together = _together(code, parts[0, :, ::2], len(out))
    source = parts.numpy()

    def run(start: int, stop: int, ascending: Any) -> bool:
        return code.singular_values(source[start:stop], ascending, together, exact)

    return _in_threads(code, run, out, together)


def _code(count: int, side: int) -> Any:
    """The compiled code if it is there and pays for `count` matrices of which `side` is the smaller one, else None."""
    return None if count < _FEW and side <= _SMALL else _compiled()


def _together(code: Any, matrix: Tensor, count: int) -> bool:
    return count >= _FEW and 2 * matrix.numel() * code.REGISTER <= _TOGETHER


def _in_threads(code: Any, run: Callable[[int, int, Any], bool], out: Tensor, together: bool) -> bool:
    """`run` on ranges of the rows of `out`, in threads. False if one did not converge."""
    count, side = out.shape
    values, converged = out.numpy(), []

    def part(start: int, stop: int) -> None:
        ascending = np.empty((stop - start, side))
        converged.append(run(start, stop, ascending))
        values[start:stop] = ascending[:, ::-1]

    split_over_threads(part, count, multiple=code.REGISTER // out.element_size() if together else 1)
    return all(converged)


def _split(run: Callable[[int, int], None], count: int) -> None:
    if count < torch.get_num_threads():
        run(0, count)  # few matrices: LAPACK's own threads
    else:
        split_over_threads(run, count)


def _compiled() -> Any:
    return simd.compiled("channel_svd", "singular values come from LAPACK, 2 to 8 times slower")
