"""How fast the tangent kernel of any network lets each frequency decay: by Jacobian-vector products alone."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fastfreq.engine.contexts import callers_level, undisturbed, warn_if_not_alone, warn_if_unsteady
from fastfreq.engine.copies import as_written, private_copy
from fastfreq.engine.model_checks import check_eval, logits_of
from fastfreq.results import tables
from fastfreq.results.folds import same
from fastfreq.results.result import Result
from fastfreq.vocabulary import checks, numbers, streams

from ._products import pulled, pushed

FloatArray = NDArray[np.float64]
_HALVES = (torch.float16, torch.bfloat16)


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class TangentKernelDecay(Result, kind="tangent_kernel_decay"):
    """Rates at which waves decay under gradient flow from where a network stands.

    Attributes:
        frequencies: (f, d) of the waves, in cycles per unit of the coordinates.
        rates: (f,) phi^T K phi / n of the unit wave phi, the mean of cosine and sine and of the outputs: the error
            along phi falls as e^(-rate t) under gradient flow on half the mean squared error.
        alignment: (f,) (phi^T K phi) / ||K phi||: 1 where the wave is an eigenfunction, so that it decays alone.
        eigenvalues: (e,) the largest of K / n, descending, by Lanczos.
        eigen_error: (e,) bound on the distance of each to an eigenvalue.
        eigen_frequencies: (e,) of the wave that each eigenfunction holds most of, as its place in `frequencies`.
        eigen_shares: (e,) share of the eigenfunction's energy in that wave.
        samples: n.
        outputs: number of outputs.
        parameters: number of trained parameters.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "frequencies": "f _",
        "rates": "f",
        "alignment": "f",
        "eigenvalues": "e",
        "eigen_error": "e",
        "eigen_frequencies": "e",
        "eigen_shares": "e",
    }

    frequencies: FloatArray = same()
    rates: FloatArray = same()
    alignment: FloatArray = same()
    eigenvalues: FloatArray = same()
    eigen_error: FloatArray = same()
    eigen_frequencies: NDArray[np.int64] = same()
    eigen_shares: FloatArray = same()
    samples: int = same()
    outputs: int = same()
    parameters: int = same()

    @property
    def radius(self) -> FloatArray:
        """(f,) |k|."""
        return np.linalg.norm(self.frequencies, axis=1)

    @property
    def exponent(self) -> float:
        """The p of the power |k|^-p through the rates above |k| = 0, by least squares of logarithms."""
        seen = (self.radius > 0) & (self.rates > 0) & np.isfinite(self.radius) & np.isfinite(self.rates)
        if np.unique(self.radius[seen]).size < 2:
            return np.nan
        return -float(np.polyfit(np.log(self.radius[seen]), np.log(self.rates[seen]), 1)[0])

    def table(self) -> list[dict[str, Any]]:
        """One row per frequency."""
        columns: dict[str, Any] = {f"k{i}": self.frequencies[:, i] for i in range(self.frequencies.shape[1])}
        return tables.from_columns(columns | {"rate": self.rates, "alignment": self.alignment})

    def headline(self) -> str:
        """How the rates fall."""
        order = np.argsort(self.radius, kind="stable")
        ratio = self.rates[order[-1]] / self.rates[order[0]] if self.rates[order[0]] > 0 else np.nan
        return (
            f"rate at |k|={self.radius[order[-1]]:g} is {ratio:.3g} of that at |k|={self.radius[order[0]]:g}, "
            f"power |k|^-{self.exponent:.2f}; {self.parameters:,} parameters, {self.samples:,} samples"
        )


