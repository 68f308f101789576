"""One sample that stands out of a line: how much of its flat spectrum networks of which making fit."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastfreq.engine.contexts import undisturbed
from fastfreq.results import codec
from fastfreq.results.folds import same, union
from fastfreq.vocabulary import numbers, statistics

from . import _spectra
from ._training import Fit
from .recipe import Recipe, check_seeds, filled, make_network
from .trained import TrainedResult, details

FloatArray = NDArray[np.float64]


@codec.record
@dataclasses.dataclass(frozen=True, eq=False)
class DeltaRun:
    """One network for each setting.

    Attributes:
        amplitude: (s, k) |f_k| / |target_k| after the last step.
        loss: (s,) mean square after the last step, over that of the target.
    """

    amplitude: FloatArray
    loss: FloatArray


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DeltaFit(TrainedResult, kind="delta_fit"):
    """Spectra of networks that were trained on a delta function. ``a + b`` merges runs of other seeds.

    Attributes:
        varied: (s,) what each setting varies: "depth", "width" or "clip".
        values: (s,) to which value; the others are as in `base`.
        parameters: (s,) numbers that are trained.
        base: (depth, width, clip) of what is not varied; clip is inf for none.
        samples: points of the grid; frequencies are 1 .. below half of them.
        runs: seed -> what became of its networks.
    """

    SHAPES: ClassVar[dict[str, str]] = {"varied": "s", "values": "s", "parameters": "s"}

    varied: tuple[str, ...] = same()
    values: FloatArray = same()
    parameters: NDArray[np.int64] = same()
    base: tuple[int, int, float] = same()
    samples: int = same()
    runs: dict[int, DeltaRun] = union()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {"amplitude": (len(self.varied), len(self.frequencies)), "loss": (len(self.varied),)}

    @property
    def frequencies(self) -> NDArray[np.int64]:
        """(k,) whole cycles on [0, 1)."""
        return np.arange(1, (self.samples + 1) // 2)

    @property
    def mean_amplitude(self) -> FloatArray:
        """(s, k) amplitude over the delta's, mean over networks."""
        return np.mean([run.amplitude for run in self._in_order()], axis=0)

    @property
    def reach(self) -> FloatArray:
        """(seeds, s) share of the delta's spectrum that is fitted: amplitude cut to 0 .. 1, mean over frequencies."""
        return np.stack([np.clip(run.amplitude, 0, 1).mean(axis=1) for run in self._in_order()])

    def of(self, varied: str) -> NDArray[np.int64]:
        """Indices of the settings that vary one thing, values ascending.

        Raises:
            ValueError: nothing of that name was varied.
        """
        found = [i for i, name in enumerate(self.varied) if name == varied]
        if not found:
            raise ValueError(f"expected one of {sorted(set(self.varied))}, got {varied!r}")
        return np.array(found)

    def rank_correlation(self, varied: str) -> float:
        """Spearman's correlation of mean `reach` and value: 1 where more of it always fits more."""
        at = self.of(varied)
        return statistics.rank_correlation(self.values[at], self.reach.mean(axis=0)[at])

    def per_doubling(self, varied: str) -> float:
        """Mean `reach` gained each time the parameters double: the slope of a line against log2 of their number.

        Raises:
            ValueError: nothing of that name was varied, or the number of parameters is the same throughout.
        """
        at = self.of(varied)
        doublings = np.log2(self.parameters[at])
        if np.ptp(doublings) == 0:
            raise ValueError(
                f"expected what changes the number of parameters, {varied!r} leaves {self.parameters[at[0]]}"
            )
        return float(np.polyfit(doublings, self.reach.mean(axis=0)[at], 1)[0])

    def table(self) -> list[dict[str, Any]]:
        """One row per seed and setting."""
        rows = []
        for i, (seed, run) in enumerate(zip(self.seeds, self._in_order(), strict=True)):
            for s, (varied, value) in enumerate(zip(self.varied, self.values, strict=True)):
                rows.append(
                    {
                        "seed": seed,
                        "varied": varied,
                        "value": float(value),
                        "parameters": int(self.parameters[s]),
                        "reach": float(self.reach[i, s]),
                        "loss": float(run.loss[s]),
                    }
                )
        return rows

    def headline(self) -> str:
        """Reach from the smallest to the largest of each."""
        reach, parts = self.reach.mean(axis=0), []
        for varied in dict.fromkeys(self.varied):
            at = self.of(varied)
            first, last = self.values[at[0]], self.values[at[-1]]
            parts.append(f"{varied} {first:g} to {last:g}: {reach[at[0]]:.2f} to {reach[at[-1]]:.2f}")
        return f"share of the spectrum fitted: {'; '.join(parts)}"


