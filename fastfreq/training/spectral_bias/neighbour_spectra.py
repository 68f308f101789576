"""A network beside k nearest neighbours, both through the same points: whose spectrum falls faster."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastfreq.engine.contexts import undisturbed
from fastfreq.results import codec
from fastfreq.results.folds import same, union
from fastfreq.vocabulary import numbers, streams

from . import _spectra
from ._training import Fit
from .recipe import Recipe, check_seeds, filled, make_network
from .trained import TrainedResult, details

FloatArray = NDArray[np.float64]
_BLOCK = 1024  # grid points whose distances are kept at a time


@codec.record
@dataclasses.dataclass(frozen=True, eq=False)
class NeighbourRun:
    """One set of points, one network.

    Attributes:
        network: (r,) amplitude of the network's outputs on the grid, by ring.
        neighbours: (m, r) of the mean of the nearest points' labels, for each number of them.
        loss: mean square of the network on the points after the last step.
    """

    network: FloatArray
    neighbours: FloatArray
    loss: float


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NeighbourSpectra(TrainedResult, kind="neighbour_spectra"):
    """Radial spectra of functions through random labels of random points. ``a + b`` merges runs of other seeds.

    Attributes:
        neighbours: (m,) numbers of nearest neighbours.
        radius: (r,) cycles per side of the unit square.
        points: labelled ones.
        grid: side of the grid on which functions are compared.
        runs: seed -> what became of its points and network.
    """

    SHAPES: ClassVar[dict[str, str]] = {"neighbours": "m", "radius": "r"}

    neighbours: NDArray[np.int64] = same()
    radius: FloatArray = same()
    points: int = same()
    grid: int = same()
    runs: dict[int, NeighbourRun] = union()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {"network": self.radius.shape, "neighbours": (len(self.neighbours), len(self.radius))}

    @property
    def mean_network(self) -> FloatArray:
        """(r,) root mean square over networks."""
        return np.sqrt(np.mean([run.network**2 for run in self._in_order()], axis=0))

    @property
    def mean_neighbours(self) -> FloatArray:
        """(m, r) root mean square over sets of points."""
        return np.sqrt(np.mean([run.neighbours**2 for run in self._in_order()], axis=0))

    @property
    def band(self) -> NDArray[np.bool_]:
        """(r,) rings whose decay is measured: from sqrt(points) / 2, what the points can say, to a quarter of the grid.

        Above that, aliases of what the grid does not hold add to the spectrum.
        """
        return (self.radius >= np.sqrt(self.points) / 2) & (self.radius <= self.grid / 4)

    def exponents(self) -> tuple[FloatArray, FloatArray]:
        """((seeds,), (seeds, m)) a of amplitude ~ radius^-a over `band`: of networks and of nearest neighbours."""
        runs = self._in_order()
        own = np.array([self._exponent(run.network) for run in runs])
        return own, np.array([[self._exponent(row) for row in run.neighbours] for run in runs])

    def high_shares(self) -> tuple[FloatArray, FloatArray]:
        """((seeds,), (seeds, m)) share of the energy beyond sqrt(points) / 2 cycles: of networks and of neighbours."""
        high = self.radius >= np.sqrt(self.points) / 2

        def share(amplitude: FloatArray) -> float:
            energy = amplitude**2 * self.radius  # as many frequencies in a ring as its radius says
            return float(energy[high].sum() / energy.sum())

        runs = self._in_order()
        own = np.array([share(run.network) for run in runs])
        return own, np.array([[share(row) for row in run.neighbours] for run in runs])

    def _exponent(self, amplitude: FloatArray) -> float:
        seen = amplitude[self.band]
        if len(seen) < 2 or not (seen > 0).all():  # of labels that are all the same
            return float("nan")
        return -float(np.polyfit(np.log(self.radius[self.band]), np.log(amplitude[self.band]), 1)[0])

    def table(self) -> list[dict[str, Any]]:
        """One row per seed and predictor; 0 neighbours is the network."""
        (own, others), (own_share, other_shares) = self.exponents(), self.high_shares()
        rows = []
        for i, seed in enumerate(self.seeds):
            exponents, shares = [own[i], *others[i]], [own_share[i], *other_shares[i]]
            for k, exponent, share in zip((0, *self.neighbours), exponents, shares, strict=True):
                rows.append(
                    {
                        "seed": seed,
                        "predictor": "network" if k == 0 else f"{k}-NN",
                        "exponent": float(exponent),
                        "high_share": float(share),
                        "loss": float(self.runs[seed].loss) if k == 0 else float("nan"),
                    }
                )
        return rows

    def headline(self) -> str:
        """Exponents of decay."""
        own, others = self.exponents()
        parts = [f"{k}-NN {a:.2f}" for k, a in zip(self.neighbours, others.mean(axis=0), strict=True)]
        return f"amplitude falls as radius^-a, a of the network {own.mean():.2f}, {', '.join(parts)}"


@undisturbed(gradients=True)  # whatever the caller is in
def neighbour_spectra(
    neighbours: Sequence[int] = (1, 3, 5),
    *,
    points: int = 100,
    grid: int = 128,
    seeds: Sequence[int] = (0,),
    recipe: Recipe | None = None,
) -> NeighbourSpectra:
    """Train networks on random labels -1 and 1 of random points of the unit square, beside k nearest neighbours.

    Both are evaluated on a grid; spectra are root mean squares over rings, under Hann's window. Nearest neighbours jump
    where the nearest changes, a network with ReLU is continuous: its spectrum falls one power of the radius faster.

    Args:
        neighbours: k, ascending; the prediction is the mean label of the k nearest points.
        points: how many are drawn.
        grid: its side.
        seeds: one set of points and one network each.
        recipe: by default depth 6, width 256, Adam at 3e-4, 3,000 steps.

    Raises:
        ValueError: arguments out of range.
        TypeError: an argument of another type.

    Source: Rahaman et al. 2019, appendix: networks and nearest neighbours; points, grid and steps are ours.
    """
    k = numbers.ascending("neighbours", neighbours, numbers.as_int)
    n, side, seeds = numbers.as_int("points", points), numbers.as_int("grid", grid), check_seeds(seeds)
    if not 1 <= k[0] <= k[-1] <= n:
        raise ValueError(f"expected `neighbours` from 1 to the {n} points, got {k}")
    if side / 4 < np.sqrt(n) / 2 + 3:
        raise ValueError(
            f"expected a `grid` that resolves {n} points, a side from {int(np.ceil(2 * np.sqrt(n) + 12))}, got {side}"
        )
    recipe = filled(recipe, rate=3e-4, steps=3000, record_every=3000)
    drawn = [_labelled(n, seed) for seed in seeds]
    fit = Fit(
        recipe,
        [make_network(recipe, 2, seed) for seed in seeds],
        np.stack([x for x, _ in drawn]),
        np.stack([y for _, y in drawn]),
        names=[f"seed {seed}" for seed in seeds],
        seeds=seeds,
    )
    losses, _ = fit.run(lambda _networks, _outputs: {})
    axis = (np.arange(side) + 0.5) / side
    cells = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    outputs = fit.predict(np.tile(cells, (len(seeds), 1, 1))).reshape(-1, side, side)
    radius = _spectra.radial_amplitude(outputs[0])[0]
    runs = {}
    for i, (seed, (x, y)) in enumerate(zip(seeds, drawn, strict=True)):
        means = nearest_means(x, y, cells, k).reshape(-1, side, side)
        own, others = (_spectra.radial_amplitude(each)[1] for each in (outputs[i], means))
        runs[seed] = NeighbourRun(own, others, float(losses[i, -1]))
    return NeighbourSpectra(
        details=details(fit.networks.modules()[0]),
        training=fit.training,
        steps=fit.steps,
        neighbours=np.array(k, dtype=np.int64),
        radius=radius,
        points=n,
        grid=side,
        runs=runs,
    )


def _labelled(n: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Points (n, 2) of the unit square and labels (n,) of -1 and 1."""
    generator = streams.generator("training_data", seed)
    return generator.random((n, 2)), np.where(generator.integers(0, 2, n) == 1, 1.0, -1.0)


def nearest_means(x: FloatArray, y: FloatArray, places: FloatArray, neighbours: Sequence[int]) -> FloatArray:
    """(m, p) mean label of the k nearest of points x (n, d) to each place (p, d); of equals the earlier."""
    found = np.empty((len(neighbours), len(places)))
    for start in range(0, len(places), _BLOCK):
        part = places[start : start + _BLOCK]
        order = np.square(part[:, None] - x).sum(axis=2).argsort(axis=1, kind="stable")[:, : max(neighbours)]
        sums = y[order].cumsum(axis=1)
        for row, k in zip(found, neighbours, strict=True):
            row[start : start + _BLOCK] = sums[:, k - 1] / k
    return found
