"""Functions that torch.compile leaves as they are."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., object])


def outside_graphs(function: Function) -> Function:
    """`function`, which torch.compile runs between its graphs: loops until convergence, integer bookkeeping.

    `torch.compiler.disable` loads the compiler, a second that `import fastfreq` should not take: it is left until the
    first call that a compiler could see.
    """
    disabled: list[Callable[..., Any]] = []  # functools.cache draws a warning from the compiler

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        if not disabled:
            disabled.append(torch.compiler.disable(function))
        return disabled[0](*args, **kwargs)

    return cast(Function, run)
