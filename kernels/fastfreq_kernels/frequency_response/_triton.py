"""`frequency_response` on a GPU: a program has a block of frequencies and of outputs, and some thousand points.

It computes phases of frequencies x points in turns, d products each, their cosines and sines by the polynomials of
`_angles.py`, and multiplies both by the values, as matrices. In float32 a product k x = p loses its whole turns
exactly, r = round(p), fma(k, x, -r), so a phase is off by d eps of a turn however large it is; where points or
frequencies are float64, phases are, too. Sums over the points of a program are in the values' type, those over
programs, whose number depends on n alone, in float64: the same bits on every GPU of one kind.

For n points, K frequencies and m outputs in float32:
    arithmetic   n K (3 d + 16 + 4 m) flops, more for m below 16
    read         (d + m) n numbers for each block of 64 frequencies, mostly from L2
    written      2 K m numbers for each 4,096 points
so arithmetic bounds it. Speed not yet measured on any GPU.
"""

# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportAssignmentType=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastfreq_kernels import _configs
from fastfreq_kernels._launch import Launch, run_on

from ._angles import COS32, COS64, SIN32, SIN64

_S32, _C32, _S64, _C64 = (tl.constexpr(terms) for terms in (SIN32, COS32, SIN64, COS64))


@triton.jit
def _series(u, TERMS: tl.constexpr, COUNT: tl.constexpr):
    """The polynomial of these terms, lowest power first."""
    total = tl.zeros_like(u) + TERMS[COUNT - 1]
    for i in tl.static_range(COUNT - 1):
        total = total * u + TERMS[COUNT - 2 - i]
    return total


@triton.jit
def _cos_sin(t, DOUBLE: tl.constexpr):
    """Cos and sin of 2 pi t for |t| <= 1/2."""
    u = t * t
    if DOUBLE:
        s, c = t * _series(u, _S64, 10), _series(u, _C64, 10)
    else:
        s, c = t * _series(u, _S32, 6), _series(u, _C32, 6)
    return 1.0 - 2.0 * s * s, 2.0 * s * c


@triton.jit
def _nearest(x):
    """The integer next to x; one of two as near."""
    return tl.floor(x + 0.5)


@triton.jit
def response_kernel(
    out, points, values, frequencies, n, K, m, d, programs,
    WIDE: tl.constexpr, POINTS: tl.constexpr, EACH: tl.constexpr, FREQUENCIES: tl.constexpr, OUTPUTS: tl.constexpr,
):  # fmt: skip
    """Fills out (programs, 2, K, m): sums over EACH points of each program of values times cos, and minus sin."""
    program = tl.program_id(0)
    part, rest = program % programs, program // programs
    blocks = tl.cdiv(m, OUTPUTS)
    k = (rest // blocks).to(tl.int64) * FREQUENCIES + tl.arange(0, FREQUENCIES)
    o = rest % blocks * OUTPUTS + tl.arange(0, OUTPUTS)
    kind: tl.constexpr = values.dtype.element_ty
    turn: tl.constexpr = tl.float64 if WIDE else tl.float32
    real = tl.zeros((FREQUENCIES, OUTPUTS), kind)
    imaginary = tl.zeros((FREQUENCIES, OUTPUTS), kind)
    own = tl.minimum(n - part.to(tl.int64) * EACH, EACH).to(tl.int32)
    for start in range(0, own, POINTS):
        i = part.to(tl.int64) * EACH + start + tl.arange(0, POINTS)
        t = tl.zeros((FREQUENCIES, POINTS), turn)
        for axis in range(d):
            a = tl.load(frequencies + k * d + axis, mask=k < K, other=0).to(turn)[:, None]
            x = tl.load(points + i * d + axis, mask=i < n, other=0).to(turn)[None, :]
            a, x = tl.broadcast(a, x)
            t += tl.fma(a, x, -_nearest(a * x))
            t = t - _nearest(t)
        c, s = _cos_sin(t.to(kind), kind == tl.float64)
        v = tl.load(values + i[:, None] * m + o, mask=(i < n)[:, None] & (o < m), other=0)
        real = tl.dot(c, v, real, input_precision="ieee", out_dtype=kind)
        imaginary = tl.dot(s, v, imaginary, input_precision="ieee", out_dtype=kind)
    to = out + (part.to(tl.int64) * 2 * K + k[:, None]) * m + o
    there = (k < K)[:, None] & (o < m)
    tl.store(to, real, mask=there)
    tl.store(to + K.to(tl.int64) * m, -imaginary, mask=there)


def response(points: Tensor, values: Tensor, frequencies: Tensor, mean: bool) -> Tensor:
    """The reference's answer in the values' arithmetic."""
    n, m = values.shape
    parts = triton.cdiv(n, _configs.RESPONSE_POINTS)
    out = torch.empty((parts, 2, len(frequencies), m), dtype=values.dtype, device=values.device)
    if out.numel():
        run_on(values, lambda: [launch(out, points.contiguous(), values.contiguous(), frequencies.contiguous())])
    real, imaginary = out.sum(dim=0, dtype=torch.float64)
    sums = torch.complex(real, imaginary)
    return (sums / n if mean else sums).to(values.dtype.to_complex())


def launch(out: Tensor, points: Tensor, values: Tensor, frequencies: Tensor) -> Launch:
    """The launch that fills out (parts, 2, K, m)."""
    (n, m), (K, d) = values.shape, frequencies.shape
    wide = torch.float64 in (points.dtype, frequencies.dtype)
    tile = _configs.response_tile(m, values.dtype, wide=wide)
    return Launch(
        response_kernel,
        (len(out) * triton.cdiv(K, tile.frequencies) * triton.cdiv(m, tile.outputs),),
        {
            "out": out, "points": points, "values": values, "frequencies": frequencies, "n": n, "K": K, "m": m,
            "d": d, "programs": len(out), "WIDE": wide, "POINTS": tile.points, "EACH": _configs.RESPONSE_POINTS,
            "FREQUENCIES": tile.frequencies, "OUTPUTS": tile.outputs,
        },
        tile.warps,
    )  # fmt: skip
