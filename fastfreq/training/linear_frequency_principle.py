"""What a wide two-layer ReLU network makes of a few samples, predicted without training it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfreq.results import tables
from fastfreq.results.folds import same
from fastfreq.results.result import Result
from fastfreq.vocabulary import numbers

from .lfp_kernel import LFPKernel, check_inputs, lattice_frequencies

FloatArray = NDArray[np.float64]
_MODES = 4096  # frequencies of a lattice whose waves are held at a time


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LinearFrequencyPrinciple(Result, kind="linear_frequency_principle"):
    """The output of a wide network over training as the linear frequency principle predicts it.

    Attributes:
        inputs: (n, d) samples.
        targets: (n,) their values.
        points: (p, d) where the output is predicted.
        kernel: that it is predicted by.
        times: (t,) ascending, the last may be infinite.
        predicted: (t, p) outputs at the points.
        residuals: (t, n) predicted minus targets at the inputs.
        norm: FP-norm of the change from the start at the last time; NaN for kernels that have none.
        trained: (p,) outputs of the trained network at the points; empty without one.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "inputs": "n d",
        "targets": "n",
        "points": "p d",
        "times": "t",
        "predicted": "t p",
        "residuals": "t n",
        "trained": "_",
    }

    inputs: FloatArray = same()
    targets: FloatArray = same()
    points: FloatArray = same()
    kernel: LFPKernel = same()
    times: FloatArray = same()
    predicted: FloatArray = same()
    residuals: FloatArray = same()
    norm: float = same()
    trained: FloatArray = same()

    def _check_shapes(self) -> None:
        super()._check_shapes()
        if len(self.trained) not in (0, len(self.points)):
            raise ValueError(f"expected `trained` of shape ({len(self.points)},), got {self.trained.shape}")

    @property
    def rms(self) -> float:
        """Root mean square over points of trained minus predicted at the last time; NaN without a trained network."""
        if not self.trained.size:
            return math.nan
        return float(np.sqrt(np.mean((self.trained - self.predicted[-1]) ** 2)))

    @property
    def correlation(self) -> float:
        """Of trained and predicted over the points; NaN without a trained network or where either is constant."""
        if not self.trained.size or not np.ptp(self.trained) or not np.ptp(self.predicted[-1]):
            return math.nan
        return float(np.corrcoef(self.trained, self.predicted[-1])[0, 1])

    def table(self) -> list[dict[str, Any]]:
        """One row per time and point."""
        t, p = self.predicted.shape
        columns: dict[str, Any] = {"time": np.repeat(self.times, p)}
        columns |= {f"x{i}": np.tile(self.points[:, i], t) for i in range(self.points.shape[1])}
        columns["predicted"] = self.predicted.reshape(-1)
        columns["trained"] = np.tile(self.trained if self.trained.size else np.full(p, math.nan), t)
        return tables.from_columns(columns)

    def summary(self) -> list[dict[str, Any]]:
        """One row per time: the largest residual and, at the last, how far the trained network is."""
        last = np.arange(len(self.times)) == len(self.times) - 1
        return tables.from_columns(
            {
                "time": self.times,
                "largest_residual": np.abs(self.residuals).max(axis=1),
                "rms_to_trained": np.where(last, self.rms, math.nan),
                "correlation": np.where(last, self.correlation, math.nan),
            }
        )

    def headline(self) -> str:
        """How far the trained network is from the prediction."""
        d = self.inputs.shape[1]
        first = f"{len(self.inputs)} samples in {d} dimension{'s' * (d > 1)}, A={self.kernel.cubic:.4g}, "
        first += f"B={self.kernel.linear:.4g}"
        if not self.trained.size:
            return first
        return f"{first}: trained network within rms {self.rms:.3g}, correlation {self.correlation:.4f}"


