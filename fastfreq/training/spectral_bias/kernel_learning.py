"""Targets on data of any dimension, by 'frequency': the eigenvectors of a kernel, smoothest first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from fastfreq.engine.contexts import undisturbed
from fastfreq.results import codec, tables
from fastfreq.results.folds import same, union
from fastfreq.vocabulary import numbers, streams

from . import _spectra
from ._ensemble import Ensemble
from ._samples import binary_targets, check_rows, flat
from ._training import Fit, Records
from .recipe import Recipe, check_seeds, filled, make_network
from .trained import TrainedResult, details

FloatArray = NDArray[np.float64]
Kernel = Callable[[FloatArray], Any]
KernelNoise: TypeAlias = Literal["none", "white", "growing"]


@codec.record
@dataclasses.dataclass(frozen=True, eq=False)
class KernelRun:
    """One network.

    Attributes:
        pure: (b,) mean |coefficient| of the labels, by bin of eigenvectors.
        target: (b,) of the labels with their noise.
        fitted: (t, b) of the network's outputs.
        error: (t, b) |coefficients of outputs - those of the target| / |those of the target|, norms over the bin.
        loss: (t,) mean square against the target.
        pure_loss: (t,) mean square against the labels without noise.
    """

    pure: FloatArray
    target: FloatArray
    fitted: FloatArray
    error: FloatArray
    loss: FloatArray
    pure_loss: FloatArray


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class KernelLearning(TrainedResult, kind="kernel_learning"):
    """How far each bin of a kernel's eigenvectors is learnt, by step. ``a + b`` merges runs of other seeds.

    Attributes:
        eigenvalues: (n,) of the kernel's matrix on the samples, descending.
        bins: (b + 1,) first eigenvector of each bin, and the end.
        noise: of the labels.
        kernel: which.
        runs: seed -> what became of its network.
    """

    SHAPES: ClassVar[dict[str, str]] = {"eigenvalues": "n", "bins": "_"}

    eigenvalues: FloatArray = same()
    bins: NDArray[np.int64] = same()
    noise: str = same()
    kernel: str = same()
    runs: dict[int, KernelRun] = union()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        t, bins = len(self.steps), len(self.bins) - 1
        by_bin, by_step = dict.fromkeys(("pure", "target"), (bins,)), dict.fromkeys(("loss", "pure_loss"), (t,))
        return {**by_bin, "fitted": (t, bins), "error": (t, bins), **by_step}

    @property
    def mean_relative(self) -> FloatArray:
        """(t, b) the outputs' mean |coefficient| over the target's, mean over networks."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.mean([run.fitted / run.target for run in self._in_order()], axis=0)

    @property
    def mean_error(self) -> FloatArray:
        """(t, b) relative error of the coefficients, mean over networks."""
        return np.mean([run.error for run in self._in_order()], axis=0)

    def first_hit(self, *, threshold: float = 0.5, hold: int = 1) -> FloatArray:
        """(seeds, b) first recorded step from which the error is below a threshold; inf where never."""
        return np.stack([_spectra.first_hit(run.error < threshold, self.steps, hold=hold) for run in self._in_order()])

    def rank_correlation(self, *, threshold: float = 0.5, hold: int = 1) -> FloatArray:
        """(seeds,) Spearman's correlation of bin and `first_hit`: 1 where smooth eigenvectors come first."""
        hits = self.first_hit(threshold=threshold, hold=hold)
        return np.array([_spectra.order(np.arange(hits.shape[1]), row) for row in hits])

    def table(self) -> list[dict[str, Any]]:
        """One row per seed and bin, after the last step."""
        rows, hits = [], self.first_hit()
        for i, (seed, run) in enumerate(zip(self.seeds, self._in_order(), strict=True)):
            rows += tables.from_columns(
                {
                    "seed": seed,
                    "first_eigenvector": self.bins[:-1],
                    "pure": run.pure,
                    "target": run.target,
                    "fitted": run.fitted[-1],
                    "error": run.error[-1],
                    "learnt_at": hits[i],
                }
            )
        return rows

    def headline(self) -> str:
        """Whether smooth eigenvectors came first."""
        rho = self.rank_correlation()
        return f"rank correlation of bin and step at which it is learnt: {rho.min():.2f} to {rho.max():.2f}"


def rbf_kernel(samples: FloatArray, *, width: float = 1.25) -> FloatArray:
    """(n, n) exp(-|x - y|^2 / (2 width^2)) of samples (n, d).

    Raises:
        ValueError: samples of another shape, or that are not finite, or a width of 0 or below.
    """
    samples = check_rows(samples)
    if not numbers.as_float("width", width) > 0:
        raise ValueError(f"expected a `width` above 0, got {width}")
    x = torch.from_numpy(samples)
    # of differences: products of samples far from zero, or far from each other, would lose those of near ones
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    return np.exp(-np.square(distances) / (2 * width * width))


