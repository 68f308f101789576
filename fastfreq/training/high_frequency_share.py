"""How much of the decrease of the loss high frequencies carry, stage by stage of training."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from fastfreq.engine.contexts import callers_level, undisturbed
from fastfreq.engine.copies import as_written, private_copy
from fastfreq.engine.model_checks import check_inputs as check_network
from fastfreq.results import tables
from fastfreq.results.folds import same
from fastfreq.results.result import Result
from fastfreq.vocabulary import numbers

from ._checkpoint import Checkpoint, check_folder
from ._windowed_error import HALF_WIDTH, Seen, WindowedError

FloatArray = NDArray[np.float64]
_PARTS = ("step", "network", "optimizer", "seen")  # of a checkpoint
_FLOOR = 1e-26  # share below which float64 has lost the transform to rounding
_CLEARLY = 4.0  # times the residuals of the other line
# largest k with sigma in W^(k, inf), locally; all others here are smooth
_REGULARITY: dict[type[nn.Module], int] = {
    nn.ReLU: 1, nn.LeakyReLU: 1, nn.PReLU: 1, nn.ReLU6: 1, nn.SELU: 1, nn.Hardswish: 1, nn.Hardtanh: 1,
    nn.Hardsigmoid: 1, nn.Hardshrink: 0, nn.Softshrink: 1, nn.ELU: 2, nn.CELU: 2, nn.Softsign: 2,
}  # fmt: skip
_LINEAR = (nn.Sequential, nn.Linear, nn.Identity, nn.Flatten, nn.Dropout)
_SMOOTH = (nn.Tanh, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Sigmoid, nn.Tanhshrink, nn.LogSigmoid)


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class HighFrequencyShare(Result, kind="high_frequency_share"):
    """The loss above each cutoff frequency, and what share of the loss's decrease it had, over training.

    Attributes:
        cutoffs: (c,) eta, in cycles per unit of the input.
        steps: (r,) of training at which it was looked.
        loss: (r,) L, the integral of |F[v]|^2 of the windowed error v = (h - f) sqrt(rho).
        high_loss: (r, c) the part of L at |xi| > eta.
        rate_share: (r, c) |dL+/dt| / |dL/dt| under gradient flow from there.
        gradient: (r,) |grad L|.
        regularity: k of the least regular activation, sigma in W^(k, inf); infinite for smooth ones, NaN if unknown.
        deviation: standard deviation of rho.
        dimension: of the input.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "cutoffs": "c",
        "steps": "r",
        "loss": "r",
        "high_loss": "r c",
        "rate_share": "r c",
        "gradient": "r",
    }

    cutoffs: FloatArray = same()
    steps: NDArray[np.int64] = same()
    loss: FloatArray = same()
    high_loss: FloatArray = same()
    rate_share: FloatArray = same()
    gradient: FloatArray = same()
    regularity: float = same()
    deviation: float = same()
    dimension: int = same()

    @property
    def half(self) -> int:
        """Place of the first record at which the loss has halved; the last where it never has."""
        below = np.flatnonzero(self.loss <= self.loss[0] / 2)
        return int(below[0]) if len(below) else len(self.loss) - 1

    @property
    def initial(self) -> FloatArray:
        """(c,) share of the rate at the start."""
        return self.rate_share[0]

    @property
    def intermediate(self) -> FloatArray:
        """(c,) |change of L+| / |change of L| from the start until the loss has halved."""
        return self._change(0, self.half)

    @property
    def whole(self) -> FloatArray:
        """(c,) the same from start to end."""
        return self._change(0, len(self.loss) - 1)

    @property
    def final(self) -> FloatArray:
        """(c,) share of the rate at the end: the largest of the last tenth of the records."""
        return self.rate_share[-max(1, len(self.steps) // 10) :].max(axis=0)

    def _change(self, start: int, stop: int) -> FloatArray:
        total = abs(self.loss[stop] - self.loss[start])
        if not total > 0:
            return np.full(len(self.cutoffs), np.nan)
        return np.abs(self.high_loss[stop] - self.high_loss[start]) / total

    @property
    def stages(self) -> dict[str, FloatArray]:
        """Shares by stage."""
        return {"initial": self.initial, "intermediate": self.intermediate, "final": self.final, "whole": self.whole}

    def exponent(self, stage: str = "initial") -> float:
        """The m of the power eta^-m through a stage's shares, as far as float64 tells them from rounding."""
        eta, share = self._told(stage)
        return -float(np.polyfit(np.log(eta), np.log(share), 1)[0]) if len(eta) > 1 else math.nan

    def local_exponents(self, stage: str = "initial") -> FloatArray:
        """(c - 1,) -d log share / d log eta between neighbouring cutoffs, as far as told; rises for smooth networks."""
        eta, share = self._told(stage)
        return -np.diff(np.log(share)) / np.diff(np.log(eta))

    def decay(self, stage: str = "initial") -> str:
        """Whether the shares of a stage fall as a power: "power law", "super-polynomial" or "unclear".

        Super-polynomial where the share falls to rounding, or where e^(-c eta) is far nearer to log share than eta^-m:
        a fourth of its squared residuals. A single network's shares scatter, those with kinks most of all: look at
        several seeds. "unknown" where too little can be told.
        """
        eta, share = self._told(stage)
        if len(eta) < np.sum(self.cutoffs > 0):
            return "super-polynomial" if np.isfinite(self.stages[stage]).all() else "unknown"
        if len(eta) < 3:
            return "unknown"
        power, exponential = (float(np.polyfit(x, np.log(share), 1, full=True)[1].sum()) for x in (np.log(eta), eta))
        if power <= exponential:
            return "power law"
        return "super-polynomial" if power > _CLEARLY * exponential else "unclear"

    def _told(self, stage: str) -> tuple[FloatArray, FloatArray]:
        """(cutoffs, shares) up to the first share that float64 cannot tell from rounding."""
        if stage not in self.stages:
            raise ValueError(f"expected `stage` as one of {', '.join(self.stages)}, got {stage!r}")
        eta, share = self.cutoffs[self.cutoffs > 0], self.stages[stage][self.cutoffs > 0]
        lost = np.flatnonzero(~(share > _FLOOR))
        count = int(lost[0]) if len(lost) else len(share)
        return eta[:count], share[:count]

    @property
    def guaranteed(self) -> float:
        """The largest m for which the theory gives share <= C eta^-m: 2 k - 1; infinite for smooth activations."""
        return 2 * self.regularity - 1

    def table(self) -> list[dict[str, Any]]:
        """One row per cutoff: shares by stage."""
        return tables.from_columns({"cutoff": self.cutoffs} | self.stages)

    def headline(self) -> str:
        """How the share falls at the start, and what the theory promises."""
        decay = self.decay()
        measured = decay if decay in ("super-polynomial", "unknown") else f"{decay} of exponent {self.exponent():.2f}"
        measured = measured.replace("unclear", "power law or not, unclear,")
        known = not math.isnan(self.guaranteed)
        promised = "nothing known" if not known else f"every power up to {self.guaranteed:g}"
        promised = "every power" if math.isinf(self.guaranteed) else promised
        return f"initial share: {measured}; the theory promises {promised}"


def high_frequency_share(
    model: nn.Module,
    target: Callable[[FloatArray], ArrayLike],
    *,
    cutoffs: Sequence[float] = (2, 3, 4, 6, 8, 12, 16, 24, 32),
    steps: int = 0,
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None,
    records: int = 40,
    deviation: float = 1.0,
    size: int = 4096,
    dimension: int = 1,
    checkpoint: str | Path | None = None,
) -> HighFrequencyShare:
    """Which share of the decrease of the loss lies above each frequency, at the start, on the way and at the end.

    The loss is the mean squared error under a Gaussian density rho, L = int |F[v]|^2 with v = (h - f) sqrt(rho), which
    splits at a cutoff eta. In all stages the part above has a share of at most C eta^-m of the change, m up to 2 k - 1
    for activations in W^(k, inf): a power law for ReLU and ELU, faster than any power for smooth ones. Constants
    depend on how far parameters move, not on eta. Rates need one gradient and one Jacobian-vector product for all
    cutoffs together. A copy in float64 is measured and trained; the model stays as it is.

    Args:
        model: (n, dimension) -> (n, outputs).
        target: of points (n, dimension), NumPy, to values (n,) or (n, outputs).
        cutoffs: eta ascending, in cycles per unit; above the target's own frequencies, and at most half the largest
            of the grid, size / (112 deviation).
        steps: of full-batch training; 0 looks at the start alone.
        optimizer: from parameters to an optimizer; None for gradient descent, with half the largest step that is stable
            at the start.
        records: at about how many steps to look, evenly in log(1 + step).
        deviation: standard deviation of rho.
        size: points of the grid along each axis, over -14 .. 14 deviations: without edges.
        dimension: of the input.
        checkpoint: folder in which the training keeps where it stands and what was seen, every 30 seconds and where it
            is interrupted; the same call goes on from there, bit for bit on one thread. Of the model, what its
            `state_dict` has.

    Raises:
        ValueError: shapes that do not fit, cutoffs that the grid does not reach, a loss that is not finite at the
            start; later it ends the records, with a warning.

    Source: Luo, Ma, Xu, Zhang 2019 (arXiv 1906.09235); its text was not at hand: our reading.
    """
    etas = np.array(numbers.ascending("cutoffs", cutoffs, numbers.as_float))
    scale, n, d = (
        numbers.as_float("deviation", deviation),
        numbers.as_int("size", size),
        numbers.as_int("dimension", dimension),
    )
    if not 1e-99 < scale < 1e99 or n < 8 or d < 1:  # its powers are float64's, too
        raise ValueError(
            f"expected `deviation` above 0 and below 1e99, `size` from 8, `dimension` from 1, got {scale}, {n}, {d}"
        )
    highest = n / (8 * HALF_WIDTH * scale)
    if etas[0] < 0 or etas[-1] > highest:
        raise ValueError(
            f"expected `cutoffs` from 0 to {highest:.4g}, half the grid's largest frequency (beyond, the part above is "
            f"cut off), got {etas[-1]:g}; give a larger `size`"
        )
    if numbers.as_int("steps", steps) < 0 or numbers.as_int("records", records) < 2:
        raise ValueError(f"expected `steps` of at least 0 and `records` of at least 2, got {steps} and {records}")
    check_network(model)
    check_folder(checkpoint)
    for name, function in (("target", target), ("optimizer", optimizer)):
        if not callable(function) and not (name == "optimizer" and function is None):
            raise TypeError(f"expected `{name}` as a function, got {type(function).__name__}")
    with as_written(), undisturbed(gradients=True), torch.enable_grad():
        net = private_copy(model).double()
        error = WindowedError(net, target, scale, n, d)
        places = np.unique(np.round(np.expm1(np.linspace(0, math.log1p(steps), records))).astype(np.int64))
        seen = _trained(error, optimizer or error.descent, places, etas, checkpoint)
    if len(seen) < len(places):
        warnings.warn(
            f"the loss was not finite at step {places[len(seen)]}: the records before it are in the result; give an "
            f"`optimizer` with a smaller rate",
            stacklevel=callers_level(),
        )
    loss, high, share, gradient = (np.stack(values) for values in zip(*seen, strict=True))
    return HighFrequencyShare(
        cutoffs=etas,
        steps=places[: len(loss)],
        loss=loss,
        high_loss=high,
        rate_share=share,
        gradient=gradient,
        regularity=regularity(net),
        deviation=scale,
        dimension=d,
        details={"model": type(model).__name__, "reading": "ours, of arXiv 1906.09235"},
    )


def regularity(model: nn.Module) -> float:
    """The k of the least regular activation; infinite if all are smooth.

    NaN for a model with modules other than torch's own linear layers and activations in sequence, or with hooks: what
    code of the user's does is not known.
    """
    modules = list(model.modules())
    own = any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in modules)
    if own or not all(type(m) in (*_LINEAR, *_REGULARITY, *_SMOOTH) for m in modules):
        return math.nan
    return min(map(_order, modules), default=math.inf)


def _order(module: nn.Module) -> float:
    if isinstance(module, nn.ELU) and module.alpha != 1:
        return 1.0  # its slope jumps from alpha to 1
    if isinstance(module, nn.Softplus) and module.threshold < 20:
        return 0.0  # it jumps to x there; at torch's own 20 by 2e-9
    return float(_REGULARITY.get(type(module), math.inf))


def _trained(
    error: WindowedError,
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    places: NDArray[np.int64],
    etas: FloatArray,
    folder: str | Path | None,
) -> list[Seen]:
    """What is seen at each of `places` of training."""
    last = int(places[-1])
    descent = optimizer(error.trained) if last else None
    if descent is not None and not isinstance(descent, torch.optim.Optimizer):
        raise TypeError(f"expected `optimizer` to make an optimizer of torch, got {type(descent).__name__}")
    settings = {} if descent is None else descent.state_dict()
    request = [str(error.net), error.net.state_dict(), list(error.parameters), type(descent).__name__, settings]
    request += ["shares", error.target, error.window, error.grid, etas, places]
    checkpoint = Checkpoint(folder, request if folder is not None else None, parts=_PARTS)

    def state(step: int) -> dict[str, Any]:
        records = [torch.from_numpy(np.array(each)) for each in zip(*seen, strict=True)]
        kept = (step, error.net.state_dict(), {} if descent is None else descent.state_dict(), records)
        return dict(zip(_PARTS, kept, strict=True))

    def closure() -> float:
        assert descent is not None
        descent.zero_grad()
        loss = error(dict(error.parameters)).square().sum()
        loss.backward()
        return float(loss.detach())

    with checkpoint.guarded():
        first, seen = _go_on(checkpoint.before(), error.net, descent)
        for step in range(first, last + 1):
            if len(seen) <= np.searchsorted(places, step) and step in places:
                found = error.look(etas)
                if not math.isfinite(found[0]):
                    if not seen:
                        raise ValueError(f"expected a finite loss before training, got {found[0]}; check the weights")
                    return seen
                seen.append(found)
            checkpoint.keep(lambda at=step: state(at), at=f"step {step}", last=step == last)
            if descent is not None and step < last:
                descent.step(closure)
    return seen


def _go_on(
    before: dict[str, Any] | None, net: nn.Module, descent: torch.optim.Optimizer | None
) -> tuple[int, list[Seen]]:
    """The step to go on from and what was seen; the network is put where it stood."""
    if before is None:
        return 0, []
    step, weights, settings, records = (before[name] for name in _PARTS)
    net.load_state_dict(weights)
    if descent is not None:
        descent.load_state_dict(settings)
    loss, high, share, gradient = (each.numpy() for each in records)
    return step, [(float(a), b, c, float(d)) for a, b, c, d in zip(loss, high, share, gradient, strict=True)]
