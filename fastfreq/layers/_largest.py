"""The largest singular value of a convolution in its normal form, and where it is: of all values, or by Lanczos."""

from __future__ import annotations

import dataclasses
import math

import fastfreq_kernels as kernels
import torch
from fastfreq_kernels._taps import phase_tables
from torch import Tensor

from ._lanczos import largest, random_start, sieve
from ._products import Explicit, Stacked, Tall, multiplies_bfloat16
from ._rows import row_norms
from ._values import distinct_values
from .symbols import Symbols

DIRECT = 160  # sides up to which all singular values cost less than Lanczos steps at every frequency
FEW, FEW_BYTES = 3, 16 << 20  # frequencies, at least, whose matrices are written out, and bytes of those in float32
BLOCK_BYTES = 256 << 20  # of Lanczos vectors, at 32 steps
_SAME = 5e-7  # relative distance of values that float32 does not tell apart
_STEPS = 96  # of float32 at many frequencies, after which all values of those that are left cost no more
_ROUNDED_STEPS = 48  # of bfloat16
_ROUNDED, _COARSE = 1e-3, 2e-2  # relative margin of bfloat16: at least, and at most if it is to be of use
_PROBED = 16  # frequencies, spread evenly, that show what rounding does
_FLAT = 0.4  # spread of squares below which that margin leaves too many
_WARM = 0.1  # length of the random part of a start that has been found by rounded products


@dataclasses.dataclass(frozen=True)
class Top:
    """The largest singular value and where it is: group, frequency (d,), and its unit vectors.

    u (2, a) and v (2, b) are their real and imaginary parts, float64.
    """

    value: float
    group: int
    frequency: Tensor
    u: Tensor
    v: Tensor


def by_all_values(symbols: Symbols) -> Top:
    """From all singular values: the place of the largest, and one small decomposition there."""
    values = group_values(symbols)
    group, row = divmod(int(values.argmax()), values.shape[1])
    return _decompose(symbols, group, symbols.frequencies[row])


def group_values(symbols: Symbols) -> Tensor:
    """(g, f) largest value of each group at each distinct frequency."""
    if len(symbols.taps) == 1:
        return torch.from_numpy(distinct_values(symbols, "high")[:, 0].copy())[None]
    if min(symbols.taps.shape[2:]) == 1:
        lengths = row_norms(symbols.taps, symbols.offsets, symbols.frequencies, symbols.grid, descending=False)
        return lengths.T.cpu()
    gram = kernels.ConvGram(symbols.taps, symbols.offsets, grid=symbols.grid, count=len(symbols.frequencies))
    return gram.eigenvalues(symbols.frequencies)[..., 0].clamp_min(0).sqrt().cpu()


def _decompose(symbols: Symbols, group: int, frequency: Tensor) -> Top:
    taps = symbols.taps[group : group + 1]
    matrix = kernels.conv_symbols(taps, symbols.offsets, frequency[None], grid=symbols.grid)[0, 0]
    u, values, vh = (each.to(matrix.device) for each in torch.linalg.svd(matrix.cpu(), full_matrices=False))
    u, v = u[:, 0], vh[0]
    return Top(float(values[0]), group, frequency, torch.stack([u.real, u.imag]), torch.stack([v.real, -v.imag]))


