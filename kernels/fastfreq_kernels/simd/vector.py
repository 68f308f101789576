"""A numba type for floats side by side: one lane per matrix, arithmetic on all lanes at once.

Loops over lanes leave it to LLVM whether accumulators stay in registers; values of LLVM's own vector type do. What is
wider than a register LLVM splits, and the halves hide each other's latency.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.datamodel.registry import register_default
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic as _intrinsic
from numba.extending import lower_builtin

from .linking import jit

__all__ = [
    "REGISTER",
    "WIDE",
    "any_less",
    "fill",
    "fill_wide",
    "jit",
    "load",
    "load_wide",
    "root",
    "store",
    "to_double",
    "where_less",
]

intrinsic: Any = _intrinsic  # as functions without the typing context, which callers do not pass
REGISTER = 64 if llvm.get_host_cpu_features().get("avx512f", False) else 32  # bytes of a register
WIDE = 32  # lanes of a wide value
_FLAGS = ("contract",)  # a * b + c is one instruction; nothing is reordered, so every lane rounds alike


class Lanes(types.Type):
    """`count` floats of one type."""

    def __init__(self, dtype: Any, count: int) -> None:
        self.dtype, self.count = dtype, count
        super().__init__(name=f"Lanes({dtype}, {count})")


@register_default(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        element = ir.FloatType() if kind.dtype == types.float32 else ir.DoubleType()
        super().__init__(manager, kind, ir.VectorType(element, kind.count))


def _register(array: Any) -> Lanes:
    return Lanes(array.dtype, 8 * REGISTER // array.dtype.bitwidth)


def _wide(array: Any) -> Lanes:
    return Lanes(array.dtype, WIDE)


def _pointer(context: Any, builder: Any, signature: Any, arguments: Any, kind: Lanes) -> Any:
    data = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0]).data
    offset = builder.mul(arguments[1], ir.Constant(arguments[1].type, kind.count))
    return builder.bitcast(builder.gep(data, [offset]), context.get_value_type(kind).as_pointer())


def _loader(lanes: Callable[[Any], Lanes]) -> Callable[..., Any]:
    def load(typing: Any, array: Any, slot: Any) -> Any:
        kind = lanes(array)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = _pointer(context, builder, signature, arguments, kind)
            return builder.load(pointer, align=kind.dtype.bitwidth // 8)

        return kind(array, slot), generate

    return intrinsic(load)


load = _loader(_register)  # load(array, slot): the slot-th register of a contiguous array
load_wide = _loader(_wide)


@intrinsic
def store(typing, array, slot, value):  # noqa: D103, ANN001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature, arguments, value)
        builder.store(arguments[2], pointer, align=value.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, slot, value), generate


def _filler(lanes: Callable[[Any], Lanes]) -> Callable[..., Any]:
    def fill(typing: Any, array: Any, number: Any) -> Any:
        kind = lanes(array)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            scalar = context.cast(builder, arguments[1], signature.args[1], kind.dtype)
            vector = context.get_value_type(kind)
            first = ir.Constant(ir.IntType(32), 0)
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, first)
            mask = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
            return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)

        return kind(array, number), generate

    return intrinsic(fill)


fill = _filler(_register)  # fill(array, number): the number in all lanes of a register of the array's type
fill_wide = _filler(_wide)


def _arithmetic(function: Any, instruction: str) -> None:
    """An operator on two registers of one type, as one instruction: no function that would be compiled for itself."""
    register: Any = infer_global

    @register(function)
    class _Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and isinstance(args[0], Lanes) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    @lower_builtin(function, Lanes, Lanes)
    def _(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments, flags=_FLAGS)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")
_arithmetic(operator.truediv, "fdiv")


@intrinsic
def root(typing, a):  # noqa: D103, ANN001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = arguments[0].type
        name = f"llvm.sqrt.v{a.count}f{a.dtype.bitwidth}"
        return builder.call(
            cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector]), name), arguments
        )

    return a(a), generate


@intrinsic
def to_double(typing, a):  # noqa: D103, ANN001
    kind = Lanes(types.float64, a.count)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if a.dtype == types.float64:
            return arguments[0]
        return builder.fpext(arguments[0], context.get_value_type(kind))

    return kind(a), generate


@intrinsic
def where_less(typing, a, b, yes, no):  # noqa: D103, ANN001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", arguments[0], arguments[1]), arguments[2], arguments[3])

    return no(a, b, yes, no), generate


@intrinsic
def any_less(typing, a, b):  # noqa: D103, ANN001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        mask = builder.fcmp_ordered("<", arguments[0], arguments[1])
        bits = builder.bitcast(mask, ir.IntType(a.count))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(a, b), generate
