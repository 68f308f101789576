"""The same target along curves of different shape: where the curve winds, high frequencies are learnt sooner."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfreq.engine.contexts import undisturbed
from fastfreq.results import codec, tables
from fastfreq.results.folds import same, union
from fastfreq.vocabulary import numbers

from . import _spectra
from ._ensemble import Ensemble
from ._training import Fit, Records
from .manifolds import Manifold, petals, points
from .recipe import Recipe, check_seeds, filled, make_network
from .sinusoid_learning import make_target
from .trained import TrainedResult, details

FloatArray = NDArray[np.float64]


@codec.record
@dataclasses.dataclass(frozen=True, eq=False)
class ManifoldRun:
    """One network for each shape of the curve, from the same weights.

    Attributes:
        amplitude: (l, t, k) |f_k| / |target_k| along the curve.
        loss: (l, t) mean square.
    """

    amplitude: FloatArray
    loss: FloatArray


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ManifoldLearning(TrainedResult, kind="manifold_learning"):
    """Amplitudes of a target's frequencies along curves, by shape and step. ``a + b`` merges runs of other seeds.

    Attributes:
        shapes: (l,) of the curve: petals.
        frequencies: (k,) whole cycles along the curve.
        samples: points on the curve.
        runs: seed -> what became of its networks.
    """

    SHAPES: ClassVar[dict[str, str]] = {"shapes": "l", "frequencies": "k"}

    shapes: FloatArray = same()
    frequencies: NDArray[np.int64] = same()
    samples: int = same()
    runs: dict[int, ManifoldRun] = union()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        shapes, t = len(self.shapes), len(self.steps)
        return {"amplitude": (shapes, t, len(self.frequencies)), "loss": (shapes, t)}

    @property
    def mean_amplitude(self) -> FloatArray:
        """(l, t, k) share of each frequency's amplitude that is there, cut to 0 .. 1, mean over networks."""
        return np.mean([np.clip(run.amplitude, 0, 1) for run in self._in_order()], axis=0)

    @property
    def last_loss(self) -> FloatArray:
        """(seeds, l) mean square after the last step."""
        return np.stack([run.loss[:, -1] for run in self._in_order()])

    @property
    def late_loss(self) -> FloatArray:
        """(seeds, l) median mean square over the last tenth of the records: a single step of Adam can jump up."""
        last = max(1, len(self.steps) // 10)
        return np.stack([np.median(run.loss[:, -last:], axis=1) for run in self._in_order()])

    def table(self) -> list[dict[str, Any]]:
        """One row per seed, shape and frequency, after the last step."""
        rows = []
        for seed, run in zip(self.seeds, self._in_order(), strict=True):
            for index, shape in enumerate(self.shapes):
                hits = _spectra.first_hit(run.amplitude[index] > 0.5, self.steps)
                rows += tables.from_columns(
                    {
                        "seed": seed,
                        "shape": shape,
                        "loss": run.loss[index, -1],
                        "frequency": self.frequencies,
                        "learnt_at": hits,
                        "amplitude": run.amplitude[index, -1],
                    }
                )
        return rows

    def headline(self) -> str:
        """The loss by shape, late."""
        pairs = zip(self.shapes, self.late_loss.mean(axis=0), strict=True)
        return "loss " + ", ".join(f"{loss:.2g} at L = {shape:g}" for shape, loss in pairs)


@undisturbed(gradients=True)  # whatever the caller is in
def manifold_learning(
    shapes: Sequence[float] = (0, 4, 10, 16),
    *,
    frequencies: Sequence[int] = tuple(range(20, 201, 20)),
    amplitudes: ArrayLike = 1.0,
    target: _spectra.Curve | None = None,
    manifold: Manifold = petals,
    samples: int = 1000,
    seeds: Sequence[int] = (0,),
    recipe: Recipe | None = None,
) -> ManifoldLearning:
    """Train networks on points gamma_L(z) of a curve, with a sum of sinusoids in z as the target.

    Args:
        shapes: L of the curve, ascending; for `petals` how many.
        frequencies: whole cycles along the curve, ascending.
        amplitudes: as in `sinusoid_learning`.
        target: as in `sinusoid_learning`.
        manifold: z (n,), L -> points (n, d).
        samples: points, more than twice the highest frequency.
        seeds: one network each, for each shape from the same weights.
        recipe: by default the paper's: depth 6, width 256, Adam at 3e-4, here 10,000 steps (paper: 50,000).

    Raises:
        ValueError: arguments out of range.
        TypeError: an argument of another type.

    Source: Rahaman et al. 2019, Figure 3; steps of the authors' notebook.
    """
    k, n = _spectra.check_waves(frequencies, samples)
    seeds, lobes = check_seeds(seeds), numbers.ascending("shapes", shapes, numbers.as_float)
    recipe = filled(recipe, rate=3e-4, steps=10_000, record_every=100)
    z = _spectra.uniform(n)
    curves = points(manifold, z, lobes)
    targets = np.stack([make_target(z, k, amplitudes, target, seed) for seed in seeds])
    wanted = np.abs(_spectra.waves(targets, k))
    fit = Fit(
        recipe,
        [make_network(recipe, curves.shape[2], seed) for seed in seeds for _ in lobes],
        np.tile(curves, (len(seeds), 1, 1)),
        np.repeat(targets, len(lobes), axis=0),
        names=[f"seed {seed} and L = {shape:g}" for seed in seeds for shape in lobes],
        seeds=[seed for seed in seeds for _ in lobes],
        recorded=("manifold_learning", k, len(lobes)),
    )

    def record(_: Ensemble, outputs: FloatArray) -> Records:
        return {"waves": np.abs(_spectra.waves(outputs, k)).reshape(len(seeds), len(lobes), len(k))}

    losses, found = fit.run(record)
    losses = losses.reshape(len(seeds), len(lobes), -1)
    amplitude = np.moveaxis(found["waves"], 0, 2) / wanted[:, None, None]
    return ManifoldLearning(
        details=details(fit.networks.modules()[0]),
        training=fit.training,
        steps=fit.steps,
        shapes=np.array(lobes),
        frequencies=k,
        samples=n,
        runs={seed: ManifoldRun(amplitude[i], losses[i]) for i, seed in enumerate(seeds)},
    )