@undisturbed(gradients=True)  # whatever the caller is in
def kernel_learning(
    images: Any,
    labels: Any,
    *,
    noise: KernelNoise = "white",
    amplitude: float = 1.0,
    kernel: Kernel = rbf_kernel,
    per_bin: int = 20,
    seeds: Sequence[int] = (0,),
    recipe: Recipe | None = None,
) -> KernelLearning:
    """Train networks on noisy labels of images; how much of the kernel's eigenvectors is in the outputs, step by step.

    With K = V diag(l) V^T, l descending, the coefficients of a function f on the samples are V^T f: eigenvectors of
    small eigenvalue change between samples that are close.

    Args:
        images: (n, ...) samples, flattened; uint8 is divided by 255. K is decomposed whole: n^3.
        labels: (n,) of two classes, which become -1 and 1 in their order.
        noise: "none", "white" (uniform on -1 .. 1), or "growing": coefficients that grow as the square of the index
            from 0 to 1.
        amplitude: of the noise.
        kernel: samples (n, d) -> symmetric (n, n); other widths by `functools.partial(rbf_kernel, width=...)`.
        per_bin: eigenvectors in a bin; the last has what is left.
        seeds: one network each; of white noise too.
        recipe: by default the paper's: depth 6, width 256, Adam at 1e-4, 5,000 steps.

    Raises:
        ValueError: arguments out of range, or a kernel that is not symmetric.
        TypeError: an argument of another type.

    Source: Rahaman et al. 2019, frequency components of the fit of MNIST; settings of the authors' notebook.
    """
    x, seeds = flat("images", images), check_seeds(seeds)
    y, size = binary_targets(labels, len(x)), numbers.as_int("per_bin", per_bin)
    if noise not in get_args(KernelNoise):
        raise ValueError(f"expected `noise` of {get_args(KernelNoise)}, got {noise!r}")
    if not 1 <= size <= len(x) // 2:
        raise ValueError(f"expected `per_bin` from 1 to half of the {len(x)} samples, got {size}")
    values, vectors = _decomposed(kernel, x)
    recipe = filled(recipe, rate=1e-4, steps=5000, record_every=25)
    beta = numbers.as_float("amplitude", amplitude)
    targets = np.stack([y + beta * _noise(noise, vectors, seed) for seed in seeds])
    starts = np.arange(0, len(x) - size + 1, size)
    fit = Fit(recipe, [make_network(recipe, x.shape[1], s) for s in seeds], x, targets,
              names=[f"seed {seed}" for seed in seeds], seeds=seeds,
              recorded=("kernel_learning", vectors, starts, y))  # fmt: skip
    wanted, counts = _coefficients(targets, vectors), np.diff(np.append(starts, len(x)))
    scale = np.sqrt(np.add.reduceat(wanted**2, starts, axis=1))

    def binned(coefficients: FloatArray) -> FloatArray:
        return np.add.reduceat(np.abs(coefficients), starts, axis=-1) / counts

    def record(_: Ensemble, outputs: FloatArray) -> Records:
        c = _coefficients(outputs, vectors)
        with np.errstate(divide="ignore", invalid="ignore"):  # a target may have nothing in a bin
            error = np.sqrt(np.add.reduceat((c - wanted) ** 2, starts, axis=1)) / scale
        return {"fitted": binned(c), "error": error, "pure": np.square(outputs - y).mean(axis=1)}

    losses, found = fit.run(record)
    fitted, error, pure_loss = (np.moveaxis(found[name], 0, 1) for name in ("fitted", "error", "pure"))
    return KernelLearning(
        details=details(fit.networks.modules()[0]),
        training=fit.training,
        steps=fit.steps,
        eigenvalues=values,
        bins=np.append(starts, len(x)),
        noise=noise if noise == "none" else f"{noise}, {beta:g}",
        kernel=str(getattr(kernel, "__name__", kernel)),
        runs={
            seed: KernelRun(binned(y @ vectors), binned(wanted[i]), fitted[i], error[i], losses[i], pure_loss[i])
            for i, seed in enumerate(seeds)
        },
    )


def _decomposed(kernel: Kernel, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues descending, and eigenvectors as columns."""
    matrix = numbers.as_array("kernel", kernel(x.copy()))
    if matrix.shape != (len(x), len(x)) or not np.allclose(matrix, matrix.T, rtol=1e-6, atol=1e-9):  # NaN is not
        raise ValueError(
            f"expected `kernel` to give a symmetric ({len(x)}, {len(x)}) of finite numbers, got shape {matrix.shape}"
        )
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return values[::-1].copy(), vectors[:, ::-1].copy()


def _coefficients(functions: FloatArray, vectors: FloatArray) -> FloatArray:
    """(b, n) of functions (b, n), one by one: a product of several has other last bits than that of one."""
    return np.stack([each @ vectors for each in functions])


def _noise(noise: KernelNoise, vectors: FloatArray, seed: int) -> FloatArray:
    n = len(vectors)
    if noise == "white":
        return streams.generator("training_data", seed).uniform(-1, 1, n)
    if noise == "growing":
        return vectors @ np.linspace(0, 1, n) ** 2
    return np.zeros(n)
