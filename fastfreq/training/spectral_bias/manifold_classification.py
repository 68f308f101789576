"""Two classes that alternate along a curve: how often they may, for a curve of which shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastfreq.engine.contexts import undisturbed
from fastfreq.results import codec, tables
from fastfreq.results.folds import same, union
from fastfreq.vocabulary import numbers, statistics

from . import _spectra
from ._ensemble import Ensemble
from ._training import Fit, Records
from .manifolds import Manifold, petals, points
from .recipe import Recipe, check_seeds, filled, make_network
from .trained import TrainedResult, details

FloatArray = NDArray[np.float64]


@codec.record
@dataclasses.dataclass(frozen=True, eq=False)
class ClassificationRun:
    """One network for each frequency and shape, from the same weights.

    Attributes:
        loss: (k, l, t) cross-entropy.
        accuracy: (k, l, t) share of the points on the right side.
    """

    loss: FloatArray
    accuracy: FloatArray


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ManifoldClassification(TrainedResult, kind="manifold_classification"):
    """Accuracy by frequency of the classes and shape of the curve. ``a + b`` merges runs of other seeds.

    Attributes:
        frequencies: (k,) whole cycles of the label along the curve.
        shapes: (l,) of the curve: petals.
        samples: points on the curve.
        runs: seed -> what became of its networks.
    """

    SHAPES: ClassVar[dict[str, str]] = {"shapes": "l", "frequencies": "k"}

    frequencies: NDArray[np.int64] = same()
    shapes: FloatArray = same()
    samples: int = same()
    runs: dict[int, ClassificationRun] = union()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        shape = (len(self.frequencies), len(self.shapes), len(self.steps))
        return {"loss": shape, "accuracy": shape}

    @property
    def mean_accuracy(self) -> FloatArray:
        """(k, l) after the last step, mean over networks."""
        return np.mean([run.accuracy[:, :, -1] for run in self._in_order()], axis=0)

    @property
    def mean_loss(self) -> FloatArray:
        """(k, l) cross-entropy after the last step, mean over networks."""
        return np.mean([run.loss[:, :, -1] for run in self._in_order()], axis=0)

    def shape_correlation(self) -> FloatArray:
        """(k,) Spearman's correlation of mean loss and shape: -1 where each further petal helps."""
        return np.array([statistics.rank_correlation(self.shapes, row) for row in self.mean_loss])

    def frequency_correlation(self) -> FloatArray:
        """(l,) Spearman's correlation of mean loss and frequency: 1 where higher ones are harder."""
        return np.array([statistics.rank_correlation(self.frequencies, column) for column in self.mean_loss.T])

    def table(self) -> list[dict[str, Any]]:
        """One row per seed, frequency and shape, after the last step."""
        rows = []
        for seed, run in zip(self.seeds, self._in_order(), strict=True):
            for index, k in enumerate(self.frequencies):
                rows += tables.from_columns(
                    {
                        "seed": seed,
                        "frequency": int(k),
                        "shape": self.shapes,
                        "loss": run.loss[index, :, -1],
                        "accuracy": run.accuracy[index, :, -1],
                    }
                )
        return rows

    def headline(self) -> str:
        """Accuracies on the simplest and on the most winding curve."""
        first, last = self.mean_accuracy.mean(axis=0)[[0, -1]]
        return f"mean accuracy {first:.2f} at L = {self.shapes[0]:g}, {last:.2f} at L = {self.shapes[-1]:g}"


@undisturbed(gradients=True)  # whatever the caller is in
def manifold_classification(
    frequencies: Sequence[int] = tuple(range(50, 401, 50)),
    *,
    shapes: Sequence[float] = (0, 4, 8, 12, 16, 20),
    manifold: Manifold = petals,
    samples: int = 1000,
    seeds: Sequence[int] = (0,),
    recipe: Recipe | None = None,
) -> ManifoldClassification:
    """Train networks to tell the sign of sin(2 pi k z + phi) at points gamma_L(z) of a curve, on a grid of k and L.

    Args:
        frequencies: k, whole cycles along the curve, ascending.
        shapes: L of the curve, ascending; for `petals` how many.
        manifold: z (n,), L -> points (n, d).
        samples: points, more than twice the highest frequency.
        seeds: one network and one phase each, for each k and L from the same weights.
        recipe: by default depth 6, width 256, Adam at 3e-4 on cross-entropy, 10,000 steps.

    Raises:
        ValueError: arguments out of range.
        TypeError: an argument of another type.

    Source: Rahaman et al. 2019, Figure 4.
    """
    k, n = _spectra.check_waves(frequencies, samples)
    seeds, lobes = check_seeds(seeds), numbers.ascending("shapes", shapes, numbers.as_float)
    recipe = filled(recipe, rate=3e-4, steps=10_000, record_every=1000)
    z = _spectra.uniform(n)
    curves = points(manifold, z, lobes)
    phase = np.array([_spectra.phases(seed, 1)[0] for seed in seeds])
    labels = (np.sin(2 * np.pi * k[:, None] * z + phase[:, None, None]) > 0).astype(np.float64)  # (seeds, k, n)
    each = [(seed, int(f), shape) for seed in seeds for f in k for shape in lobes]
    fit = Fit(
        recipe,
        [make_network(recipe, curves.shape[2], seed) for seed, _, _ in each],
        np.tile(curves, (len(seeds) * len(k), 1, 1)),
        np.repeat(labels.reshape(-1, n), len(lobes), axis=0),
        names=[f"seed {seed}, k = {f} and L = {shape:g}" for seed, f, shape in each],
        seeds=[seed for seed, _, _ in each],
        loss="logistic",
        recorded=("manifold_classification", len(lobes)),
    )
    grid = (len(seeds), len(k), len(lobes))

    def record(_: Ensemble, outputs: FloatArray) -> Records:
        right = (outputs.reshape(*grid, n) > 0) == (labels[:, :, None] > 0)
        return {"accuracy": right.mean(axis=3)}

    losses, found = fit.run(record)
    losses, accuracy = losses.reshape(*grid, -1), np.moveaxis(found["accuracy"], 0, 3)
    return ManifoldClassification(
        details=details(fit.networks.modules()[0]),
        training=fit.training,
        steps=fit.steps,
        frequencies=k,
        shapes=np.array(lobes),
        samples=n,
        runs={seed: ClassificationRun(losses[i], accuracy[i]) for i, seed in enumerate(seeds)},
    )