def linear_frequency_principle(
    inputs: ArrayLike,
    targets: ArrayLike,
    *,
    points: ArrayLike,
    kernel: LFPKernel,
    times: Sequence[float] = (math.inf,),
    initial: tuple[ArrayLike, ArrayLike] | None = None,
    trained: ArrayLike | None = None,
    method: Literal["kernel", "lattice"] = "kernel",
    period: float | None = None,
    cutoff: int | None = None,
) -> LinearFrequencyPrinciple:
    """Predict the output of a wide two-layer ReLU network over training, and what it converges to.

    At time t the change from the start is K(., X) c(t) plus free functions, with residuals e^(-K t) (h - y) at the
    inputs. At infinite time it is the interpolation of the samples with the least FP-norm: natural cubic splines where
    A rules, linear interpolation where B does.

    >>> net = ff.training.TwoLayerReLU(20_000)
    >>> fit = net.fit(x, y)
    >>> ff.training.linear_frequency_principle(x, y, points=t, kernel=net.limit_kernel(), trained=net.values(t)).plot()

    Args:
        inputs: (n, d), or (n,) in one dimension; no two the same.
        targets: (n,).
        points: (p, d) where to predict.
        kernel: `TwoLayerReLU.limit_kernel()` for the principle, `.kernel()` for the network's own time and range of
            biases, `LFPKernel.of_network` for a network of yours, `LFPKernel(1, A, B)` for any A and B.
        times: ascending, from 0 on, infinity included; of gradient flow on half the sum of squared errors.
        initial: outputs before training at inputs and at points; zero if None.
        trained: (p,) outputs of the trained network, to be put beside the last time.
        method: "kernel" in closed form, or "lattice": a sum of waves k / period as in 1905.10264.
        period: of the lattice, at least ten times the extent of the data to be near the whole space (the default).
        cutoff: largest |k_i| of the lattice; 4000 in one dimension and 120 in two by default.

    Raises:
        ValueError: shapes that do not fit, two inputs in one place, inputs in a plane or a line of the space where
            linear functions are free, a lattice with a kernel that is more than gamma^2.

    Source: Zhang, Xu, Luo, Ma 2019 (arXiv 1905.10264); Luo, Ma, Xu, Zhang 2020 (arXiv 2010.08153). Our reading.
    """
    if not isinstance(kernel, LFPKernel):
        raise TypeError(f"expected `kernel` as an LFPKernel, got {type(kernel).__name__}")
    x, at = check_inputs("inputs", inputs, kernel.dimension), check_inputs("points", points, kernel.dimension)
    y = _values("targets", targets, len(x))
    start = (np.zeros(len(x)), np.zeros(len(at))) if initial is None else initial
    before, before_at = _values("initial[0]", start[0], len(x)), _values("initial[1]", start[1], len(at))
    if len(np.unique(x, axis=0)) < len(x):
        raise ValueError("expected inputs of which no two are in one place, got some that are the same")
    moments = np.array(numbers.ascending("times", times, lambda name, t: numbers.as_float(name, t, finite=False)))
    if moments[0] < 0:
        raise ValueError(f"expected `times` ascending from 0 on, got {times}")
    if method == "lattice":
        matrices = _on_lattice(kernel, x, at, period, cutoff)
    elif method == "kernel":
        if period is not None or cutoff is not None:
            raise ValueError('expected no `period` or `cutoff` with method "kernel": it is on the whole space')
        matrices = _Matrices(kernel(x, x), kernel(at, x), kernel.free(x), kernel.free(at))
    else:
        raise ValueError(f'expected `method` "kernel" or "lattice", got {method!r}')
    changes = [_change(matrices, y - before, t) for t in _decomposed(matrices, moments)]
    return LinearFrequencyPrinciple(
        inputs=x,
        targets=y,
        points=at,
        kernel=kernel,
        times=moments,
        predicted=np.stack([before_at + change.at_points for change in changes]),
        residuals=np.stack([before + change.at_inputs - y for change in changes]),
        norm=_norm(kernel, matrices, changes[-1].weights),
        trained=np.zeros(0) if trained is None else _values("trained", trained, len(at)),
        details={"model": "two-layer ReLU network", "method": method},
    )


class _Matrices(NamedTuple):
    """The kernel between inputs, and from them to points; functions that are free, at both."""

    inputs: FloatArray
    points: FloatArray
    free: FloatArray
    free_points: FloatArray


