"""Functions that torch.compile leaves as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., object])


def outside_graphs(function: Function) -> Function:
    """`function`, which torch.compile runs between its graphs: loops until convergence, integer bookkeeping."""
    return cast(Function, torch.compiler.disable(function))