@undisturbed(gradients=True)  # whatever the caller is in
def delta_fit(
    depths: Sequence[int] = (3, 4, 5, 6),
    *,
    widths: Sequence[int] = (16, 32, 64, 128),
    clips: Sequence[float] = (0.05, 0.1, 0.2, 0.4),
    base: tuple[int, int, float | None] = (4, 64, None),
    samples: int = 64,
    seeds: Sequence[int] = (0,),
    recipe: Recipe | None = None,
) -> DeltaFit:
    """Train networks on a delta function at z = 1/2, whose spectrum is flat, varying depth, width and a weight clip.

    The largest amplitude that a network can have at a frequency grows with its Lipschitz constant, at most the product
    of its layers' norms: exponentially in depth, and in the parameters' size as a power that is the depth. The target
    is sqrt(n) at one of n samples and 0 elsewhere: its mean square is 1.

    Args:
        depths: linear layers, ascending; () for none. For these the network is of the base's width and clip.
        widths: units, ascending; () for none.
        clips: largest magnitude left to each parameter after each step, ascending; () for none.
        base: (depth, width, clip) of what is not varied; None for no clip.
        samples: n.
        seeds: one network each, for each setting.
        recipe: its network takes `depth` and `width` as keywords, as `relu_network` does; by default Adam at 1e-3,
            2,000 steps (the paper's are not known to us).

    Raises:
        ValueError: arguments out of range.
        TypeError: an argument of another type.

    Source: Rahaman et al. 2019, appendix on depth, width and weight clip.
    """
    n, seeds = numbers.as_int("samples", samples), check_seeds(seeds)
    if n < 4:
        raise ValueError(f"expected `samples` from 4, got {n}")
    recipe = filled(recipe, rate=1e-3, steps=2000, record_every=2000)
    settings = _settings(depths, widths, clips, base)
    runs: dict[int, list[tuple[FloatArray, float]]] = {seed: [] for seed in seeds}
    parameters, fits = [], list[Fit]()
    for depth, width, clip in (each[2] for each in settings):
        fit, rows = _fitted(recipe, n, seeds, depth, width, clip)
        fits.append(fit)
        parameters.append(fit.training.parameters)
        for seed, row in zip(seeds, rows, strict=True):
            runs[seed].append(row)
    depth, width, clip = base
    first = fits[0]
    training = dataclasses.replace(first.training, network=f"{_name(recipe)}, depth and width varied", parameters=0)
    return DeltaFit(
        details=details(first.networks.modules()[0]) | {"model": f"{_name(recipe)}s of {len(fits)} makings"},
        training=training,
        steps=first.steps[[0, -1]],
        varied=tuple(each[0] for each in settings),
        values=np.array([each[1] for each in settings], dtype=np.float64),
        parameters=np.array(parameters, dtype=np.int64),
        base=(depth, width, math.inf if clip is None else float(clip)),
        samples=n,
        runs={
            seed: DeltaRun(np.stack([a for a, _ in rows]), np.array([loss for _, loss in rows]))
            for seed, rows in runs.items()
        },
    )


def _name(recipe: Recipe) -> str:
    """Of the factory."""
    return str(getattr(recipe.network, "__name__", None) or type(recipe.network).__name__).replace("_", " ")


def _settings(
    depths: Sequence[int], widths: Sequence[int], clips: Sequence[float], base: tuple[int, int, float | None]
) -> list[tuple[str, float, tuple[int, int, float | None]]]:
    """(what is varied, to which value, (depth, width, clip))."""
    if len(base) != 3:
        raise ValueError(f"expected `base` as (depth, width, clip), got {base}")
    depth, width, clip = base
    found: list[tuple[str, float, tuple[int, int, float | None]]] = []
    if len(numbers.sequence("depths", depths)):
        found += [("depth", d, (d, width, clip)) for d in numbers.ascending("depths", depths, numbers.as_int)]
    if len(numbers.sequence("widths", widths)):
        found += [("width", w, (depth, w, clip)) for w in numbers.ascending("widths", widths, numbers.as_int)]
    if len(numbers.sequence("clips", clips)):
        found += [("clip", c, (depth, width, c)) for c in numbers.ascending("clips", clips, numbers.as_float)]
    if not found:
        raise ValueError("expected some of `depths`, `widths` and `clips`, got none")
    if any(c is not None and c <= 0 for _, _, (_, _, c) in found):
        raise ValueError(f"expected `clips` above 0, got {clips}")
    return found


def _fitted(
    recipe: Recipe, n: int, seeds: tuple[int, ...], depth: int, width: int, clip: float | None
) -> tuple[Fit, list[tuple[FloatArray, float]]]:
    """Amplitudes and last loss of each seed's network."""
    factory: Any = recipe.network
    made = dataclasses.replace(recipe, network=functools.partial(factory, depth=depth, width=width))
    z = _spectra.uniform(n)
    target = np.zeros(n)
    target[n // 2] = math.sqrt(n)
    fit = Fit(
        made,
        [make_network(made, 1, seed) for seed in seeds],
        z[:, None],
        np.tile(target, (len(seeds), 1)),
        names=[f"seed {seed}, depth {depth} and width {width}" for seed in seeds],
        seeds=seeds,
        clip=clip,
        recorded=("delta_fit",),
    )
    losses, found = fit.run(lambda _, outputs: {"outputs": outputs})
    k = np.arange(1, (n + 1) // 2)
    amplitude = np.abs(_spectra.waves(found["outputs"][-1], k)) / np.abs(_spectra.waves(target, k))
    return fit, [(row, float(loss)) for row, loss in zip(amplitude, losses[:, -1], strict=True)]
