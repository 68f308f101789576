"""How much of each frequency of a trained network survives a random step in parameter space."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from fastfreq.engine.contexts import undisturbed
from fastfreq.results import codec, tables
from fastfreq.results.folds import same, union
from fastfreq.vocabulary import numbers, streams

from . import _spectra
from ._ensemble import Stack, stackable
from ._training import Fit
from .recipe import Recipe, Training, check_seeds, filled, make_network
from .sinusoid_learning import make_target
from .trained import TrainedResult, details

FloatArray = NDArray[np.float64]
_AT_ONCE = 20  # perturbed copies


@codec.record
@dataclasses.dataclass(frozen=True, eq=False)
class PerturbedRun:
    """One network and its perturbed copies.

    Attributes:
        amplitude: (k,) |f_k| of the network itself.
        fitted: (k,) the same over the target's; NaN where networks were given.
        ratio: (deltas, k) mean over directions of |f_k| perturbed / |f_k|.
        deviation: (deltas, k) standard deviation of that ratio over directions.
        loss: (t,) mean square while it was trained; empty where networks were given.
    """

    amplitude: FloatArray
    fitted: FloatArray
    ratio: FloatArray
    deviation: FloatArray
    loss: FloatArray


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ParameterRobustness(TrainedResult, kind="parameter_robustness"):
    """Mean amplitude of each frequency after a random step of length delta. ``a + b`` merges other seeds.

    Attributes:
        frequencies: (k,) whole cycles on [0, 1).
        deltas: (d,) lengths of the step, in the norm of all parameters together.
        directions: how many.
        samples: points of the grid.
        runs: seed -> what became of its network.
    """

    SHAPES: ClassVar[dict[str, str]] = {"frequencies": "k", "deltas": "d"}

    frequencies: NDArray[np.int64] = same()
    deltas: FloatArray = same()
    directions: int = same()
    samples: int = same()
    runs: dict[int, PerturbedRun] = union()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        d, k = len(self.deltas), len(self.frequencies)
        return {"amplitude": (k,), "fitted": (k,), "ratio": (d, k), "deviation": (d, k), "loss": self.steps.shape}

    @property
    def mean_ratio(self) -> FloatArray:
        """(deltas, k) perturbed over own amplitude, mean over directions and networks."""
        return np.mean([run.ratio for run in self._in_order()], axis=0)

    def rank_correlation(self, delta: float) -> FloatArray:
        """(seeds,) Spearman's correlation of ratio and frequency at one of the deltas: -1 where low ones last best.

        Raises:
            ValueError: a delta that was not measured.
        """
        at = np.flatnonzero(np.isclose(self.deltas, delta))
        if not len(at):
            raise ValueError(f"expected one of the deltas {self.deltas.tolist()}, got {delta}")
        return np.array([_spectra.order(self.frequencies, run.ratio[at[0]]) for run in self._in_order()])

    def table(self) -> list[dict[str, Any]]:
        """One row per seed, delta and frequency."""
        rows = []
        for seed, run in zip(self.seeds, self._in_order(), strict=True):
            for index, delta in enumerate(self.deltas):
                rows += tables.from_columns(
                    {
                        "seed": seed,
                        "delta": delta,
                        "frequency": self.frequencies,
                        "amplitude": run.amplitude,
                        "fitted": run.fitted,
                        "ratio": run.ratio[index],
                        "deviation": run.deviation[index],
                    }
                )
        return rows

    def headline(self) -> str:
        """Whether low frequencies survive best."""
        rho = self.rank_correlation(self.deltas[-1])
        return (
            f"rank correlation of frequency and ratio at delta {self.deltas[-1]:g}: {rho.min():.2f} to {rho.max():.2f}"
        )


@undisturbed(gradients=True)  # whatever the caller is in
def parameter_robustness(
    frequencies: Sequence[int] = tuple(range(10, 51, 5)),
    *,
    deltas: Sequence[float] = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0),
    directions: int = 100,
    amplitudes: ArrayLike = 1.0,
    target: _spectra.Curve | None = None,
    samples: int = 200,
    seeds: Sequence[int] = (0,),
    networks: Sequence[nn.Module] | None = None,
    recipe: Recipe | None = None,
) -> ParameterRobustness:
    """Train networks on a sum of sinusoids, move all parameters by delta v and see what is left of each frequency.

    E_v |f_k(theta + delta v)| / |f_k(theta)|, v uniform on the unit sphere of all parameters together; the same
    directions serve all deltas.

    Args:
        frequencies: k, whole numbers, ascending.
        deltas: lengths of the step, ascending.
        directions: how many v for each network.
        amplitudes: as in `sinusoid_learning`.
        target: as in `sinusoid_learning`.
        samples: points of the grid, more than twice the highest frequency.
        seeds: one network each; its directions too.
        networks: trained ones, from (n, 1) to (n, 1) on [0, 1), one for each seed, that are not trained any more. They
            are not changed, and run in evaluation mode.
        recipe: by default as in `sinusoid_learning`; not for `networks`.

    Raises:
        ValueError: arguments out of range, or a network that has none of a frequency.
        TypeError: an argument of another type.

    Source: Rahaman et al. 2019, experiment on perturbed parameters.
    """
    k, n = _spectra.check_waves(frequencies, samples)
    seeds, lengths = check_seeds(seeds), numbers.ascending("deltas", deltas, numbers.as_float)
    directions = numbers.as_int("directions", directions)
    if lengths[0] < 0 or directions < 1:
        raise ValueError(f"expected `deltas` and `directions` above 0, got {lengths[0]} and {directions}")
    z = _spectra.uniform(n)
    own: dict[str, Any]
    if networks is None:
        recipe = filled(recipe, rate=3e-4, steps=60_000, record_every=1000)
        targets = np.stack([make_target(z, k, amplitudes, target, seed) for seed in seeds])
        fit = Fit(
            recipe,
            [make_network(recipe, 1, seed) for seed in seeds],
            z[:, None],
            targets,
            names=[f"seed {seed}" for seed in seeds],
            seeds=seeds,
        )
        losses, _ = fit.run(lambda _networks, _outputs: {})
        wanted = np.abs(_spectra.waves(targets, k))
        trained, own = fit.networks.modules(), {"training": fit.training, "steps": fit.steps}
    else:
        trained = _given(networks, recipe, seeds)
        losses, wanted = np.zeros((len(seeds), 0)), np.full((len(seeds), len(k)), np.nan)
        size = sum(p.numel() for p in trained[0].parameters())
        own = {
            "training": Training(str(trained[0]), size, "given", "none", 0),
            "steps": np.zeros(0, np.int64),
        }
    runs = {}
    for i, (seed, network) in enumerate(zip(seeds, trained, strict=True)):
        amplitude, ratio = _perturbed(network, z, k, lengths, directions, seed)
        fitted = amplitude / wanted[i]
        runs[seed] = PerturbedRun(amplitude, fitted, ratio.mean(axis=1), ratio.std(axis=1), losses[i])
    return ParameterRobustness(
        details=details(trained[0]), frequencies=k, deltas=np.array(lengths), directions=directions, samples=n,
        runs=runs, **own,
    )  # fmt: skip


def _given(networks: Sequence[nn.Module], recipe: Recipe | None, seeds: tuple[int, ...]) -> list[nn.Module]:
    if recipe is not None:
        raise ValueError("expected `recipe` or trained `networks`, got both; networks are not trained any more")
    if len(networks) != len(seeds) or not all(isinstance(network, nn.Module) for network in networks):
        raise ValueError(f"expected as many `networks` as `seeds`, torch modules, got {len(networks)}, {len(seeds)}")
    for network in networks:
        kinds = {p.dtype for p in network.parameters()}
        if len(kinds) != 1 or not next(iter(kinds)).is_floating_point:
            raise ValueError(
                f"expected `networks` with parameters of one type of floats, got {sorted(map(str, kinds)) or 'none'}"
            )
    return list(networks)


@torch.no_grad()
def _perturbed(
    network: nn.Module, z: FloatArray, k: NDArray[np.int64], deltas: Sequence[float], directions: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Amplitudes (k,) of a network, and (deltas, directions, k) of its perturbed copies over these."""
    start = copy.deepcopy(network).eval()
    centre = nn.utils.parameters_to_vector(start.parameters()).double().cpu().numpy()
    amplitude = np.abs(_spectra.waves(_outputs([start], z), k))[0]
    if not (amplitude > 0).all():
        raise ValueError(f"expected a network with some of each frequency, seed {seed} has none of one; train longer")
    generator = streams.generator("perturbation", seed)
    found = np.empty((len(deltas), directions, len(k)))
    for first in range(0, directions, _AT_ONCE):
        count = min(_AT_ONCE, directions - first)
        vectors = [generator.standard_normal(len(centre)) for _ in range(count)]
        for index, delta in enumerate(deltas):
            moved = [_moved(start, centre + delta / np.linalg.norm(v) * v) for v in vectors]
            found[index, first : first + count] = np.abs(_spectra.waves(_outputs(moved, z), k))
    return amplitude, found / amplitude


def _moved(network: nn.Module, parameters: FloatArray) -> nn.Module:
    moved = copy.deepcopy(network)
    first = next(moved.parameters())
    nn.utils.vector_to_parameters(torch.from_numpy(parameters).to(first.device, first.dtype), moved.parameters())
    return moved


def _outputs(networks: list[nn.Module], z: FloatArray) -> FloatArray:
    """(b, n) of networks of one making."""
    first = next(networks[0].parameters())
    inputs = torch.from_numpy(z[:, None]).to(first.device, first.dtype)
    if stackable(networks):
        return Stack(networks).predict(inputs).double().cpu().numpy()
    # which may write over what they are given
    return np.stack([network(inputs.clone()).reshape(len(z)).double().cpu().numpy() for network in networks])