def by_lanczos(symbols: Symbols, scale: float, rtol: float) -> Top:
    """Candidates from products at all frequencies; then the matrices of those for the value; all taps times `scale`."""
    best: Top | None = None
    tables = phase_tables(symbols.offsets, symbols.frequencies, symbols.grid, torch.float64)
    cosines, sines = (table * scale for table in tables)  # instead of the taps: no copy
    for group, every in enumerate(symbols.taps):
        columns = torch.arange(every.shape[2], device=every.device)
        if symbols.taps.numel() > math.prod(symbols.weight_shape):  # phases that a stride beyond the kernel skips
            columns = torch.nonzero((every != 0).any(dim=0).any(dim=0))[:, 0]
        taps = every if len(columns) == every.shape[2] else every[:, :, columns]
        if not len(columns):
            continue
        few = max(FEW, FEW_BYTES // (8 * taps[0].numel()))
        rows, starts, share = _candidates(taps, cosines, sines, few, best.value if best else 0.0)
        top = None
        if len(rows) <= few:
            if not len(rows):
                continue
            top = _settled(taps, cosines[rows], sines[rows], starts, share, rtol)
        at = _placed(top, symbols, group, rows, columns) if top else _by_values_at(symbols, group, rows, scale)
        best = at if best is None or at.value > best.value else best
    assert best is not None
    return best


def _settled(
    taps: Tensor, cosines: Tensor, sines: Tensor, starts: Tensor, share: float, rtol: float
) -> tuple[int, Tensor, Tensor] | None:
    """Row, A v and v of the largest value of a few frequencies; None if Lanczos does not settle it."""
    single = Tall(Explicit(taps, cosines, sines, torch.float32))
    found = largest(single, starts, max(rtol, _SAME), margin=_SAME, share=share)
    if found is None:
        return None
    rows = found.rows
    explicit = Explicit(taps, cosines[rows], sines[rows], torch.float64)
    double = Tall(explicit)
    found = largest(double, found.vectors, rtol, margin=1e-12)
    if found is None:
        return None
    v = found.vectors
    if double.turned:
        v = double.apply(v)
        v = v / torch.linalg.vector_norm(v, dim=(1, 2), keepdim=True)
    at = int(found.values.argmax())
    return int(rows[found.rows[at]]), explicit.apply(v)[at], v[at]


def _placed(top: tuple[int, Tensor, Tensor], symbols: Symbols, group: int, rows: Tensor, columns: Tensor) -> Top:
    row, u, v = top
    full = v.new_zeros(2, symbols.taps.shape[3])
    full[:, columns] = v
    value = torch.linalg.vector_norm(u)
    return Top(float(value), group, symbols.frequencies[rows[row]], u / value, full)


def _by_values_at(symbols: Symbols, group: int, rows: Tensor, scale: float) -> Top:
    """Of the eigenvalues of Gram matrices at some frequencies: where a step more is no nearer to an answer."""
    taps, frequencies = symbols.taps[group : group + 1].double() * scale, symbols.frequencies[rows]
    gram = kernels.ConvGram(taps, symbols.offsets, grid=symbols.grid, count=len(rows))
    row = int(gram.eigenvalues(frequencies)[0, :, 0].argmax())
    top = _decompose(dataclasses.replace(symbols, taps=taps), 0, frequencies[row])
    return dataclasses.replace(top, group=group)


def _candidates(
    taps: Tensor, cosines: Tensor, sines: Tensor, few: int, at_least: float
) -> tuple[Tensor, Tensor, float]:
    """Rows that can hold a value above `at_least` and the largest; starts; the share of a random vector in them.

    At most `few` where Lanczos decides between them.
    """
    rows, share = torch.arange(len(cosines), device=taps.device), 1.0
    start = random_start(cosines, min(taps.shape[1:]))
    if len(rows) <= few:
        return rows, start, share
    taps, cosines, sines = taps.float(), cosines.float(), sines.float()
    if multiplies_bfloat16(taps.device):
        found = _by_rounded(taps, cosines, sines, start, at_least)
        if found is not None:
            rows, start = found
            start = start + _WARM * random_start(start, start.shape[2], seed=1)
            share = _WARM**2 / (1 + _WARM) ** 2
            if len(rows) <= few:
                return rows, start, share
    each = max(1, BLOCK_BYTES // (32 * 8 * start.shape[2]))
    parts, vectors = [], []
    for part, v in zip(rows.split(each), start.split(each), strict=True):
        operator = Tall(Stacked(taps, cosines[part], sines[part]))
        found = sieve(operator, v, few=few, steps=_STEPS, margin=_SAME, share=share, at_least=at_least)
        at_least = max(at_least, found.value)
        parts.append(part[found.rows])
        vectors.append(found.vectors)
    return torch.cat(parts), torch.cat(vectors), 0.0


def _by_rounded(
    taps: Tensor, cosines: Tensor, sines: Tensor, start: Tensor, at_least: float
) -> tuple[Tensor, Tensor] | None:
    """Rows that products of bfloat16 leave, and their vectors; None where those are too coarse for this layer.

    What rounding of weights and vectors does to the largest value is measured at some frequencies, for a constant tap
    rounds one way in all its products, and random ones average out.
    """
    some = torch.linspace(0, len(start) - 1, min(len(start), _PROBED)).long().to(taps.device)
    probe = sieve(Tall(Stacked(taps, cosines[some], sines[some])), start[some], few=0, steps=4, margin=0.0)
    at = cosines[some[probe.rows]], sines[some[probe.rows]]
    exact, rounded = (
        torch.linalg.vector_norm(Tall(Stacked(taps, *at, dtype)).apply(probe.vectors), dim=(1, 2))
        for dtype in (torch.float32, torch.bfloat16)
    )
    margin = _ROUNDED + 4 * float((rounded - exact).abs().max()) / probe.value
    if not margin < _COARSE:
        return None
    operator = Tall(Stacked(taps, cosines, sines, torch.bfloat16))
    found = sieve(
        operator, start, few=FEW, steps=_ROUNDED_STEPS, margin=-margin, orthogonal=False, at_least=at_least, flat=_FLAT
    )
    return None if found.spread < _FLAT else (found.rows, found.vectors)
