"""What of a layer's output is raised: a unit at all places, at one, or of one token."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from fastfreq.vocabulary import numbers

from ._layer_view import LayerView


@dataclasses.dataclass(frozen=True)
class Objective:
    """One number for each image.

    Attributes:
        name: for the result.
        count: units of a layer's output.
        of: (output, (n,) units, (rows, columns) of pixels by which images were shifted) -> (n,): a unit at one place is
            taken where its pattern has come to, of two places between which that is the larger.
        stride: pixels from one place to the next where one of them is raised, None where all are.
    """

    name: str
    count: Callable[[Tensor], int]
    of: Callable[[Tensor, Tensor, tuple[int, int]], Tensor]
    stride: float | None = None


def objective_of(view: LayerView, objective: str | int) -> Objective:
    """By name, for the output of a layer.

    Raises:
        ValueError: another name, or what this output does not have.
    """

    def one_each(values: Tensor, units: Tensor) -> Tensor:
        return values[torch.arange(len(units), device=values.device), units]

    if isinstance(objective, str) and objective in ("channel", "center"):

        def of_maps(output: Tensor, units: Tensor, shift: tuple[int, int]) -> Tensor:
            mine = one_each(view.maps(output), units)
            if objective == "channel":
                return mine.mean(dim=(1, 2))
            rows, columns = (
                sorted({(n // 2 + step) % n for step in (math.floor(by * n / side), math.ceil(by * n / side))})
                for n, side, by in zip(mine.shape[1:], view.image, shift, strict=True)
            )
            return mine[:, rows][:, :, columns].amax(dim=(1, 2))

        places = view.maps(view.sample).shape[2:]
        stride = view.stride if objective == "center" and min(places) > 1 else None
        return Objective(str(objective), lambda output: view.maps(output).shape[1], of_maps, stride)
    token = 0 if isinstance(objective, str) and objective == "cls" else objective
    if isinstance(token, str):
        raise ValueError(f"expected `objective` of 'channel', 'center', 'cls' or a token's index, got {objective!r}")
    token = numbers.as_int("objective", token)
    if view.sample.ndim != 3:
        raise ValueError(
            f"expected layer {view.name!r} to return tokens (n, t, c) for objective {objective!r}, got "
            f"{tuple(view.sample.shape)}; take 'channel' or 'center'"
        )
    if not 0 <= token < view.sample.shape[1]:
        raise ValueError(f"expected a token from 0 to {view.sample.shape[1] - 1} as `objective`, got {token}")
    name = "cls" if objective == "cls" else f"token {token}"
    return Objective(name, lambda output: output.shape[2], lambda output, units, _: one_each(output[:, token], units))
