"""Which model was measured, and how it ran: what must agree before two results are one."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

_TOLERANCE = 1e-3  # of the largest probed logit: float32 on another device rounds to 1e-5, another forward does not


@dataclasses.dataclass(frozen=True, eq=False)
class Identity:
    """A model as it ran. The version of torch and the device are no part of it.

    Attributes:
        weights: SHA-256 over names, shapes and bytes of all weights, shortened.
        mean: (c,) subtracted from pixels, None where the model takes pixels.
        std: (c,) divided by.
        numerics: what rounds, such as "precision=fp32", one text each.
        probe: (2, k) float32 logits of two fixed noise images, at most 32 classes: another forward with the same
            weights is another model.
        metrics: values of the metrics, in the order of their names, on fixed noise in place of logits: a function under
            the name of another is another metric. Empty where there are none.
    """

    weights: str
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    numerics: tuple[str, ...]
    probe: NDArray[np.float32]
    metrics: tuple[float, ...] = ()

    def difference(self, other: Identity) -> str | None:
        """What differs, in words, or None where both are the same model run in the same way."""
        if self.weights != other.weights:
            return "weights"
        if (self.mean, self.std) != (other.mean, other.std):
            return f"normalisation (mean {self.mean}, std {self.std} and mean {other.mean}, std {other.std})"
        if self.numerics != other.numerics:
            changed = sorted(set(self.numerics) ^ set(other.numerics))
            return f"precision or rounding ({', '.join(changed)})"
        if self.probe.shape != other.probe.shape:
            return "numbers of classes"
        if self.probe.size:
            scale = max(1e-6, float(np.abs(self.probe[np.isfinite(self.probe)]).max(initial=0)))
            close = np.isclose(self.probe, other.probe, rtol=0, atol=_TOLERANCE * scale, equal_nan=True)
            if not close.all():
                return "forward passes (same weights, other outputs)"
        if len(self.metrics) == len(other.metrics):  # else their names differ, which the results say
            mine, theirs = np.array([self.metrics, other.metrics])
            if not np.allclose(mine, theirs, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True):
                return "metrics (the same names for other functions)"
        return None
