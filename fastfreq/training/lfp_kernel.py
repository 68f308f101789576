"""The kernel of the linear frequency principle, from the statistics of a wide two-layer ReLU network's parameters."""

from __future__ import annotations

import dataclasses
import math
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from fastfreq.results import codec
from fastfreq.vocabulary import numbers

FloatArray = NDArray[np.float64]
_OTHER = (
    "expected nn.Sequential(nn.Linear, nn.ReLU, nn.Linear) with one output; another network has another kernel, see "
    "ff.training.tangent_kernel_decay"
)


@codec.record
@dataclasses.dataclass(frozen=True)
class LFPKernel:
    """What a wide two-layer ReLU network learns by, as a kernel of the distance of inputs.

    K(x, z) = cubic E|u.v|^3 / 12 - linear E|u.v| / 2 - transverse E[(x.z - (u.x)(u.z)) |u.v|] / 2
    - mixed (x.z) E|u.v| / 2 + constant + slope x.z,  v = x - z, u uniform on the sphere.

    In Fourier space the first two terms are gamma^2(xi), and the dynamics of the output's transform are
    d/dt F[h](xi) = -gamma^2(xi) F[(h - f) p](xi): high frequencies are slow. The two terms in the middle depend on
    more than v; 1905.10264 leaves them out, and in one dimension with offsets they are zero. The second is a gradient
    term beside gamma^2, -div(mixed / |xi|^(d+1) grad): the review arXiv 2501.09987 prints 4 pi^2 times it, which the
    integral over neurons does not bear out.

    Attributes:
        dimension: d of the inputs.
        cubic: A, weight of |v|^3; alone it gives natural cubic splines in one dimension.
        linear: B, weight of |v|; alone it gives linear interpolation.
        transverse: weight of the part of x.z across u.
        mixed: weight of x.z |v|.
        constant: weight of the constant function; infinite for biases of infinite range: learned at once, free.
        slope: the same of linear functions.
        scale: what all of it is multiplied by in the network's own time: neurons per length of offset or bias.

    Source: Zhang, Xu, Luo, Ma 2019 (arXiv 1905.10264), gamma^2; Luo, Ma, Xu, Zhang 2020 (arXiv 2010.08153), the exact
    operator. Neither text was at hand: the kernels are derived again here, this is our reading.
    """

    dimension: int
    cubic: float
    linear: float
    transverse: float = 0.0
    mixed: float = 0.0
    constant: float = math.inf
    slope: float = math.inf
    scale: float = 1.0

    def __post_init__(self) -> None:
        if numbers.as_int("dimension", self.dimension) < 1:
            raise ValueError(f"expected a `dimension` of at least 1, got {self.dimension}")
        for name in ("cubic", "linear", "transverse", "mixed"):
            if not numbers.as_float(name, getattr(self, name)) >= 0:
                raise ValueError(f"expected `{name}` of at least 0, got {getattr(self, name)}")
        if not self.cubic + self.linear > 0:
            raise ValueError("expected `cubic` or `linear` above 0, got 0 for both")
        if math.isinf(self.constant) != math.isinf(self.slope):
            raise ValueError("expected `constant` and `slope` both finite or both infinite")

    @classmethod
    def published(cls, weights: ArrayLike, outer: ArrayLike) -> Self:
        """gamma^2 of 1905.10264: A = <|r|^2 + a^2>, B = <|r|^2 a^2>, means over neurons; what is across u left out.

        Args:
            weights: (m, d) r, from inputs to neurons.
            outer: (m,) a, from neurons to the output.

        Raises:
            ValueError: arrays that do not fit each other.
        """
        r, a = _parameters(weights, outer)
        square = np.square(r).sum(axis=1)
        return cls(r.shape[1], float((square + a**2).mean()), float((square * a**2).mean()))

    @classmethod
    def of_offsets(cls, weights: ArrayLike, outer: ArrayLike, *, reach: float = math.inf) -> Self:
        """The exact one of h(x) = sum_j a_j relu(w_j.x + |w_j| l_j), l uniform over -reach .. reach and trained.

        Args:
            weights: (m, d) w; directions as in an isotropic distribution.
            outer: (m,) a.
            reach: L, more than the largest |x|; infinite for the limit: constant and linear functions are free.
        """
        w, a = _parameters(weights, outer)
        square = np.square(w).sum(axis=1)
        cubic, linear, across = float((square + a**2).mean()), float((square * a**2).mean()), float((a**2).mean())
        d = w.shape[1]
        transverse = across if d > 1 else 0.0
        if math.isinf(reach):
            return cls(d, cubic, linear, transverse)
        constant = cubic * reach**3 / 3 + linear * reach
        slope = cubic * reach / d + transverse * reach * (1 - 1 / d)
        return cls(d, cubic, linear, transverse, 0.0, constant, slope, len(a) / (2 * reach))

    @classmethod
    def of_biases(cls, weights: ArrayLike, outer: ArrayLike, *, reach: float = math.inf) -> Self:
        """The exact one of h(x) = sum_j a_j relu(w_j.x + b_j), b uniform over -reach .. reach and trained.

        This is what `nn.Linear`, `nn.ReLU`, `nn.Linear` are, with biases spread widely: A = <|w|^3>, B = <a^2 |w|>.

        Args:
            weights: (m, d) w; directions as in an isotropic distribution.
            outer: (m,) a.
            reach: L, more than the largest |w.x|; infinite for the limit.
        """
        w, a = _parameters(weights, outer)
        r, d = np.linalg.norm(w, axis=1), w.shape[1]
        cubic, linear = float((r**3).mean()), float((a**2 * r).mean())
        if math.isinf(reach):
            return cls(d, cubic, linear, 0.0, linear)
        outer_square = float((a**2).mean()) * reach
        constant = reach**3 / 3 + outer_square
        slope = float((r**2).mean()) * reach / d + outer_square
        return cls(d, cubic, linear, 0.0, linear, constant, slope, len(a) / (2 * reach))

    @classmethod
    def of_network(cls, network: nn.Module, *, inputs: ArrayLike) -> Self:
        """`of_biases` of a user's `nn.Sequential(nn.Linear(d, m), nn.ReLU(), nn.Linear(m, 1))` before training.

        Args:
            network: whose biases are spread at least as widely as the largest |w.x|.
            inputs: (n, d) that it is to be trained on.

        Raises:
            TypeError: another kind of network.
            ValueError: biases that do not cover the inputs: the kernel then is none of distances.
        """
        modules = list(network.children())
        if type(network) is not nn.Sequential or len(modules) != 3 or type(modules[1]) is not nn.ReLU:
            raise TypeError(_OTHER)
        if any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in (network, *modules)):
            raise TypeError(
                f"{_OTHER}; this one has hooks or a forward of its own: what it computes is not what its weights say"
            )
        inner, last = modules[0], modules[2]
        if not (isinstance(inner, nn.Linear) and isinstance(last, nn.Linear) and last.out_features == 1):
            raise TypeError(_OTHER)
        w, a = (layer.weight.detach().double().cpu().numpy() for layer in (inner, last))
        x = check_inputs("inputs", inputs, w.shape[1])
        bias = np.zeros(1) if inner.bias is None else inner.bias.detach().double().cpu().numpy()
        widest, spread = float(np.abs(w @ x.T).max()), float(np.std(bias))
        if spread < widest:
            raise ValueError(
                f"expected biases spread at least as widely as the largest |w.x|, {widest:.3g}, got a standard "
                f"deviation of {spread:.3g}; draw them wider: nn.init.uniform_(network[0].bias, -L, L)"
            )
        return cls.of_biases(w, a[0])

    # ---------------------------------------------------------------- in space
    def __call__(self, x: ArrayLike, z: ArrayLike) -> FloatArray:
        """(n, m) K(x, z) of inputs (n, d) and (m, d); without the free functions where they are infinite."""
        a, b = check_inputs("x", x, self.dimension), check_inputs("z", z, self.dimension)
        difference = a[:, None] - b[None]
        distance = np.linalg.norm(difference, axis=2)
        first, third = mean_power(self.dimension, 1), mean_power(self.dimension, 3)
        kernel = self.cubic * third / 12 * distance**3 - self.linear * first / 2 * distance
        if self.transverse or self.mixed or math.isfinite(self.slope):
            inner = a @ b.T
            kernel -= self.mixed * first / 2 * inner * distance
            if self.transverse:
                kernel -= self.transverse / 2 * (inner * first * distance - self._along(a, b, distance))
            if math.isfinite(self.slope):
                kernel += self.constant + self.slope * inner
        return self.scale * kernel

    def _along(self, a: FloatArray, b: FloatArray, distance: FloatArray) -> FloatArray:
        """E[(u.x)(u.z) |u.v|]: (u.x)(u.z) = ((u.s)^2 - (u.v)^2) / 4 with s = x + z, split along and across v."""
        first, third = mean_power(self.dimension, 1), mean_power(self.dimension, 3)
        total = np.square(a[:, None] + b[None]).sum(axis=2)
        unlike = np.square(a).sum(axis=1)[:, None] - np.square(b).sum(axis=1)[None]  # s.v
        along = np.divide(unlike**2, distance, out=np.zeros_like(distance), where=distance > 0)  # (s.v)^2 / |v|
        across = total * distance - along
        spread = (first - third) / (self.dimension - 1)
        return (third * along + spread * across - third * distance**3) / 4

    def free(self, x: FloatArray) -> FloatArray:
        """(n, q) functions that cost nothing, at inputs: constant and linear ones; constant ones alone where A is 0."""
        if math.isfinite(self.constant):
            return np.zeros((len(x), 0))
        ones = np.ones((len(x), 1))
        return np.hstack([ones, x]) if self.cubic or self.transverse or self.mixed else ones

    @property
    def per_gamma_squared(self) -> float:
        """What the kernel's transform is over gamma^2: 1 / (16 pi^4) in one dimension.

        Raises:
            ValueError: a kernel with more than gamma^2 in it.
        """
        if self.transverse or self.mixed:
            raise ValueError(
                "expected a kernel that is gamma^2 alone, this has exact terms that no norm of this kind "
                "belongs to; use LFPKernel.published, or the exact one of offsets in one dimension"
            )
        d = self.dimension
        return self.scale * mean_power(d, 3) * math.gamma((d + 3) / 2) / (16 * math.pi ** (3.5 + d / 2))

    # ---------------------------------------------------------------- in frequency
    def gamma_squared(self, frequencies: ArrayLike) -> FloatArray:
        """(f,) gamma^2(xi) = A / |xi|^(d+3) + 4 pi^2 B / |xi|^(d+1) at (f, d) frequencies in cycles; infinite at 0."""
        radius = np.linalg.norm(check_inputs("frequencies", frequencies, self.dimension), axis=1)
        d = self.dimension
        with np.errstate(divide="ignore"):
            return self.cubic / radius ** (d + 3) + 4 * np.pi**2 * self.linear / radius ** (d + 1)

    def gamma_l2(self, *, cutoff: int = 64) -> float:
        """(sum over k in Z^d, k != 0, of gamma^2(k))^(1/2): exact for d = 1, else from above.

        Args:
            cutoff: radius within which the sum is taken term by term; what is beyond is bounded by an integral. Above
                sqrt(d), where that bound begins to be one.

        Raises:
            ValueError: a smaller cutoff.
        """
        d, cutoff = self.dimension, numbers.as_int("cutoff", cutoff)
        if d == 1:
            return math.sqrt(2 * (self.cubic * np.pi**4 / 90 + 4 * np.pi**2 * self.linear * np.pi**2 / 6))
        if cutoff <= math.sqrt(d):
            raise ValueError(f"expected a `cutoff` above the square root of {d} dimensions, got {cutoff}")
        lattice = lattice_frequencies(d, cutoff)
        lattice = lattice[np.linalg.norm(lattice, axis=1) <= cutoff]
        # each further term is at most the integral over its unit cube of the term half a diagonal further in
        half = math.sqrt(d) / 2
        start = cutoff - 2 * half
        sphere = 2 * math.pi ** (d / 2) / math.gamma(d / 2) * (1 + half / start) ** (d - 1)
        tail = sphere * (self.cubic / (3 * start**3) + 4 * math.pi**2 * self.linear / start)
        return math.sqrt(float(self.gamma_squared(lattice).sum()) + tail)


