"""What the results of all experiments that train networks share: how, on which steps, from which seeds."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastfreq.results.folds import same
from fastfreq.results.result import Result

from .recipe import Training, short_name


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class TrainedResult(Result):
    """Base of the results of networks that were trained, by seed.

    Attributes:
        training: how networks were made and trained.
        steps: (t,) after which they were looked at.
    """

    SHAPES: ClassVar[dict[str, str]] = {"steps": "t"}

    training: Training = same()
    steps: NDArray[np.int64] = same()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """What arrays of a run have which shape."""
        return {}

    def _check_shapes(self) -> None:
        """Refuse runs whose arrays do not fit the rest: a file may say anything."""
        super()._check_shapes()
        for seed, run in self._runs().items():
            if not isinstance(seed, int):
                raise ValueError(f"expected seeds as integers, got {seed!r:.40}")
            for name, shape in self._shapes().items():
                if getattr(run, name).shape != shape:
                    raise ValueError(
                        f"expected `{name}` of seed {seed} of shape {shape}, got {getattr(run, name).shape}"
                    )

    def _runs(self) -> dict[int, Any]:
        """Seed -> run."""
        return getattr(self, "runs")  # noqa: B009  each subclass declares its own type

    @property
    def seeds(self) -> tuple[int, ...]:
        """One network, or set of networks, each; ascending, however shards were merged."""
        return tuple(sorted(self._runs()))

    def _in_order(self) -> list[Any]:
        return [self._runs()[seed] for seed in self.seeds]

    def record_of(self, step: int) -> int:
        """Index of a recorded step.

        Raises:
            ValueError: a step that was not recorded.
        """
        at = np.flatnonzero(self.steps == step)
        if not len(at):
            raise ValueError(f"expected a recorded step, of 0 to {self.steps[-1]}, got {step}; `steps` lists them")
        return int(at[0])


def details(network: nn.Module) -> dict[str, str]:
    """What people want to know of a result."""
    return {"model": short_name(network), "torch": str(torch.__version__)}
