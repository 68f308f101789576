"""Gradients through rectifiers that are shut: a unit that answers to nothing at the start has no gradient to follow."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_RELU = {torch.relu, F.relu, Tensor.relu}
_RELU_IN_PLACE = {torch.relu_, F.relu_, Tensor.relu_}
_RELU6 = {F.relu6}


class _Open(torch.autograd.Function):
    """min(max(x, 0), top), whose gradient passes where it is shut, in rows that may, if it would pass nowhere else."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, top: float, rows: Tensor) -> Tensor:
        ctx.save_for_backward(x, rows)
        ctx.top = top
        return x.clamp(0, top)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x, rows), (g,) = ctx.saved_tensors, grads
        usual = torch.where((x > 0) & (x < ctx.top), g, 0)
        if len(x) != len(rows):  # windows, or parts of a batch: whose they are is not known
            return usual, None, None
        # descent goes against g: below 0 what goes down further is left out, above the top what goes up
        opened = torch.where(((x <= 0) & (g > 0)) | ((x >= ctx.top) & (g < 0)), 0, g)
        none = ((usual.flatten(1) == 0).all(dim=1) & rows).reshape(-1, *[1] * (x.ndim - 1))
        return torch.where(none, opened, usual), None, None


class OpenRectifiers(TorchFunctionMode):
    """While it is entered, ReLU and ReLU6 pass gradients as `_Open` does; what they return is the same."""

    def __init__(self, rows: Tensor) -> None:
        """Open them for the images that (n,) `rows` says."""
        super().__init__()
        self._rows = rows

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """As in `TorchFunctionMode`."""
        given = kwargs or {}
        if func not in _RELU and func not in _RELU_IN_PLACE and func not in _RELU6:
            return func(*args, **given)
        x = args[0] if args else given["input"]
        in_place = func in _RELU_IN_PLACE or bool(given.get("inplace") or (len(args) > 1 and args[1]))
        top = 6.0 if func in _RELU6 else torch.inf
        if not in_place:
            return _Open.apply(x, top, self._rows)
        return x.copy_(_Open.apply(x.clone(), top, self._rows))  # pyright: ignore[reportArgumentType]
