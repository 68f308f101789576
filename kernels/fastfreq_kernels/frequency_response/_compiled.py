"""`frequency_response` compiled: sums over points with one frequency per SIMD lane, and spreading onto a fine grid.

Phases come in turns as float64, lose their whole turns, and only then are rounded to the type of the values. Waves of
`BLOCK` points are kept in the L1 cache and summed in that type, blocks in float64.
"""

from __future__ import annotations

import numpy as np

from fastfreq_kernels.simd.entry import entry
from fastfreq_kernels.simd.vector import REGISTER, fill, jit, load, store

from ._lanes import add_to, cosine, sine, turns

__all__ = ["BLOCK", "REGISTER", "accumulate", "modulate", "spread"]

BLOCK = 128  # points


@jit
def _waves(phases, first, count, groups, group, waves):
    """Write cos and sin of 2 pi of a register of phases of each of `count` points to slots 2 i and 2 i + 1."""
    one, two = fill(waves, 1), fill(waves, 2)
    for i in range(count):
        t = turns(phases, (first + i) * groups + group, waves)
        s = sine(t)
        double = two * s
        store(waves, 2 * i, one - double * s)
        store(waves, 2 * i + 1, double * cosine(t))


@jit
def _four_outputs(values, first, count, m, o, waves, totals, slot):
    """Add sums over points of four outputs times cos and sin to eight registers of totals."""
    zero = fill(waves, 0)
    c0, c1, c2, c3, s0, s1, s2, s3 = zero, zero, zero, zero, zero, zero, zero, zero
    at = first * m + o
    for i in range(count):
        c, s = load(waves, 2 * i), load(waves, 2 * i + 1)
        v0, v1 = fill(waves, values[at]), fill(waves, values[at + 1])
        v2, v3 = fill(waves, values[at + 2]), fill(waves, values[at + 3])
        c0, s0 = c0 + c * v0, s0 + s * v0
        c1, s1 = c1 + c * v1, s1 + s * v1
        c2, s2 = c2 + c * v2, s2 + s * v2
        c3, s3 = c3 + c * v3, s3 + s * v3
        at += m
    for k, (c, s) in enumerate(((c0, s0), (c1, s1), (c2, s2), (c3, s3))):
        add_to(totals, slot + 2 * k, c)
        add_to(totals, slot + 2 * k + 1, s)


@jit
def _one_output(values, first, count, m, o, waves, totals, slot):
    c0, s0, c1, s1 = fill(waves, 0), fill(waves, 0), fill(waves, 0), fill(waves, 0)
    at, even = first * m + o, count - count % 2
    for i in range(0, even, 2):  # two sums each, which hide each other's latency
        v, w = fill(waves, values[at]), fill(waves, values[at + m])
        c0, s0 = c0 + load(waves, 2 * i) * v, s0 + load(waves, 2 * i + 1) * v
        c1, s1 = c1 + load(waves, 2 * i + 2) * w, s1 + load(waves, 2 * i + 3) * w
        at += 2 * m
    if even < count:
        v = fill(waves, values[at])
        c0, s0 = c0 + load(waves, 2 * even) * v, s0 + load(waves, 2 * even + 1) * v
    add_to(totals, slot, c0 + c1)
    add_to(totals, slot + 1, s0 + s1)


@entry
def accumulate(phases, values, m, waves, totals):
    """Add sum_i values[i, o] (cos, sin)(2 pi phases[i, k]) to totals[k // lanes, o, :, k % lanes], all flat.

    Args:
        phases: (points x frequencies,) float64 turns; frequencies a multiple of the lanes.
        values: (points x m,) float32 or float64.
        m: outputs.
        waves: scratch of the values' type, 2 BLOCK registers.
        totals: (frequencies x m x 2,) float64.
    """
    lanes = REGISTER // waves.itemsize
    count = len(values) // m
    groups = len(phases) // (count * lanes)
    for first in range(0, count, BLOCK):
        some = min(BLOCK, count - first)
        for group in range(groups):
            _waves(phases, first, some, groups, group, waves)
            slot = group * m * 2
            fours = m - m % 4
            for o in range(0, fours, 4):
                _four_outputs(values, first, some, m, o, waves, totals, slot + 2 * o)
            for o in range(fours, m):
                _one_output(values, first, some, m, o, waves, totals, slot + 2 * o)


@entry
def modulate(phases, values, m, waves, strengths):
    """strengths[i, a, :, o] = values[i, o] (cos, sin)(2 pi phases[i, a]), with zeros behind the last of each point.

    Args:
        phases: (points x padded lines,) float64 turns; padded lines a multiple of the lanes.
        values: (points x m,) float64.
        m: outputs.
        waves: scratch, (2 x padded lines,) float64.
        strengths: (points, columns) float64, columns at least 2 m for each line that is not padding.
    """
    lanes = REGISTER // 8
    count, columns = strengths.shape
    groups = len(phases) // (count * lanes)
    lines = min(groups * lanes, columns // (2 * m))
    for i in range(count):
        for group in range(groups):
            _waves(phases, i, 1, groups, group, waves[2 * group * lanes :])
        at = 0
        for a in range(lines):
            c, s = waves[2 * (a - a % lanes) + a % lanes], waves[2 * (a - a % lanes) + lanes + a % lanes]
            for o in range(m):
                strengths[i, at + o] = values[i * m + o] * c
                strengths[i, at + m + o] = values[i * m + o] * s
            at += 2 * m
        strengths[i, at:] = 0


@entry
def spread(positions, strengths, taps, width, weights, grid):
    """Add strengths times a kernel of `width` cells around each position to a grid, both in rows of registers.

    Args:
        positions: (points,) float64 in cells of the grid, from 0 on.
        strengths: (points x columns,) float64; columns a multiple of the lanes.
        taps: (degree + 1, padded width) float64 polynomials in the distance from the first cell, highest power first.
        width: cells of the kernel.
        weights: scratch, (padded width,) float64.
        grid: ((cells + width) x columns,) float64, cell -width / 2 first; what is beyond the cells belongs to others.
    """
    lanes = REGISTER // 8
    degree, each = taps.shape[0] - 1, taps.shape[1] // lanes
    coefficients = taps.reshape(-1)
    groups = len(strengths) // (len(positions) * lanes)
    for i in range(len(positions)):
        first = int(np.ceil(positions[i] - width / 2))
        distance = fill(weights, 2 * (first - (positions[i] - width / 2)) - 1)
        for j in range(each):
            total = load(coefficients, j)
            for power in range(1, degree + 1):
                total = total * distance + load(coefficients, power * each + j)
            store(weights, j, total)
        row = (first + width // 2) * groups
        for cell in range(width):
            weight = fill(weights, weights[cell])
            for group in range(groups):
                slot = row + cell * groups + group
                store(grid, slot, load(grid, slot) + weight * load(strengths, i * groups + group))
