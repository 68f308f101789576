"""What a step of a reduction does in the same way however its updates are applied; inlined where it is called."""

# pyright: reportArgumentType=false, reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def reflector(a, b, head_a, head_b, index, k, c, NEGLIGIBLE: tl.constexpr):
    """(v, phase of T[k + 1, k], squared length) of the column a + i b below k, whose first entry is the head."""
    square = tl.sum(a * a + b * b)
    square = tl.where(square < NEGLIGIBLE, 0, square)  # NaN stays
    active = (square > 0) & (k < c - 2)
    norm, head = tl.sqrt(square), tl.sqrt(head_a * head_a + head_b * head_b)
    phase_a, phase_b = head_a / tl.where(head > 0, head, 1), head_b / tl.where(head > 0, head, 1)
    phase_a = tl.where(head > 0, phase_a, 1)
    unit = tl.where(active, 1 / tl.sqrt(tl.where(active, square + norm * head, 1)), 0)
    a = (a + tl.where(index == k + 1, phase_a * norm, 0)) * unit
    b = (b + tl.where(index == k + 1, phase_b * norm, 0)) * unit
    return a, b, tl.where(active, -phase_a, phase_a), tl.where(active, -phase_b, phase_b), square


@triton.jit
def store_reflector(phases, reflectors, a, b, phase_a, phase_b, n, k, c, index, inside):
    """Store what leads back from T."""
    phase, reflector = phases + 2 * (n * c + k), reflectors + 2 * (n * c + k) * c + index
    tl.store(phase, phase_a)
    tl.store(phase + 1, phase_b)
    tl.store(reflector, a, mask=inside)
    tl.store(reflector + c, b, mask=inside)


@triton.jit
def wait_for_all(arrived, count):
    """Go on once `count` programs have arrived in all."""
    tl.atomic_add(arrived, 1, sem="release", scope="gpu")
    while tl.atomic_add(arrived, 0, sem="acquire", scope="gpu") < count:
        pass
    tl.debug_barrier()


@triton.jit
def normalise(d, e, scale, index, inside):
    """Divide T by its Frobenius norm, which goes into the scale."""
    all_d, all_e = tl.load(d + index, mask=inside, other=0), tl.load(e + index, mask=inside, other=0)
    norm = tl.sqrt(tl.sum(all_d * all_d + 2 * all_e))
    norm = tl.where(norm == 0, 1, norm)
    tl.debug_barrier()
    tl.store(d + index, all_d / norm, mask=inside)
    tl.store(e + index, all_e / norm / norm, mask=inside)
    tl.store(scale, tl.load(scale) * norm)
