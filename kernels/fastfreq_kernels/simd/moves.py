"""Moves of registers that `vector` has no need of: transposes, and stores in other forms."""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
from numba.core import cgutils, types
from numba.extending import intrinsic as _intrinsic

from .vector import REGISTER, Lanes, _pointer

__all__ = [
    "LANES", "add_doubles", "clip", "evens", "floats", "odds", "put", "put_three", "transpose", "zip_high", "zip_low",
]  # fmt: skip

LANES = REGISTER // 4  # float32 values in a register
intrinsic: Any = _intrinsic  # as functions without the typing context, which callers do not pass
_INT = ir.IntType(32)


def _shuffle(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT, len(order)), order))


@intrinsic
def floats(typing, array, offset):  # noqa: D103, ANN001
    """A register of float32 from a contiguous array of float32 or uint8, from an offset on."""
    kind = Lanes(types.float32, LANES)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0]).data
        element = context.get_value_type(array.dtype)
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), ir.VectorType(element, LANES).as_pointer())
        value = builder.load(pointer, align=array.dtype.bitwidth // 8)
        return value if array.dtype == types.float32 else builder.uitofp(value, context.get_value_type(kind))

    return kind(array, offset), generate


@intrinsic
def transpose(typing, source, first, stride, target, at, step):  # noqa: D103, ANN001
    """LANES registers of float32 at slots first, first + stride ..., transposed to slots at, at + step ..."""
    kind = Lanes(types.float32, LANES)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, first, stride, target, at, step = arguments
        rows = []
        for _ in range(LANES):
            pointer = _pointer(context, builder, signature, (source, first), kind)
            rows.append(builder.load(pointer, align=4))
            first = builder.add(first, stride)
        # log2(LANES) times: row i beside row i + LANES / 2, element by element
        half = LANES // 2
        low = [i // 2 + LANES * (i % 2) for i in range(LANES)]
        high = [i + half for i in low]
        for _ in range(LANES.bit_length() - 1):
            pairs = [(rows[i], rows[i + half]) for i in range(half)]
            rows = [_shuffle(builder, a, b, order) for a, b in pairs for order in (low, high)]
        goal = types.void(signature.args[3], signature.args[4])
        for row in rows:
            builder.store(row, _pointer(context, builder, goal, (target, at), kind), align=4)
            at = builder.add(at, step)
        return context.get_dummy_value()

    return types.void(source, first, stride, target, at, step), generate


@intrinsic
def add_doubles(typing, array, slot, value):  # noqa: D103, ANN001
    """Add a register of float32 to the slot-th as many values of a contiguous float64 array."""
    kind = Lanes(types.float64, LANES)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature, arguments, kind)
        wide = builder.fpext(arguments[2], context.get_value_type(kind))
        builder.store(builder.fadd(builder.load(pointer, align=8), wide), pointer, align=8)
        return context.get_dummy_value()

    return types.void(array, slot, value), generate


def _picker(order: list[int], doc: str) -> Any:
    def pick(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _shuffle(builder, arguments[0], arguments[1], order)

        return a(a, b), generate

    pick.__doc__ = doc
    return intrinsic(pick)


_ZIPPED = [i // 2 + LANES * (i % 2) for i in range(2 * LANES)]
evens = _picker(list(range(0, 2 * LANES, 2)), "a_0 a_2 ... b_0 b_2 ... of two registers")
odds = _picker(list(range(1, 2 * LANES, 2)), "a_1 a_3 ... b_1 b_3 ... of two registers")
zip_low = _picker(_ZIPPED[:LANES], "a_0 b_0 a_1 b_1 ..., the first register of two")
zip_high = _picker(_ZIPPED[LANES:], "... the second register of two")


@intrinsic
def clip(typing, a, low, high):  # noqa: D103, ANN001
    """The value between `low` and `high`; NaN stays."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, low, high = arguments
        a = builder.select(builder.fcmp_ordered("<", a, low), low, a)
        return builder.select(builder.fcmp_ordered(">", a, high), high, a)

    return a(a, low, high), generate


def _narrowed(builder: Any, value: Any, dtype: Any) -> Any:
    """float32 as it is, or for uint16 its bits as bfloat16, rounded to nearest, ties to even; NaN stays one."""
    if dtype == types.float32:
        return value
    count = getattr(value.type, "count", 0)
    wide, narrow = (ir.VectorType(ir.IntType(n), count) if count else ir.IntType(n) for n in (32, 16))

    def constant(number: int) -> Any:
        return ir.Constant(wide, [number] * count if count else number)

    bits = builder.bitcast(value, wide)
    odd = builder.and_(builder.lshr(bits, constant(16)), constant(1))
    rounded = builder.lshr(builder.add(builder.add(bits, odd), constant(0x7FFF)), constant(16))
    rounded = builder.select(builder.fcmp_unordered("uno", value, value), constant(0x7FC0), rounded)
    return builder.trunc(rounded, narrow)


def _write(context: Any, builder: Any, signature: Any, arguments: Any, value: Any) -> Any:
    """Store at an offset, the second argument, of an array, the first."""
    data = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0]).data
    pointer = builder.bitcast(builder.gep(data, [arguments[1]]), value.type.as_pointer())
    builder.store(value, pointer, align=signature.args[0].dtype.bitwidth // 8)
    return context.get_dummy_value()


@intrinsic
def put(typing, array, offset, value):  # noqa: D103, ANN001
    """Write a float32, or a register of them, at an offset of a float32 array, or as bfloat16 into one of uint16."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _write(context, builder, signature, arguments, _narrowed(builder, arguments[2], array.dtype))

    return types.void(array, offset, value), generate


@intrinsic
def put_three(typing, array, offset, a, b, c):  # noqa: D103, ANN001
    """As `put`: a_0 b_0 c_0 a_1 b_1 c_1 ... of three registers."""
    order = [i // 3 + (0, LANES, 2 * LANES)[i % 3] for i in range(3 * LANES)]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, c = (_narrowed(builder, value, array.dtype) for value in arguments[2:])
        both, every = list(range(2 * LANES)), list(range(LANES)) * 2
        value = _shuffle(builder, _shuffle(builder, a, b, both), _shuffle(builder, c, c, every), order)
        return _write(context, builder, signature, arguments, value)

    return types.void(array, offset, a, b, c), generate
