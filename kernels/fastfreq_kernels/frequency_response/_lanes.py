"""Registers as `frequency_response` needs them beyond `simd.vector`: phases, their sines and cosines, wide sums."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from fastfreq_kernels.simd.vector import REGISTER, Lanes, intrinsic

from ._angles import COS32, COS64, SIN32, SIN64

__all__ = ["add_to", "cosine", "sine", "turns"]


def _wide(context: Any, builder: Any, signature: Any, arguments: Any, count: int) -> Any:
    """Pointer to the slot-th `count` values of a contiguous float64 array."""
    data = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0]).data
    offset = builder.mul(arguments[1], ir.Constant(arguments[1].type, count))
    return builder.bitcast(builder.gep(data, [offset]), ir.VectorType(ir.DoubleType(), count).as_pointer())


@intrinsic
def turns(typing, phases, slot, like):  # noqa: ANN001
    """The slot-th register of phases (float64) without its whole turns, in the type and lanes of the array `like`."""
    kind = Lanes(like.dtype, 8 * REGISTER // like.dtype.bitwidth)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_wide(context, builder, signature, arguments, kind.count), align=8)
        name, function = f"llvm.rint.v{kind.count}f64", ir.FunctionType(value.type, [value.type])
        whole = builder.call(cgutils.get_or_insert_function(builder.module, function, name), [value])
        value = builder.fsub(value, whole)
        return value if kind.dtype == types.float64 else builder.fptrunc(value, context.get_value_type(kind))

    return kind(phases, slot, like), generate


@intrinsic
def add_to(typing, array, slot, value):  # noqa: ANN001
    """Add a register to the slot-th as many values of a contiguous float64 array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _wide(context, builder, signature, arguments, value.count)
        added = arguments[2]
        if value.dtype == types.float32:
            added = builder.fpext(added, ir.VectorType(ir.DoubleType(), value.count))
        builder.store(builder.fadd(builder.load(pointer, align=8), added), pointer, align=8)
        return context.get_dummy_value()

    return types.void(array, slot, value), generate


def _polynomial(builder: Any, terms: tuple[float, ...], u: Any) -> Any:
    def constant(number: float) -> Any:
        return ir.Constant(u.type, [number] * u.type.count)

    total = constant(terms[-1])
    for term in terms[-2::-1]:
        total = builder.fadd(builder.fmul(total, u, flags=("contract",)), constant(term), flags=("contract",))
    return total


@intrinsic
def sine(typing, t):  # noqa: ANN001
    """sin(pi t) for |t| <= 1/2."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (value,) = arguments
        terms = SIN32 if t.dtype == types.float32 else SIN64
        return builder.fmul(value, _polynomial(builder, terms, builder.fmul(value, value)))

    return t(t), generate


@intrinsic
def cosine(typing, t):  # noqa: ANN001
    """cos(pi t) for |t| <= 1/2."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (value,) = arguments
        return _polynomial(builder, COS32 if t.dtype == types.float32 else COS64, builder.fmul(value, value))

    return t(t), generate