def mean_power(dimension: int, power: int) -> float:
    """E|u_1|^power of u uniform on the unit sphere of R^dimension: 1 in one dimension."""
    d, p = dimension, power
    log = math.lgamma(d / 2) + math.lgamma((p + 1) / 2) - math.lgamma((d + p) / 2)
    return math.exp(log) / math.sqrt(math.pi) if d > 1 else 1.0


def lattice_frequencies(dimension: int, cutoff: int) -> FloatArray:
    """(f, d) integer frequencies with all |k_i| <= cutoff, without 0."""
    axis = np.arange(-cutoff, cutoff + 1)
    lattice = np.stack(np.meshgrid(*[axis] * dimension, indexing="ij"), axis=-1).reshape(-1, dimension)
    return lattice[lattice.any(axis=1)].astype(np.float64)


def check_inputs(name: str, values: ArrayLike, dimension: int | None = None) -> FloatArray:
    """`values` as (n, d) float64; (n,) is n inputs of one dimension.

    Raises:
        ValueError: another shape, NaN or infinite values.
    """
    plain = numbers.as_array(name, values)
    given = plain[:, None] if plain.ndim == 1 else plain
    if given.ndim != 2 or not given.size or (dimension is not None and given.shape[1] != dimension):
        wanted = "d" if dimension is None else dimension
        raise ValueError(f"expected `{name}` of shape (n, {wanted}), got {plain.shape}")
    if not np.isfinite(given).all():
        raise ValueError(f"expected finite `{name}`, got NaN or infinity")
    return given


def _parameters(weights: ArrayLike, outer: ArrayLike) -> tuple[FloatArray, FloatArray]:
    w, a = check_inputs("weights", weights), numbers.as_array("outer", outer)
    if a.shape != w.shape[:1]:
        raise ValueError(f"expected `outer` of shape ({len(w)},), one weight per neuron, got {a.shape}")
    if not np.isfinite(a).all():
        raise ValueError("expected finite `outer`, got NaN or infinity")
    return w, a