class _Change(NamedTuple):
    weights: FloatArray
    at_inputs: FloatArray
    at_points: FloatArray


def _decomposed(matrices: _Matrices, times: FloatArray) -> list[FloatArray]:
    """(n, n) from targets to weights c at each time: (1 - e^(-K t)) / K on what the free functions leave."""
    n, q = matrices.free.shape
    basis, triangle = np.linalg.qr(matrices.free, mode="complete") if q else (np.eye(n), np.zeros((n, 0)))
    if q and (n < q or np.abs(np.diag(triangle)).min() < 1e-10 * np.abs(triangle).max()):
        raise ValueError(
            f"expected inputs that no plane or line holds all of, at least {q}, since linear functions are free: give "
            f"more inputs, or the kernel a finite `constant` and `slope` (TwoLayerReLU.kernel())"
        )
    rest = basis[:, q:]
    values, vectors = np.linalg.eigh(rest.T @ matrices.inputs @ rest)
    if len(values) and values[0] <= 1e-15 * np.abs(matrices.inputs).max():
        raise ValueError("expected inputs further from each other: float64 cannot tell some of them apart")
    modes = rest @ vectors
    factors = [-np.expm1(-values * t) / values if math.isfinite(t) else 1 / values for t in times]
    return [(modes * factor) @ modes.T for factor in factors]


def _change(matrices: _Matrices, wanted: FloatArray, solve: FloatArray) -> _Change:
    weights = solve @ wanted
    reached = matrices.inputs @ weights
    free = np.linalg.lstsq(matrices.free, wanted - reached, rcond=None)[0]
    return _Change(weights, reached + matrices.free @ free, matrices.points @ weights + matrices.free_points @ free)


def _norm(kernel: LFPKernel, matrices: _Matrices, weights: FloatArray) -> float:
    if kernel.transverse or kernel.mixed or math.isfinite(kernel.constant):
        return math.nan
    return math.sqrt(max(0.0, kernel.per_gamma_squared * float(weights @ matrices.inputs @ weights)))


def _on_lattice(
    kernel: LFPKernel, x: FloatArray, at: FloatArray, period: float | None, cutoff: int | None
) -> _Matrices:
    """The kernel as a sum of waves of one period, times what makes it the one of the whole space as that grows."""
    d = kernel.dimension
    extent = float(max(np.ptp(np.vstack([x, at]), axis=0).max(), 1e-300))
    length = 10 * extent if period is None else numbers.as_float("period", period)
    if not length > extent:
        raise ValueError(f"expected a `period` above the data's extent {extent:.4g}, got {length}")
    if d > 2 and cutoff is None:
        raise ValueError(f"expected a `cutoff` for {d} dimensions: a lattice has (2 cutoff + 1)^{d} waves")
    highest = (4000 if d == 1 else 120) if cutoff is None else numbers.as_int("cutoff", cutoff)
    if highest < 1:
        raise ValueError(f"expected a `cutoff` from 1, got {highest}")
    waves = lattice_frequencies(d, highest) / length
    weight = kernel.per_gamma_squared * kernel.gamma_squared(waves) / length**d
    both = np.zeros((len(x) + len(at), len(x)))
    for start in range(0, len(waves), _MODES):
        some = slice(start, start + _MODES)
        phase = 2 * np.pi * np.vstack([x, at]) @ waves[some].T
        for part in (np.cos(phase), np.sin(phase)):
            both += part @ (part[: len(x)] * weight[some]).T
    return _Matrices(both[: len(x)], both[len(x) :], np.ones((len(x), 1)), np.ones((len(at), 1)))


def _values(name: str, values: ArrayLike, count: int) -> FloatArray:
    given = numbers.as_array(name, values)
    if given.shape not in ((count,), (count, 1)):
        raise ValueError(f"expected `{name}` of shape ({count},), got {given.shape}")
    if not np.isfinite(given).all():
        raise ValueError(f"expected finite `{name}`, got NaN or infinity")
    return given.reshape(count)
