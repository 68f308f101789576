"""What a map to a stated precision may be asked for."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastfreq.vocabulary import numbers
from fastfreq.vocabulary.conventions import Convention


def seconds(budget: float | str) -> float:
    """A time as a number of seconds.

    Raises:
        ValueError: no positive time.
    """
    units = {"s": 1.0, "min": 60.0, "h": 3600.0}
    text = str(budget).strip()
    unit = next((u for u in ("min", "s", "h") if text.endswith(u)), "")
    try:
        value = float(text.removesuffix(unit)) * units.get(unit, 1.0)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise ValueError(f"expected a `budget` in seconds, or such as '90s', '10min' or '2h', got {budget!r}")
    return value


def half_width(value: Any) -> float:
    """A precision.

    Raises:
        ValueError: none in 0 .. 0.5.
    """
    goal = numbers.as_float("precision_goal", value)
    if not 0 < goal < 0.5:
        raise ValueError(f"expected a `precision_goal` between 0 and 0.5, such as 0.03, got {value!r}")
    return goal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for."""

    eps: float
    convention: Convention
    seed: int
    size: int | tuple[int, int] | None
    method: str
    precision_goal: float
    whole_map: bool
    target: str
    seconds: float | None
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.method not in ("controls", "exact", "anytime"):
            raise ValueError(f"expected a `method` 'controls', 'exact' or 'anytime', got {self.method!r}")
        if self.target not in ("images", "source"):
            raise ValueError(f"expected a `target` of 'images' or 'source', got {self.target!r}")
