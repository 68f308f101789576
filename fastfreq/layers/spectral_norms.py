"""Only the largest singular value of each convolution: by Lanczos at all frequencies at once, differentiable."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import fastfreq_kernels as kernels
import torch
from fastfreq_kernels._taps import phase_tables
from torch import Tensor, nn

from ._eager import outside_graphs
from ._values import distinct_values
from .discovery import find_convolutions
from .symbols import Symbols, conv_symbols_of

_DIRECT = 160  # sides up to which all singular values cost less than Lanczos steps at every frequency
_CHECK = 4  # Lanczos steps between looks at which frequencies can still hold the largest value
_STEPS = 200
_FEW = 3  # frequencies whose symbols are written out for the last, float64, steps
_WORK_BYTES = 32 << 20  # of a product's intermediate


@dataclasses.dataclass(frozen=True)
class _Top:
    """Where the largest singular value is: group, frequency (d,), and its unit vectors, complex128."""

    group: int
    frequency: Tensor
    u: Tensor
    v: Tensor


def spectral_norm(
    layer: nn.Module,
    *,
    input_size: Sequence[int],
    padding: str | None = None,
    batch_norm: nn.Module | None = None,
    rtol: float = 1e-5,
) -> Tensor:
    """Largest singular value of one convolution as a linear map on periodic images; a scalar with a gradient.

    ||A|| = max_k ||A(k)||, and its derivative with respect to the weight is that of Re(u^H A(k) v) at fixed u and v.
    Where the largest value is not simple this is one of the subgradients. For zero padding an upper bound, as in
    `singular_values`; `zero_padded_norm` gives the exact one.

    Up to 160 channels every singular value is computed. Above, Golub-Kahan-Lanczos runs at all frequencies together as
    one real matrix product per step, and frequencies drop out once their Ritz value plus its residual stays below the
    largest Ritz value. The result is a value that some unit vector attains, so never above ||A||; it stops when the
    residual of the largest is below `rtol`, which bounds its distance to a singular value but, as in every Lanczos
    method, proves only with probability one that this is the largest. `kernels.gram_iteration` gives certified bounds.

    Args:
        layer: a convolution, transposed convolution or linear layer.
        input_size: (d,) spatial size of its input.
        padding: None for what the layer does, "circular" for the periodic map on its input's own size.
        batch_norm: one in evaluation mode to fold in.
        rtol: relative residual at which to stop; the value itself is then right to about rtol^2 over its relative
            distance to the next one.

    Returns:
        A scalar of the weight's dtype.

    Raises:
        ValueError, TypeError: as `singular_values`, or an `rtol` outside (0, 0.1].
        RuntimeError: no convergence within 200 steps.

    Source: Golub, Kahan 1965; symbols as in Sedghi, Gupta, Long 2019.
    """
    if not 0 < rtol <= 0.1:
        raise ValueError(f"expected `rtol` between 0 and 0.1, got {rtol}")
    symbols = conv_symbols_of(layer, input_size=input_size, padding=padding, batch_norm=batch_norm)
    return _norm_of(symbols, rtol)


def spectral_norms(
    model: nn.Module,
    *,
    input_size: Sequence[int],
    padding: str | None = None,
    fold_batch_norm: bool = False,
    linear: bool = False,
    rtol: float = 1e-5,
) -> dict[str, Tensor]:
    """Largest singular value of every convolution of a model, in order of execution; see `spectral_norm`.

    Args:
        model: any module.
        input_size: (c, height, width) of its images.
        padding: as in `spectral_norm`.
        fold_batch_norm: scale by the batch norm that follows each layer.
        linear: linear layers too.
        rtol: as in `spectral_norm`.

    Raises:
        ValueError: an argument out of range, or a layer with no periodic counterpart; the message names it.
        TypeError: a layer without usable weights.
    """
    if not 0 < rtol <= 0.1:
        raise ValueError(f"expected `rtol` between 0 and 0.1, got {rtol}")
    norms = {}
    for layer in find_convolutions(model, tuple(input_size), linear=linear)[0]:
        norm = layer.batch_norm if fold_batch_norm else None
        try:
            symbols = conv_symbols_of(layer.module, input_size=layer.input_size, batch_norm=norm, padding=padding)
        except (ValueError, TypeError) as error:
            raise type(error)(f"layer {layer.name!r}: {error}") from error
        norms[layer.name] = _norm_of(symbols, rtol)
    return norms


@outside_graphs
def _norm_of(symbols: Symbols, rtol: float) -> Tensor:
    taps = symbols.taps
    scale = taps.detach().abs().amax().double()
    if scale == 0:
        return (0 * taps).sum()  # zero is one of the subgradients
    with torch.no_grad():
        fixed = dataclasses.replace(symbols, taps=taps.detach().double() / scale)
        top = _by_all_values(fixed) if min(taps.shape[2:]) <= _DIRECT else _by_lanczos(fixed, rtol)
    wide = torch.complex(top.u.real, top.u.imag), torch.complex(top.v.real, top.v.imag)
    u, v = (w.to(torch.complex128 if taps.dtype == torch.float64 else torch.complex64) for w in wide)
    own = taps[top.group : top.group + 1]
    if own.dtype not in (torch.float32, torch.float64):
        own = own.float()
    cosine, sine = phase_tables(symbols.offsets, top.frequency[None], symbols.grid, own.dtype)
    outer = torch.outer(u.conj(), v)  # Re(u^H A v) = sum_j T_j . (cos Re - sin Im) of conj(u) v^T
    weights = cosine[0, :, None, None] * outer.real - sine[0, :, None, None] * outer.imag
    return (own[0] * weights).sum().to(taps.dtype)


def _by_all_values(symbols: Symbols) -> _Top:
    """From all singular values: the place of the largest, and one small decomposition there."""
    values = _group_values(symbols)
    group, row = divmod(int(values.argmax()), values.shape[1])
    return _decompose(symbols, group, symbols.frequencies[row])


def _group_values(symbols: Symbols) -> Tensor:
    """(g, f) largest value of each group at each distinct frequency."""
    if len(symbols.taps) == 1:
        return torch.from_numpy(distinct_values(symbols, "high")[:, 0].copy())[None]
    gram = kernels.ConvGram(symbols.taps, symbols.offsets, grid=symbols.grid, count=len(symbols.frequencies))
    return gram.eigenvalues(symbols.frequencies)[..., 0].cpu()


def _decompose(symbols: Symbols, group: int, frequency: Tensor) -> _Top:
    taps = symbols.taps[group : group + 1]
    matrix = kernels.conv_symbols(taps, symbols.offsets, frequency[None], grid=symbols.grid)[0, 0]
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    return _Top(group, frequency, u[:, 0], vh[0].conj())


def _by_lanczos(symbols: Symbols, rtol: float) -> _Top:
    """float32 Lanczos at all frequencies finds the candidates, float64 Lanczos at those the value."""
    best: list[tuple[float, _Top]] = []
    for group in range(len(symbols.taps)):
        taps = symbols.taps[group]
        every = _Stacked(taps.float(), symbols, symbols.frequencies)
        _, keep, v = _lanczos(every, None, 1e-3, few=_FEW)
        frequencies = symbols.frequencies[keep]
        matrices = kernels.conv_symbols(taps[None], symbols.offsets, frequencies, grid=symbols.grid)[0]
        values, rows, v = _lanczos(_Explicit(matrices), v, rtol, few=0)
        top = int(values.argmax())
        u = matrices[rows[top]] @ v[top]
        place = _Top(group, frequencies[rows[top]], u / torch.linalg.vector_norm(u), v[top])
        best.append((float(values[top]), place))
    return max(best, key=lambda pair: pair[0])[1]


class _Explicit:
    """A(k) of a few frequencies as matrices."""

    def __init__(self, matrices: Tensor) -> None:
        self.matrices = matrices
        self.shape, self.device, self.dtype = tuple(matrices.shape), matrices.device, matrices.dtype

    def apply(self, x: Tensor) -> Tensor:
        return (self.matrices @ x[..., None])[..., 0]

    def adjoint(self, y: Tensor) -> Tensor:
        return (y.conj()[:, None, :] @ self.matrices)[:, 0].conj()

    def keep(self, alive: Tensor) -> None:
        self.matrices = self.matrices[alive]


class _Stacked:
    """A(k) of many frequencies at once: one real product with the taps side by side, whatever their number."""

    def __init__(self, taps: Tensor, symbols: Symbols, frequencies: Tensor) -> None:
        t, a, b = taps.shape
        self.shape, self.device = (len(frequencies), a, b), taps.device
        self.dtype = torch.complex64 if taps.dtype == torch.float32 else torch.complex128
        self.forwards = taps.permute(0, 2, 1).reshape(t * b, a)
        self.backwards = taps.reshape(t * a, b)
        self.cosines, self.sines = phase_tables(symbols.offsets, frequencies, symbols.grid, taps.dtype)

    def apply(self, x: Tensor) -> Tensor:
        return self._product(self.forwards, self.sines, x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._product(self.backwards, -self.sines, y)

    def keep(self, alive: Tensor) -> None:
        self.cosines, self.sines = self.cosines[alive], self.sines[alive]

    def _product(self, stacked: Tensor, sines: Tensor, x: Tensor) -> Tensor:
        """sum_j exp(i phase_kj) x_k S_j: (f, n) from S (t m, n) and x (f, m)."""
        t = sines.shape[1]
        out = []
        step = max(1, _WORK_BYTES // (2 * stacked.shape[0] * stacked.itemsize))
        for first in range(0, len(x), step):
            part = slice(first, first + step)
            c, s = self.cosines[part, :, None], sines[part, :, None]
            re, im = x.real[part, None, :], x.imag[part, None, :]
            rows = len(c)
            turned = stacked.new_empty(2, rows, t, x.shape[1])
            torch.sub(c * re, s * im, out=turned[0])
            torch.add(c * im, s * re, out=turned[1])
            product = turned.reshape(2 * rows, -1) @ stacked
            out.append(torch.complex(product[:rows], product[rows:]))
        return torch.cat(out)


def _lanczos(
    operator: _Stacked | _Explicit, start: Tensor | None, rtol: float, *, few: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Golub-Kahan-Lanczos at all frequencies of `operator`: Ritz values, rows that were kept, right Ritz vectors.

    Rows that cannot hold the largest value any more are dropped on the way. Ends once at most `few` are left, or those
    left have their largest value to `rtol`.
    """
    count, most, columns = operator.shape
    if start is None:  # one seed, one answer
        normal = torch.randn(count, columns, 2, generator=torch.Generator().manual_seed(0))
        start = torch.view_as_complex(normal).to(operator.device)
    v = start.to(operator.dtype)
    v = v / _length(v)
    rows = torch.arange(count, device=operator.device)
    right, alphas, betas = [v], [], []
    u = torch.zeros((), dtype=operator.dtype, device=operator.device)
    tiny = torch.finfo(v.real.dtype).tiny
    most = min(_STEPS, columns, most)
    for step in range(1, most + 1):
        u = operator.apply(right[-1]) - (betas[-1] * u if betas else 0)
        alphas.append(_length(u))
        u = u / alphas[-1].clamp_min(tiny)
        w = operator.adjoint(u) - alphas[-1] * right[-1]
        # full reorthogonalisation: the basis is short, and lost orthogonality costs steps
        basis = torch.stack(right, dim=1)
        w = w - ((basis.conj() @ w[..., None]).mT @ basis)[:, 0]
        betas.append(_length(w))
        if step % _CHECK == 0 or step == most:
            ritz, residual, weights = _ritz(alphas, betas)
            largest = ritz.max()
            alive = ritz + residual >= largest
            done = bool((residual[alive] <= rtol * largest).all()) or int(alive.sum()) <= few or step == columns
            if done or step == most:
                if not done and step == _STEPS:
                    raise RuntimeError(f"expected Lanczos to converge to {rtol:g} in {_STEPS} steps; raise `rtol`")
                vectors = (weights[:, None].to(basis.dtype) @ basis)[:, 0][alive]
                return ritz[alive], rows[alive], vectors / _length(vectors)
            rows, u, w = rows[alive], u[alive], w[alive]
            operator.keep(alive)
            right, alphas, betas = ([x[alive] for x in each] for each in (right, alphas, betas))
        right.append(w / betas[-1].clamp_min(tiny))
    raise AssertionError("the last step returns")


def _length(x: Tensor) -> Tensor:
    """(f, 1) L2 norms of the rows."""
    return torch.view_as_real(x).square().sum(dim=(1, 2)).sqrt()[:, None]


def _ritz(alphas: list[Tensor], betas: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Largest singular value of each bidiagonal matrix, the residual ||A^H u - s v||, and v's coordinates."""
    m = len(alphas)
    bidiagonal = torch.diag_embed(torch.cat(alphas, dim=1))
    if m > 1:
        bidiagonal = bidiagonal + torch.diag_embed(torch.cat(betas[:-1], dim=1), offset=1)
    left, values, right = torch.linalg.svd(bidiagonal)
    return values[:, 0], betas[-1][:, 0] * left[:, -1, 0].abs(), right[:, 0]
