"""The parts of `_parts.py` compiled, a register of terms at a time, and sums over images of p p^T."""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
from numba.core import cgutils, types
from numba.extending import intrinsic as _intrinsic

from fastfreq_kernels.simd.entry import entry
from fastfreq_kernels.simd.vector import REGISTER, fill, jit, load

__all__ = ["DOUBLES", "add_parts", "moments"]

DOUBLES = REGISTER // 8  # float64 values in a register
intrinsic: Any = _intrinsic  # as functions without the typing context, which callers do not pass


def _all_lanes(builder: Any, vector: Any, scalar: Any) -> Any:
    index = ir.VectorType(ir.IntType(32), vector.count)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), ir.Constant(index, [0] * vector.count))


@intrinsic
def reaches(typing, value, limit):  # noqa: D103, ANN001
    """Whether a lane of float64 is at least `limit` in magnitude, or not a number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = arguments[0].type
        name = f"llvm.fabs.v{value.count}f64"
        size = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector]), name)
        mask = builder.fcmp_unordered(
            ">=", builder.call(size, arguments[:1]), _all_lanes(builder, vector, arguments[1])
        )
        bits = builder.bitcast(mask, ir.IntType(value.count))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(value, limit), generate


@intrinsic
def add_part(typing, array, offset, value, anchor):  # noqa: D103, ANN001
    """Round lanes of float64 by an anchor, add that to a contiguous array from an offset on; what is left of them."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0]).data
        vector = arguments[2].type
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), vector.as_pointer())
        anchors = _all_lanes(builder, vector, arguments[3])
        # without flags: no product is fused into this sum, which would keep digits that are to go
        near = builder.fsub(builder.fadd(arguments[2], anchors), anchors)
        builder.store(builder.fadd(builder.load(pointer, align=8), near), pointer, align=8)
        return builder.fsub(arguments[2], near)

    return value(array, offset, value, anchor), generate


@jit
def add_parts(sums, at, value, first, anchors, limits, used):
    """Add the parts of some lanes to sums (p, m) from column `at` on.

    Returns the row that parts were looked for from, as the next call's `first`, of neighbours that are as large: a
    search among rows for each register would be a branch that is often guessed wrong.

    Args:
        sums: row k is written to 0 when its first part comes, so that rows nothing belongs to cost nothing.
        at: column.
        value: lanes of float64.
        first: row from which to look, p - 1 at first; larger values move it.
        anchors: (p,) of the exponents.
        limits: (p,) 2^(e - 1), below which a term has no part of 2^e.
        used: (p,) whether each row has parts, set here.
    """
    while first > 0 and reaches(value, limits[first - 1]):
        first -= 1
    k = first
    while True:
        row = sums[k]
        if not used[k]:
            row[:] = 0
            used[k] = True
        value = add_part(row, at, value, anchors[k])
        k += 1
        if k == len(anchors) or not reaches(value, limits[len(anchors) - 1]):
            return first


@entry
def moments(profiles, rows, sums, anchors, limits, used):
    """Add p_i p_j for each profile p, i below `rows` and j from i on, to sums (p, rows, width) as by `add_parts`.

    A row of sums and its parts stay in the first cache while the profiles go by.

    Args:
        profiles: (n, width), float64; the width a multiple of DOUBLES, from `rows` on 0.
        rows: rings.
        sums: (p, rows * width), from the register of j = i on; what is before it means nothing.
        anchors: as in `add_parts`.
        limits: as there.
        used: as there.
    """
    width = profiles.shape[1]
    flat, blocks = profiles.reshape(-1), width // DOUBLES
    for i in range(rows):
        for image in range(len(profiles)):
            first = len(anchors) - 1
            one = fill(profiles, profiles[image, i])
            for block in range(i // DOUBLES, blocks):
                value = one * load(flat, image * blocks + block)
                first = add_parts(sums, i * width + block * DOUBLES, value, first, anchors, limits, used)
