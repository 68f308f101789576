"""Products with a convolution's symbols at many frequencies at once, for iterations that need no more than those.

Complex vectors are pairs of real rows: x of shape (f, 2, n) holds real and imaginary parts.
"""

from __future__ import annotations

import functools
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

_CACHED = 1 << 19  # numbers that stay in a cache


class Operator(Protocol):
    """A(k) at some frequencies, real and imaginary parts of vectors one after the other.

    Attributes:
        shape: (f, a, b) at first; `keep` does not change it.
        dtype: of the vectors.
    """

    shape: tuple[int, int, int]
    dtype: torch.dtype

    def apply(self, x: Tensor) -> Tensor:
        """A x, (f, 2, a) from (f, 2, b)."""
        ...

    def adjoint(self, y: Tensor) -> Tensor:
        """A^H y, (f, 2, b) from (f, 2, a)."""
        ...

    def keep(self, alive: Tensor) -> None:
        """Forget the other frequencies."""
        ...


class Tall:
    """An operator, or its adjoint if that has fewer columns."""

    def __init__(self, operator: Operator) -> None:
        f, a, b = operator.shape
        self.operator, self.turned = operator, b > a
        self.shape, self.dtype = (f, max(a, b), min(a, b)), operator.dtype

    def apply(self, x: Tensor) -> Tensor:
        """(f, 2, max(a, b)) from (f, 2, min(a, b))."""
        return self.operator.adjoint(x) if self.turned else self.operator.apply(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """(f, 2, min(a, b)) from (f, 2, max(a, b))."""
        return self.operator.apply(y) if self.turned else self.operator.adjoint(y)

    def keep(self, alive: Tensor) -> None:
        """Forget the other frequencies."""
        self.operator.keep(alive)


class Explicit:
    """A(k) = sum_j taps_j exp(i phase_kj) of a few frequencies as matrices.

    Args:
        taps: (t, a, b).
        cosines, sines: (f, t), of the phases.
        dtype: of the matrices.
    """

    def __init__(self, taps: Tensor, cosines: Tensor, sines: Tensor, dtype: torch.dtype) -> None:
        (f, t), (_, a, b) = cosines.shape, taps.shape
        self.shape, self.dtype = (f, a, b), dtype
        complex_ = bool((sines != 0).any())
        phases = (torch.cat([cosines, sines]) if complex_ else cosines).to(dtype)
        matrices = taps.new_empty(len(phases), a, b, dtype=dtype)
        step = a if taps.dtype == dtype else max(1, _CACHED // (t * b))  # a wider copy of all taps would be slow
        for first in range(0, a, step):
            part = taps[:, first : first + step].to(dtype).reshape(t, -1)
            matrices[:, first : first + step] = (phases @ part).reshape(len(phases), -1, b)
        self.real, self.imaginary = matrices[:f], matrices[f:] if complex_ else None

    def apply(self, x: Tensor) -> Tensor:
        """A x, (f, 2, a) from (f, 2, b)."""
        out = torch.bmm(x, self.real.mT)
        return out if self.imaginary is None else torch.baddbmm(out, times_i(x), self.imaginary.mT)

    def adjoint(self, y: Tensor) -> Tensor:
        """A^H y, (f, 2, b) from (f, 2, a)."""
        out = torch.bmm(y, self.real)
        return out if self.imaginary is None else torch.baddbmm(out, times_i(y), self.imaginary, alpha=-1)

    def keep(self, alive: Tensor) -> None:
        """Forget the other frequencies."""
        self.real = self.real[alive]
        self.imaginary = None if self.imaginary is None else self.imaginary[alive]


class Stacked:
    """A(k) of many frequencies: one real product with the taps side by side, whatever their number.

    Args:
        taps: (t, a, b) float32.
        cosines, sines: (f, t) float32.
        dtype: float32, or bfloat16 for operands rounded to that.
    """

    def __init__(self, taps: Tensor, cosines: Tensor, sines: Tensor, dtype: torch.dtype = torch.float32) -> None:
        self.shape, self.dtype = (len(cosines), taps.shape[1], taps.shape[2]), torch.float32
        self.forwards, self.backwards = (_Wide(each, dtype) for each in (taps, taps.mT))
        # (f, 2 t, 2): real and imaginary part of x -> those of exp(+-i phase) x, tap by tap
        self.turns, self.returns = (
            torch.stack([torch.cat([cosines, s], dim=1), torch.cat([-s, cosines], dim=1)], dim=2)
            for s in (sines, -sines)
        )

    def apply(self, x: Tensor) -> Tensor:
        """A x, (f, 2, a) from (f, 2, b)."""
        return self.forwards.product(torch.bmm(self.turns, x))

    def adjoint(self, y: Tensor) -> Tensor:
        """A^H y, (f, 2, b) from (f, 2, a)."""
        return self.backwards.product(torch.bmm(self.returns, y))

    def keep(self, alive: Tensor) -> None:
        """Forget the other frequencies."""
        self.turns, self.returns = self.turns[alive], self.returns[alive]


class _Wide:
    """sum_j T_j x_j with the taps (t, a, b) side by side as one (a, t b) matrix.

    float32 goes to oneDNN where that has AVX-512: a BLAS made for one maker's CPUs can be at half its speed on another.
    """

    def __init__(self, taps: Tensor, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.packed = dtype == torch.float32 and taps.is_cpu and _has_onednn()
        weight = taps.to(dtype).transpose(0, 1).reshape(taps.shape[1], -1)
        self.weight = weight.to_mkldnn() if self.packed else weight

    def product(self, turned: Tensor) -> Tensor:
        """(f, 2, a) from x_j (f, 2 t, b), the taps of the real part first."""
        x = turned.reshape(2 * len(turned), -1).to(self.dtype)
        out = F.linear(x.to_mkldnn(), self.weight).to_dense() if self.packed else x @ self.weight.T
        return out.to(turned.dtype).reshape(len(turned), 2, -1)


def times_i(x: Tensor) -> Tensor:
    """The product i x, for x (f, 2, n)."""
    return torch.stack([-x[:, 1], x[:, 0]], dim=1)


@functools.cache
def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


@functools.cache
def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a CPU or a GPU has instructions for products of bfloat16."""
    if device.type == "cuda":
        if torch.version.hip is not None:
            return True
        return torch.backends.cuda.is_built() and torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    has = getattr(torch.cpu, "get_capabilities", dict)()  # not in every release of torch
    return torch.backends.mkldnn.is_available() and bool(has.get("avx512_bf16") or has.get("amx_bf16"))