class TangentOperator:
    """v -> J^T v and u -> J u and v -> J J^T v of a network at inputs, chunk by chunk; J is never formed.

    Args:
        model: copied; in evaluation mode.
        inputs: (n, ...) tensor.
        chunk: inputs that pass through the network together.
    """

    def __init__(self, model: nn.Module, inputs: Tensor, *, chunk: int = 256) -> None:
        check_eval(model)
        if numbers.as_int("chunk", chunk) < 1:
            raise ValueError(f"expected a `chunk` of at least 1, got {chunk}")
        with as_written():
            self._net = private_copy(model)
        if any(p.dtype in _HALVES for p in self._net.parameters()):
            self._net.float()  # products of gradients leave the range of half precision
        self._net.requires_grad_(False)
        kept = {name for name, p in model.named_parameters() if p.requires_grad}
        self._where = {name: p.detach() for name, p in self._net.named_parameters() if name in kept}
        if not self._where:
            raise ValueError(
                f"expected a model with parameters that require gradients, {type(model).__name__} has none"
            )
        with undisturbed(gradients=True):
            own = inputs.detach().clone()  # not those of inference mode, which no gradient passes
        self._chunks = list((own.float() if own.dtype in _HALVES else own).split(chunk))
        with as_written(), undisturbed():
            some = self._chunks[0]
            alone = some[:1].expand_as(some).contiguous()
            first, again, beside = (self._outputs(x, self._where) for x in (some, some, alone))
        if not warn_if_unsteady(type(model).__name__, first, again, stacklevel=callers_level()):
            warn_if_not_alone(type(model).__name__, first[0], beside[0])
        self.samples, self.outputs = len(inputs), first.shape[1]
        self.dtype, self.device = first.dtype, first.device
        self.parameters = sum(p.numel() for p in self._where.values())

    def _outputs(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        found = torch.func.functional_call(self._net, parameters, (x.clone(),))  # it may write over what it is given
        value = found if isinstance(found, Tensor) else logits_of(found)
        if value.ndim < 1 or len(value) != len(x):
            raise ValueError(f"expected outputs of shape ({len(x)}, ...), one for each input, got {tuple(value.shape)}")
        return value.reshape(len(x), -1)

    def adjoint(self, v: Tensor) -> dict[str, Tensor]:
        """J^T v as parameters, of v (n, outputs)."""
        total: dict[str, Tensor] | None = None
        with as_written(), undisturbed(gradients=True), sdpa_kernel(SDPBackend.MATH):
            for x, part in zip(self._chunks, v.split(len(self._chunks[0])), strict=True):
                some = pulled(functools.partial(self._outputs, x), self._where, part.to(self.dtype))
                total = some if total is None else {name: total[name] + some[name] for name in total}
        assert total is not None
        return total

    def forward(self, u: dict[str, Tensor]) -> Tensor:
        """(n, outputs) J u."""
        with as_written(), undisturbed(gradients=True), sdpa_kernel(SDPBackend.MATH):
            found = [pushed(functools.partial(self._outputs, x), self._where, u) for x in self._chunks]
        return torch.cat(found)

    def __call__(self, v: Tensor) -> Tensor:
        """(n, outputs) K v = J J^T v."""
        return self.forward(self.adjoint(v))


def tangent_kernel_decay(
    model: nn.Module,
    inputs: Tensor,
    *,
    frequencies: ArrayLike,
    coordinates: ArrayLike | None = None,
    eigenvalues: int = 0,
    chunk: int = 256,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> TangentKernelDecay:
    """At which rate a network forgets its error at each frequency, where it stands, under gradient descent.

    The tangent kernel K = J J^T of n inputs and m outputs is (n m) x (n m), its factor J has a column for every
    parameter. Neither is formed: a wave phi costs one pull-back J^T phi, whose squared length is phi^T K phi, and one
    push-forward for how much of K phi points elsewhere.

    >>> r = ff.training.tangent_kernel_decay(net, images, frequencies=range(16), coordinates=images @ direction)

    Args:
        model: any network in evaluation mode; parameters that require no gradient stand still.
        inputs: (n, ...) of the model's type and on its device; half precision is measured in float32.
        frequencies: (f,) or (f, d) in cycles per unit of the coordinates.
        coordinates: (n,) or (n, d) where inputs lie along the directions that waves run in; the inputs themselves,
            flattened, if None.
        eigenvalues: how many of the largest to find by Lanczos, with the wave that each eigenfunction holds most of.
            One that is there several times, as those of a linear model with several outputs are, may be found once
            unless nearly all are asked for.
        chunk: inputs that pass through the network together.
        seed: of Lanczos' start.
        progress: called with (done, all) after each wave and each step of Lanczos.

    Raises:
        ValueError: a model in train mode or without parameters, shapes that do not fit, a rate that is not finite.

    Source: Jacot, Gabriel, Hongler 2018, for the kernel; E, Ma, Wu 2019 (arXiv 1912.12777), our reading, for rates.
    """
    where = _coordinates(inputs, coordinates)
    waves = numbers.as_array("frequencies", frequencies)
    waves = waves[:, None] if waves.ndim == 1 else waves
    if waves.ndim != 2 or not len(waves) or waves.shape[1] != where.shape[1] or not np.isfinite(waves).all():
        raise ValueError(f"expected finite `frequencies` of shape (f, {where.shape[1]}), got {waves.shape}")
    wanted, seed = numbers.as_int("eigenvalues", eigenvalues), checks.check_seed(seed)
    operator = TangentOperator(model, inputs, chunk=chunk)
    if not 0 <= wanted <= operator.samples * operator.outputs:
        raise ValueError(f"expected `eigenvalues` from 0 to {operator.samples * operator.outputs}, got {wanted}")
    steps = min(operator.samples * operator.outputs, 2 * wanted + 20) if wanted else 0
    tell = progress or (lambda _done, _all: None)
    measured = []
    for i, wave in enumerate(waves):
        measured.append(_decay(operator, where, wave))
        tell(i + 1, len(waves) + steps)
    rates, alignment = np.array(measured).T
    if not np.isfinite(rates).all():
        raise ValueError("expected finite gradients, some are NaN or infinite; check weights and inputs")
    found = _eigen(operator, wanted, steps, seed, lambda done: tell(len(waves) + done, len(waves) + steps))
    values, error, vectors = found
    places, shares = _held(vectors, where, waves)
    return TangentKernelDecay(
        frequencies=waves,
        rates=rates,
        alignment=alignment,
        eigenvalues=values,
        eigen_error=error,
        eigen_frequencies=places,
        eigen_shares=shares,
        samples=operator.samples,
        outputs=operator.outputs,
        parameters=operator.parameters,
        details={"model": type(model).__name__, "torch": torch.__version__},
    )


def _coordinates(inputs: Tensor, coordinates: ArrayLike | None) -> FloatArray:
    if not isinstance(inputs, Tensor) or inputs.ndim < 1 or not len(inputs):
        raise ValueError("expected `inputs` as a tensor (n, ...) with n of at least 1")
    if coordinates is None and (inputs.ndim < 2 or not inputs.dtype.is_floating_point):
        raise ValueError(
            f"expected `coordinates`, or `inputs` of floats (n, d) that are some, got {inputs.dtype} "
            f"{tuple(inputs.shape)}; use inputs[:, None] for one number each"
        )
    given = numbers.as_array("coordinates", inputs.flatten(1) if coordinates is None else coordinates)
    given = given[:, None] if given.ndim == 1 else given
    if given.ndim != 2 or len(given) != len(inputs) or not np.isfinite(given).all():
        raise ValueError(f"expected finite `coordinates` of shape ({len(inputs)}, d), got {given.shape}")
    return given


def _pair(where: FloatArray, wave: FloatArray) -> list[FloatArray]:
    """Unit cosine and sine over the inputs, those that are not zero there; both span what is told of a frequency."""
    phase = 2 * np.pi * where @ wave
    basis, triangle = np.linalg.qr(np.stack([np.cos(phase), np.sin(phase)], axis=1))
    return [basis[:, i] for i in range(basis.shape[1]) if abs(triangle[i, i]) > 1e-8 * np.sqrt(len(phase))]


def _decay(operator: TangentOperator, where: FloatArray, wave: FloatArray) -> tuple[float, float]:
    """(rate, alignment) of a frequency: means over cosine, sine and outputs."""
    rates, alignments = [], []
    for phi in _pair(where, wave):
        unit = torch.from_numpy(phi).to(operator.device)
        for output in range(operator.outputs):
            v = torch.zeros(operator.samples, operator.outputs, dtype=torch.float64, device=operator.device)
            v[:, output] = unit
            pulled = operator.adjoint(v)
            rate = sum(float(part.double().square().sum()) for part in pulled.values())
            length = float(operator.forward(pulled).double().norm())
            rates.append(rate / operator.samples)
            alignments.append(min(1.0, rate / length) if length > 0 else np.nan)
    return float(np.mean(rates)), float(np.mean(alignments))


def _eigen(
    operator: TangentOperator, wanted: int, steps: int, seed: int, tell: Callable[[int], None]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The largest eigenvalues of K / n, bounds on their errors, and their vectors (n, outputs, e), by Lanczos."""
    n, m = operator.samples, operator.outputs
    if not wanted:
        return np.zeros(0), np.zeros(0), np.zeros((n, m, 0))
    start = streams.generator("probes", seed).standard_normal(n * m)
    basis, diagonal, beside = [start / np.linalg.norm(start)], [], []
    for step in range(steps):
        v = torch.from_numpy(basis[-1].reshape(n, m)).to(operator.device)
        image = operator(v).double().cpu().numpy().reshape(-1) / n
        diagonal.append(float(image @ basis[-1]))
        q = np.stack(basis, axis=1)
        for _ in range(2):  # twice is enough (Kahan, Parlett)
            image -= q @ (q.T @ image)
        beside.append(float(np.linalg.norm(image)))
        tell(step + 1)
        if beside[-1] <= 1e-12 * max(abs(d) for d in diagonal):  # all that the start holds: on from another
            beside[-1] = 0.0
            image = streams.generator("probes", seed).standard_normal((step + 2, n * m))[-1]
            for _ in range(2):
                image -= q @ (q.T @ image)
        basis.append(image / np.linalg.norm(image) if step + 1 < steps else image)
    size = len(diagonal)
    inner = np.diag(diagonal) + np.diag(beside[: size - 1], 1) + np.diag(beside[: size - 1], -1)
    values, vectors = np.linalg.eigh(inner)
    top = np.argsort(values)[::-1][:wanted]
    full = np.stack(basis[:size], axis=1) @ vectors[:, top]
    return values[top], np.abs(beside[-1] * vectors[-1, top]), full.reshape(n, m, -1)


def _held(vectors: FloatArray, where: FloatArray, waves: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
    """For each eigenfunction the frequency whose cosine and sine hold most of its energy, and that share."""
    count = vectors.shape[2]
    if not count:
        return np.zeros(0, np.int64), np.zeros(0)
    shares: Sequence[FloatArray] = [
        sum(
            (np.square(np.einsum("n,nme->me", phi, vectors)).sum(axis=0) for phi in _pair(where, wave)), np.zeros(count)
        )
        for wave in waves
    ]
    table = np.stack(shares)
    return table.argmax(axis=0), table.max(axis=0)
