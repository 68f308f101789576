"""Singular values at every distinct frequency, in blocks that bound the memory, by the route an accuracy names."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator
from typing import Literal, NamedTuple, TypeAlias, cast, get_args

import fastfreq_kernels as kernels
import numpy as np
import torch
from fastfreq_kernels._hermitian import dilation
from fastfreq_kernels._threads import own_threads_only
from numpy.typing import NDArray
from torch import Tensor

from fastfreq.engine.arithmetic import float32

from ._rows import row_norms
from .symbols import Symbols

Accuracy = Literal["exact", "high", "fast"]
Progress: TypeAlias = Callable[[float], object]  # takes the share that has been done
BLOCK_BYTES = 64 << 20  # of matrices held at a time
_SINGLE = 2.0**-23  # spacing of float32
_ALLOWED = 3.25e-4  # of the largest value, for "fast"; its guarantee is 3.5e-4
_SQUARE, _GRAM_PAYS = 1.5, (64, 384)  # nearly square matrices outside these sides are quicker than their Gram matrices
_SMALL = 32  # sides below which float32 is no faster
_PROBE = 16  # frequencies, spread evenly, that show how many have values too small for float32 ...
_WORTHWHILE = 0.4  # ... of which more than this share make float64 the quicker


def check_accuracy(accuracy: str) -> Accuracy:
    """Refuse an accuracy that is not one of the three.

    Raises:
        ValueError: another name.
    """
    if accuracy not in get_args(Accuracy):
        raise ValueError(
            f"expected `accuracy` of 'exact' (complex128 throughout), 'high' (error up to 1e-7 of the largest value) "
            f"or 'fast' (up to 3.5e-4), got {accuracy!r}"
        )
    return cast(Accuracy, accuracy)


class Wanted(NamedTuple):
    """Singular values of one layer's matrices that are wanted next, and the Hermitian matrices that have them.

    Attributes:
        packed: frequencies (f, d) -> matrices (g, f, side, side).
        blocks: of frequencies, in each of which `packed` is asked for all: it may round by their number.
        groups: g.
        side: of the matrices.
        dtype: of the matrices.
        largest: how many of the eigenvalues.
        squared: whether these are squares of the singular values.
        alone: the values (g, f, largest) of all blocks, float64 on the CPU, without other layers.
    """

    packed: Callable[[Tensor], Tensor]
    blocks: tuple[Tensor, ...]
    groups: int
    side: int
    dtype: torch.dtype
    largest: int
    squared: bool
    alone: Callable[[], Tensor]


Steps: TypeAlias = Generator[Wanted, Tensor, Tensor]  # asks for values, is sent (g, f, r) float64 on the CPU


@float32("ieee")
def distinct_values(
    symbols: Symbols, accuracy: Accuracy, progress: Progress = lambda _share: None
) -> NDArray[np.float64]:
    """(f, g r) singular values at each distinct frequency, descending, all groups together.

    "exact" takes those of every matrix in complex128. "high" takes square roots of eigenvalues of the smaller Gram
    matrix: an error of e ||G|| in an eigenvalue is one of at most sqrt(e) ||A|| in a singular value, in float64 within
    1e-7. "fast" is either in float32, where Gram matrices serve for the values that `_resolved` passes: within 3.5e-4.
    Matrices of one row or column have their length.
    """
    steps = values_of(symbols, accuracy, progress)
    with own_threads_only():
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(wanted.alone())
        except StopIteration as ended:
            return ended.value


def values_of(
    symbols: Symbols, accuracy: Accuracy, progress: Progress = lambda _share: None, *, on_gpu: bool | None = None
) -> Generator[Wanted, Tensor, NDArray[np.float64]]:
    """`distinct_values` as a generator of the `Wanted` values that it needs, so that layers can be done together.

    Args:
        symbols: of one layer.
        accuracy: of the values.
        progress: takes the share that has been done.
        on_gpu: whether to go the way that is taken there; None for where the taps are.
    """
    groups, _, rows, columns = symbols.taps.shape
    taps, largest = _without_zeros(symbols.taps.detach())
    # float32 Gram matrices of weights of 1e20 or 1e-23 would leave the range
    scale = max(largest, torch.finfo(torch.float64).tiny)
    taps = taps.to(torch.float64, copy=True).div_(scale)
    if min(rows, columns) == 1:
        taps = taps.float() if accuracy == "fast" else taps
        out = row_norms(taps, symbols.offsets, symbols.frequencies, symbols.grid, descending=groups > 1)
        progress(1.0)
        return out.double().mul_(scale).cpu().numpy()
    on_gpu = taps.is_cuda if on_gpu is None else on_gpu
    if accuracy == "exact":
        steps = _direct(taps, symbols, progress, on_gpu)
    else:
        steps = _fast(taps, symbols, progress, on_gpu) if accuracy == "fast" else _high(taps, symbols, progress)
    values = yield from steps
    out = np.zeros((len(symbols.frequencies), groups, min(rows, columns)))
    np.multiply(values.transpose(0, 1).numpy(), scale, out=out[:, :, : values.shape[2]])
    if groups == 1:
        return out[:, 0]
    return -np.sort(-out.reshape(len(out), -1), axis=1)


def _without_zeros(taps: Tensor) -> tuple[Tensor, float]:
    """The taps without channels that are zero everywhere, and the largest; a GPU is waited for once.

    A strided 1 x 1 kernel has three such channels in four.
    """
    if not taps.numel():
        return taps, 0.0
    sizes = taps.abs().amax(dim=1).amax(dim=0)
    facts = torch.cat([sizes.amax(dim=1), sizes.amax(dim=0)]).double().cpu()
    for axis, there in zip((2, 3), (facts > 0).split(list(sizes.shape)), strict=True):
        if not there.all():
            there[0] = True  # an all-zero kernel keeps one channel
            taps = taps.index_select(axis, there.nonzero()[:, 0].to(taps.device))
    return taps, float(facts.max())


def _direct(taps: Tensor, symbols: Symbols, progress: Progress, on_gpu: bool) -> Steps:
    """Of the matrices themselves; on a GPU their dilations are Hermitian and have them."""
    g, _, rows, columns = taps.shape
    frequencies = symbols.frequencies.to(taps.device)

    def of(frequencies: Tensor) -> Tensor:
        return kernels.conv_singular_values(taps, symbols.offsets, frequencies, grid=symbols.grid)

    def dilated(frequencies: Tensor) -> Tensor:
        return dilation(kernels.conv_symbols(taps, symbols.offsets, frequencies, grid=symbols.grid))

    each = _bytes(taps, rows * columns * 2 * taps.itemsize)
    if not on_gpu:
        return _in_blocks(of, frequencies, each, progress)
    return (
        yield Wanted(
            packed=dilated, blocks=_blocks(frequencies, each), groups=g, side=rows + columns, dtype=taps.dtype,
            largest=min(rows, columns), squared=False, alone=lambda: _in_blocks(of, frequencies, each, progress),
        )
    )  # fmt: skip


def _high(taps: Tensor, symbols: Symbols, progress: Progress) -> Steps:
    frequencies = symbols.frequencies.to(taps.device)
    return (yield _Gram(taps, symbols, len(frequencies)).wanted(frequencies, progress))


def _fast(taps: Tensor, symbols: Symbols, progress: Progress, on_gpu: bool) -> Steps:
    """float32: of the matrices where that is as quick, else of Gram matrices, with float64 where it is needed.

    The values of the matrices themselves are right to some 1e-6 of the largest. Of Gram matrices, frequencies with
    values too small for float32 are done again in float64; all of them where many have some.
    """
    frequencies = symbols.frequencies.to(taps.device)
    count = len(frequencies)
    small, large = sorted(taps.shape[2:])
    if not on_gpu and large <= _SQUARE * small and not _GRAM_PAYS[0] < small < _GRAM_PAYS[1]:
        return (yield from _direct(taps.float(), symbols, progress, on_gpu))
    if small < _SMALL or count <= _PROBE:
        return (yield from _high(taps, symbols, progress))
    probed = torch.zeros(count, dtype=torch.bool)
    probed[torch.linspace(0, count - 1, _PROBE).long()] = True
    rest = frequencies[~probed]
    double = _Gram(taps, symbols, count)
    head = yield double.wanted(frequencies[probed])
    values = head.new_empty(len(head), count, head.shape[2])
    values[:, probed] = head
    if (~_resolved(head)).double().mean() > _WORTHWHILE:
        values[:, ~probed] = yield double.wanted(rest, progress)
        return values
    values[:, ~probed] = yield double.single().wanted(rest, progress)
    again = ~_resolved(values) & ~probed
    if again.any():
        values[:, again] = yield double.wanted(frequencies[again])
    return values


def _resolved(values: Tensor) -> Tensor:
    """(f,) bool: where singular values (g, f, r) by float32 Gram matrices are all within `_ALLOWED` of the largest.

    Rounding takes each eigenvalue of G = A A^H to within e of the true one, eps = 2^-23 and the largest of all
    frequencies being 1,
        e <= eps (2.5 F + 1.2 sqrt(r) g + 1.5)    F, g: Frobenius and spectral norm of G at this frequency,
    and m eigenvalues well below the others, where errors average out over the eigenvectors of the others, to within
        e <= eps (3 p (F (0.35 + 1.2 sqrt(m / r)) + 0.5 sqrt(m) g) + 1.5)
    with p = F^2 / (g trace G), at least 1/2: the flatter the large ones, the larger. Planted spectra of 32 to 512
    channels, flat, rank-one, graded, random, with 1 to r - 1 small values, at all frequencies alike and over taps that
    cancel, stayed below three quarters of that. A value of s is then off by at most a if e <= 2 a s - a^2.
    """
    top = values.max()
    s = values / top.clamp_min(torch.finfo(values.dtype).tiny)
    eigenvalues = s.square()
    r = values.shape[2]
    frobenius, spectral = eigenvalues.square().sum(dim=2).sqrt(), eigenvalues[..., 0]
    worst = _SINGLE * (2.5 * frobenius + 1.2 * math.sqrt(r) * spectral + 1.5)
    unsure = ((worst + _ALLOWED**2) / (2 * _ALLOWED)).square() + 2 * worst
    m = (eigenvalues <= unsure[..., None]).sum(dim=2).clamp_min(1)
    flat = (frobenius.square() / (spectral * eigenvalues.sum(dim=2)).clamp_min(1e-300)).clamp_min(0.5)
    few = flat * (frobenius * (0.35 + 1.2 * (m / r).sqrt()) + 0.5 * m.sqrt() * spectral)
    error = torch.minimum(worst, _SINGLE * (3 * few + 1.5))
    return (2 * _ALLOWED * s[..., -1] - _ALLOWED**2 >= error).all(dim=0) & (top > 0)


class _Gram:
    """Square roots of the eigenvalues of Gram matrices, in the precision of the taps, at `count` frequencies."""

    def __init__(self, taps: Tensor, symbols: Symbols, count: int) -> None:
        self.gram = kernels.ConvGram(taps, symbols.offsets, grid=symbols.grid, count=count)
        self.groups, self.side = len(taps), min(taps.shape[2:])
        self.each = _bytes(taps, self.side**2 * 8)

    def single(self) -> _Gram:
        """The same, rounded to float32."""
        other = copy.copy(self)
        other.gram = self.gram.float()
        return other

    def values(self, frequencies: Tensor, progress: Progress = lambda _share: None) -> Tensor:
        """(g, f, r), descending, float64 on the CPU."""
        return _in_blocks(
            lambda part: self.gram.eigenvalues(part).clamp_min(0).sqrt(), frequencies, self.each, progress
        )

    def wanted(self, frequencies: Tensor, progress: Progress = lambda _share: None) -> Wanted:
        """The same to be asked for."""
        return Wanted(
            packed=self.gram, blocks=_blocks(frequencies, self.each), groups=self.groups, side=self.side,
            dtype=self.gram.taps.dtype, largest=self.side, squared=True,
            alone=lambda: self.values(frequencies, progress),
        )  # fmt: skip


def _bytes(taps: Tensor, matrix: int) -> int:
    """Of the matrices of all groups at one frequency."""
    return max(1, len(taps) * matrix)


def _blocks(frequencies: Tensor, each: int) -> tuple[Tensor, ...]:
    """Of about `BLOCK_BYTES`, none much smaller."""
    blocks = max(1, round(len(frequencies) * each / BLOCK_BYTES))
    return frequencies.split(max(1, -(-len(frequencies) // blocks)))


def _in_blocks(compute: Callable[[Tensor], Tensor], frequencies: Tensor, each: int, progress: Progress) -> Tensor:
    """(g, f, r) float64 on the host, block by block."""
    parts = []
    for part in _blocks(frequencies, each):
        parts.append(compute(part).double().cpu())
        progress(len(part) / len(frequencies))
    return torch.cat(parts, dim=1)
