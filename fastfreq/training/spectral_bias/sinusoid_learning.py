"""A sum of sinusoids: which of them a network has learnt, step by step, and how the norms of its layers grow."""

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
from ._training import Fit, Records, layer_norms, linear_layers
from .recipe import Recipe, check_seeds, filled, make_network
from .trained import TrainedResult, details

FloatArray = NDArray[np.float64]


@codec.record
@dataclasses.dataclass(frozen=True, eq=False)
class SinusoidRun:
    """One network.

    Attributes:
        amplitude: (t, k) |f_k| / |target_k|.
        error: (t, k) |f_k - target_k| / |target_k|.
        loss: (t,) mean square.
        norms: (t, l) largest singular value of each linear layer.
    """

    amplitude: FloatArray
    error: FloatArray
    loss: FloatArray
    norms: FloatArray


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SinusoidLearning(TrainedResult, kind="sinusoid_learning"):
    """How far each frequency of a target is learnt, by step of training. ``a + b`` merges runs of other seeds.

    Attributes:
        frequencies: (k,) whole cycles on [0, 1).
        target_amplitudes: (k,) of the target.
        samples: points of the grid.
        layers: (l,) names of the linear layers.
        runs: seed -> what became of its network.
    """

    SHAPES: ClassVar[dict[str, str]] = {"frequencies": "k", "target_amplitudes": "k"}

    frequencies: NDArray[np.int64] = same()
    target_amplitudes: FloatArray = same()
    samples: int = same()
    layers: tuple[str, ...] = same()
    runs: dict[int, SinusoidRun] = union()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        t, k = len(self.steps), len(self.frequencies)
        return {"amplitude": (t, k), "error": (t, k), "loss": (t,), "norms": (t, len(self.layers))}

    # ---------------------------------------------------------------- figures
    @property
    def mean_amplitude(self) -> FloatArray:
        """(t, k) share of each frequency's amplitude that is there, cut to 0 .. 1, mean over networks: the heat map."""
        return np.mean([np.clip(run.amplitude, 0, 1) for run in self._in_order()], axis=0)

    @property
    def mean_norms(self) -> FloatArray:
        """(t, l) largest singular value of each layer, mean over networks."""
        return np.mean([run.norms for run in self._in_order()], axis=0)

    def first_hit(self, *, threshold: float = 0.5, hold: int = 1, by: str = "amplitude") -> FloatArray:
        """(seeds, k) first recorded step from which a frequency is learnt for `hold` records; inf where never.

        Args:
            threshold: a frequency is learnt where its amplitude is above it, or its error below.
            hold: records in a row.
            by: "amplitude", as in the paper, which is blind to the phase, or "error", of the complex coefficient.

        Raises:
            ValueError: another `by`, or a `hold` below 1.
        """
        if by not in ("amplitude", "error"):
            raise ValueError(f"expected `by` of 'amplitude' or 'error', got {by!r}")
        found = [run.amplitude > threshold if by == "amplitude" else run.error < threshold for run in self._in_order()]
        return np.stack([_spectra.first_hit(each, self.steps, hold=hold) for each in found])

    def rank_correlation(self, *, threshold: float = 0.5, hold: int = 1, by: str = "amplitude") -> FloatArray:
        """(seeds,) Spearman's correlation of `first_hit` with frequency: 1 where all are learnt from low to high."""
        hits = self.first_hit(threshold=threshold, hold=hold, by=by)
        return np.array([_spectra.order(self.frequencies, row) for row in hits])

    def mean_rank_correlation(self, *, threshold: float = 0.5, hold: int = 1) -> float:
        """The same of the mean over networks: of the steps from which `mean_amplitude` is above the threshold."""
        hits = _spectra.first_hit(self.mean_amplitude > threshold, self.steps, hold=hold)
        return _spectra.order(self.frequencies, hits)

    def amplitude_correlation(self, step: int) -> FloatArray:
        """(seeds,) Spearman's correlation of amplitude with frequency at a recorded step: -1 where it falls.

        Raises:
            ValueError: a step that was not recorded.
        """
        at = self.record_of(step)
        return np.array([_spectra.order(self.frequencies, run.amplitude[at]) for run in self._in_order()])

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per seed and frequency: first hits by amplitude and by error, and both at the end."""
        rows = []
        by_amplitude, by_error = self.first_hit(), self.first_hit(by="error")
        for i, (seed, run) in enumerate(zip(self.seeds, self._in_order(), strict=True)):
            rows += tables.from_columns(
                {
                    "seed": seed,
                    "frequency": self.frequencies,
                    "target_amplitude": self.target_amplitudes,
                    "learnt_at": by_amplitude[i],
                    "learnt_at_with_phase": by_error[i],
                    "amplitude": run.amplitude[-1],
                    "error": run.error[-1],
                }
            )
        return rows

    def headline(self) -> str:
        """Whether low frequencies came first."""
        rho, mean = self.rank_correlation(), self.mean_rank_correlation()
        each = f", {rho.min():.2f} to {rho.max():.2f} of each network" if len(rho) > 1 else ""
        return f"rank correlation of frequency and step at which it is learnt: {mean:.2f}{each}"


@undisturbed(gradients=True)  # whatever the caller is in
def sinusoid_learning(
    frequencies: Sequence[int] = tuple(range(5, 51, 5)),
    *,
    amplitudes: ArrayLike = 1.0,
    target: _spectra.Curve | None = None,
    samples: int = 200,
    seeds: Sequence[int] = (0,),
    recipe: Recipe | None = None,
) -> SinusoidLearning:
    """Train networks on sum_i A_i sin(2 pi k_i z + phi_i), z in [0, 1), and follow every frequency.

    Args:
        frequencies: k_i, whole numbers, ascending.
        amplitudes: A_i, or one for all. The paper's growing ones are 0.1 (i + 1).
        target: another function, z (n,) -> (n,), of which `frequencies` are followed; amplitudes are then its own.
        samples: n, more than twice the highest frequency.
        seeds: one network each: its weights and phases phi_i.
        recipe: by default the paper's: depth 6, width 256, Adam at 3e-4, 60,000 steps, recorded every 100.

    Returns:
        Amplitudes by step, and the spectral norms of the layers beside them.

    Raises:
        ValueError: frequencies that the samples do not hold, or that a target does not have.
        TypeError: an argument of another type.

    Source: Rahaman et al. 2019, Figure 1.
    """
    k, n = _spectra.check_waves(frequencies, samples)
    seeds = check_seeds(seeds)
    recipe = filled(recipe, rate=3e-4, steps=60_000, record_every=100)
    z = _spectra.uniform(n)
    targets = np.stack([make_target(z, k, amplitudes, target, seed) for seed in seeds])
    wanted = _spectra.waves(targets, k)
    fit = Fit(
        recipe,
        [make_network(recipe, 1, seed) for seed in seeds],
        z[:, None],
        targets,
        names=[f"seed {seed}" for seed in seeds],
        seeds=seeds,
        recorded=("sinusoid_learning", k),
    )

    layers = tuple(name for name, _ in linear_layers(fit.networks.modules()[0]))

    def record(networks: Ensemble, outputs: FloatArray) -> Records:
        norms = [[each[name] for name in layers] for each in map(layer_norms, networks.modules())]
        return {"waves": _spectra.waves(outputs, k), "norms": np.array(norms)}

    losses, found = fit.run(record)
    parts = np.moveaxis(found["waves"], 0, 1) / np.abs(wanted)[:, None]  # (seeds, t, k)
    error = np.abs(parts - (wanted / np.abs(wanted))[:, None])
    return SinusoidLearning(
        details=details(fit.networks.modules()[0]),
        training=fit.training,
        steps=fit.steps,
        frequencies=k,
        target_amplitudes=np.abs(wanted[0]) if target else np.broadcast_to(amplitudes, k.shape).astype(np.float64),
        samples=n,
        layers=layers,
        runs={
            seed: SinusoidRun(np.abs(parts[i]), error[i], losses[i], found["norms"][:, i])
            for i, seed in enumerate(seeds)
        },
    )


def make_target(
    z: FloatArray, k: NDArray[np.int64], amplitudes: ArrayLike, target: _spectra.Curve | None, seed: int
) -> FloatArray:
    """(n,) the sum of sinusoids with phases of the seed, or the caller's function.

    Raises:
        ValueError: amplitudes that are not positive, or a function without one of the frequencies.
    """
    if target is None:
        try:
            given = np.broadcast_to(numbers.as_array("amplitudes", amplitudes), k.shape)
        except ValueError:
            raise ValueError(f"expected {len(k)} `amplitudes` or one, got shape {np.shape(amplitudes)}") from None
        if not (np.isfinite(given).all() and (given > 0).all()):
            raise ValueError(f"expected positive `amplitudes`, got {given.tolist()}")
        return _spectra.sum_of_sinusoids(z, k.astype(np.float64), given, _spectra.phases(seed, len(k)))
    values = _spectra.check_target(target, z)
    found = np.abs(_spectra.waves(values, k))
    # rounding of n values of that size leaves about this much at a frequency that is not there
    missing = k[found < 1e-10 * np.abs(values).max()] if np.abs(values).max() > 0 else k
    if len(missing):
        raise ValueError(f"expected a `target` that has all of `frequencies`, it has none of {missing.tolist()}")
    return values
