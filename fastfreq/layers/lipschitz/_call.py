"""One operation as a rule sees it: arguments by name, and how far each depends on the image."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

Log = float | None  # logarithm of a Lipschitz constant from the image to a value; None for what does not depend on it
ZERO = -math.inf


class UnboundedError(ValueError):
    """An operation that has no constant, or none that is known; the message says why."""


@dataclasses.dataclass(frozen=True)
class Jump:
    """A result that has no constant and may be left unused, such as an index; in words."""

    why: str


@dataclasses.dataclass
class Call:
    """An operation of a graph.

    Attributes:
        op: the overload of torch.ops.aten.
        name: its name, without the underscore of one that works in place.
        args: values by the names of its schema, defaults included.
        logs: by the same names; lists for lists of tensors.
        result: what it returned.
        scale: factor on each output channel, of a batch norm that takes the result and is counted here.
        periodic: what a convolution pads with is a circular padding before it, of so many pixels on each axis.
    """

    op: Any
    name: str
    args: dict[str, Any]
    logs: dict[str, Any]
    result: Any
    scale: Tensor | None = None
    periodic: tuple[int, ...] | None = None

    def only(self, name: str, *, shapes: str = "") -> float:
        """The logarithm of the argument `name`, the only one that may depend on the image, but for the shape of one."""
        others = [key for key, log in self.logs.items() if key not in (name, shapes) and depends(log)]
        if others:
            raise UnboundedError(f"its argument `{others[0]}` depends on the image too")
        log = self.logs[name]
        assert isinstance(log, float)
        return log

    def run(self, /, **changed: Any) -> Any:
        """The operation again, with some arguments changed."""
        args = self.args | changed
        schema = self.op._schema.arguments
        positional = [args[a.name] for a in schema if not a.kwarg_only]
        return self.op(*positional, **{a.name: args[a.name] for a in schema if a.kwarg_only})


def depends(log: Any) -> bool:
    """Whether an argument depends on the image."""
    if isinstance(log, list | tuple):
        return any(depends(one) for one in log)
    return log is not None


def log_of(factor: float) -> float:
    """Its logarithm, -inf for 0.

    Raises:
        UnboundedError: a factor that is not finite.
    """
    if not math.isfinite(factor):
        raise UnboundedError(f"its constant here is {factor}")
    return math.log(factor) if factor > 0 else ZERO


def total(logs: Iterable[float]) -> float:
    """Logarithm of the sum."""
    every = list(logs)
    largest = max(every, default=ZERO)
    return largest if largest == ZERO else largest + math.log(sum(math.exp(x - largest) for x in every))


def together(logs: Iterable[float]) -> float:
    """Logarithm of the root of the sum of squares: of values that stand side by side."""
    return total(2 * x for x in logs) / 2


def copies(source: Any, result: Tensor) -> float:
    """Logarithm of the constant of broadcasting `source` to `result`: each element is copied equally often."""
    return log_of(result.numel() / max(source.numel(), 1)) / 2 if isinstance(source, Tensor) and result.numel() else 0.0


def matrix_norm(matrix: Tensor) -> float:
    """Largest singular value of a matrix, rounded up."""
    if not matrix.numel():
        return 0.0
    if not torch.isfinite(matrix).all():
        raise UnboundedError("its weights are not finite")
    return float(torch.linalg.matrix_norm(matrix.detach().double().cpu(), 2)) * (1 + 1e-12)
