"""Where the frequency principle holds and where it does not: five modes, each a case to run and its opposite."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fastfreq.results import tables
from fastfreq.results.folds import same
from fastfreq.results.result import Result
from fastfreq.vocabulary import numbers
from fastfreq.vocabulary.checks import check_seed

from . import _order_cases as cases

FloatArray = NDArray[np.float64]
Mode = Literal["derivative_loss", "activation", "density", "feature_learning", "amplitude"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FrequencyOrder(Result, kind="frequency_order"):
    """In which order the frequencies of a target on the circle were learned.

    Attributes:
        mode: what the case is about.
        case: "holds" or "fails", what is expected of the frequency principle.
        setting: the case in words.
        frequencies: (f,) ascending.
        amplitudes: (f,) |f*^(k)| of the target.
        times: (r,) steps of training, or times of an exact flow.
        errors: (r, f) |h^(k) - f*^(k)| / |f*^(k)|.
        predicted: (f,) rates of the tangent kernel at the start, per unit of half the mean squared error (or of its
            derivatives); NaN where none is predicted.
        criterion: whether "relative" or "absolute" errors are watched.
        threshold: below which a frequency counts as learned; absolute ones are shares of the largest amplitude.
        seed: of the weights.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "frequencies": "f",
        "amplitudes": "f",
        "times": "r",
        "errors": "r f",
        "predicted": "f",
    }

    mode: str = same()
    case: str = same()
    setting: str = same()
    frequencies: NDArray[np.int64] = same()
    amplitudes: FloatArray = same()
    times: FloatArray = same()
    errors: FloatArray = same()
    predicted: FloatArray = same()
    criterion: str = same()
    threshold: float = same()
    seed: int = same()

    @property
    def watched(self) -> FloatArray:
        """(r, f) the errors that the criterion is about."""
        return self.errors if self.criterion == "relative" else self.errors * self.amplitudes / self.amplitudes.max()

    def hits(self, criterion: str | None = None) -> FloatArray:
        """(f,) the time from which on the error stays below the threshold; infinite where it never does."""
        watched = self.errors if (criterion or self.criterion) == "relative" else self.watched
        above = ~(watched < self.threshold)
        last = np.where(above.any(axis=0), len(above) - above[::-1].argmax(axis=0), 0)
        return np.append(self.times, np.inf)[last]

    def order(self, criterion: str | None = None) -> str:
        """Whether lower frequencies were learned before higher ones: "holds", "reversed" or "mixed"."""
        return _order(self.hits(criterion))

    @property
    def predicted_order(self) -> str:
        """The same of the predicted rates; "unknown" where there are none."""
        return "unknown" if np.isnan(self.predicted).any() else _order(-self.predicted)

    def table(self) -> list[dict[str, Any]]:
        """One row per frequency."""
        return tables.from_columns(
            {
                "frequency": self.frequencies,
                "amplitude": self.amplitudes,
                "predicted_rate": self.predicted,
                "learned_at": self.hits(),
                "last_error": self.errors[-1],
            }
        )

    def headline(self) -> str:
        """What was expected and what came."""
        return f"{self.mode}, expected: {self.case}; {self.criterion} order {self.order()}: {self.setting}"


def frequency_order(mode: Mode, *, fails: bool = False, seed: int = 0, steps: int | None = None) -> FrequencyOrder:
    """Run a case of the frequency principle, or of its failure, on the circle 0 .. 2 pi.

    - "derivative_loss" (i): a tanh network under the loss of order 0; fails: of order 2, on second derivatives. The
      tangent kernel at the start alone would not turn the order yet; with Adam, and a kernel that changes, it turns.
      `torus_flow` has the case in which |k|^(2 s) |sigma^(k)|^2 itself rises, without a network.
    - "activation" (ii): a network of sin(omega w.x + b), omega = 2.5; fails: 7, whose |sigma^(k)| rises up to k = 7.
    - "density" (iii): features with a kernel 1 / (1 + k^2) and data spread evenly; fails: data of which nearly all lie
      where the target has its high frequency. Waves are no eigenfunctions then; the order of eigenfunctions stays.
    - "feature_learning" (iv): f(x) = sum_k u_k v_k phi_k(x) from large weights, which hardly move; fails: from small
      ones, that sit on a plateau until they have grown, first where the target is large.
    - "amplitude" (v): a tanh network and a target of equal amplitudes; fails: a high frequency so small that its
      absolute error is below the threshold first. The order of relative errors stays.

    Args:
        mode: of the five.
        fails: run the case in which the order is expected to break.
        seed: of the weights.
        steps: of training, or None for as many as the case needs.

    Raises:
        ValueError: no such mode, a number out of its range.

    Source: E, Ma, Wu 2019 (arXiv 1912.12777). Its text was not at hand: the modes are our reading, the cases ours.
    """
    if mode not in get_args(Mode):
        raise ValueError(f"expected `mode` as one of {', '.join(get_args(Mode))}, got {mode!r}")
    if steps is not None and numbers.as_int("steps", steps) < 1:
        raise ValueError(f"expected `steps` of at least 1, got {steps}")
    run = getattr(cases, mode)(bool(fails), check_seed(seed), steps)
    return FrequencyOrder(
        mode=mode,
        case="fails" if fails else "holds",
        setting=run.setting,
        frequencies=np.array(run.frequencies),
        amplitudes=run.amplitudes,
        times=run.times,
        errors=run.errors,
        predicted=run.predicted,
        criterion=run.criterion,
        threshold=run.threshold,
        seed=int(seed),
        details={"model": run.model, "reading": "ours, of arXiv 1912.12777"},
    )


def _order(hits: FloatArray) -> str:
    with np.errstate(invalid="ignore"):  # two that were never learned are alike
        steps = np.nan_to_num(np.diff(hits), nan=0.0, posinf=math.inf, neginf=-math.inf)
    if (steps >= 0).all() and (steps > 0).any():
        return "holds"
    return "reversed" if (steps <= 0).all() and (steps < 0).any() else "mixed"
