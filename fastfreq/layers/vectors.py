"""Left and right singular vectors of a convolution at each frequency, and the images that they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import fastfreq_kernels as kernels
import torch
from torch import Tensor, nn

from fastfreq.engine.arithmetic import float32

from ._gram_vectors import leading_triples
from .symbols import Symbols, conv_symbols_of

_BLOCK_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True, eq=False)
class SingularVectors:
    """The k largest singular triples of a layer at each distinct frequency.

    Attributes:
        frequencies: (f, d) integer frequencies on `grid`, one of each set that shares its singular values.
        values: (f, k) singular values, descending, float64.
        left: (f, k, c_out) unit vectors of the output side, complex128.
        right: (f, k, c_in) unit vectors of the input side. The finer side (the input, or the output of a transposed
            convolution) has s^d phases per channel, channel-major.
        grid: periodic grid of the coarser side.
        stride: of the layer.
        transposed: whether the finer side is the output.
        exact: as in `Symbols`.
        note: as in `Symbols`.
    """

    frequencies: Tensor
    values: Tensor
    left: Tensor
    right: Tensor
    grid: tuple[int, ...]
    stride: tuple[int, ...]
    transposed: bool
    exact: bool
    note: str

    def right_image(self, row: int, index: int) -> Tensor:
        """(c_in, *size) complex input of norm 1 that the layer maps to values[row, index] times `left_image`.

        x[s m + p] = v_p exp(2 pi i <k, m> / grid) / sqrt(prod grid). Its real part is a real input whose image is the
        real part of the output; at a frequency that is not its own twin both have norm 1 / sqrt(2).
        """
        return self._image(self.right[row, index], row, () if self.transposed else self.stride)

    def left_image(self, row: int, index: int) -> Tensor:
        """(c_out, *size) complex output of norm 1, see `right_image`."""
        return self._image(self.left[row, index], row, self.stride if self.transposed else ())

    def _image(self, vector: Tensor, row: int, stride: tuple[int, ...]) -> Tensor:
        wave = torch.ones((), dtype=torch.complex128)
        for n, k in zip(self.grid, self.frequencies[row].tolist(), strict=True):
            angle = 2 * torch.pi * (torch.arange(n) * k % n).double() / n
            wave = wave[..., None] * torch.polar(torch.ones_like(angle), angle)
        wave = wave / wave.numel() ** 0.5
        d = len(self.grid)
        stride = stride or (1,) * d
        phases = vector.reshape(-1, *stride)  # (c, s_1 .. s_d)
        product = phases.reshape(len(phases), *(x for s in stride for x in (1, s))) * wave.reshape(
            1, *(x for n in self.grid for x in (n, 1))
        )
        return product.reshape(len(phases), *(n * s for n, s in zip(self.grid, stride, strict=True)))


@float32("ieee")
def singular_vectors(
    layer: nn.Module, *, input_size: Sequence[int], k: int = 8, padding: str | None = None
) -> SingularVectors:
    """The k largest singular triples of a convolution at every distinct frequency, by LAPACK in complex128.

    On a GPU from eigenvectors of Gram matrices in float64, where the k-th value is above a hundredth of the first;
    vectors are then orthogonal to 1e-11.

    Args:
        layer: a convolution, transposed convolution or linear layer.
        input_size: (d,) spatial size of its input.
        k: triples per frequency, at most the smaller side of its matrices times the groups.
        padding: None for what the layer does, "circular" for the periodic map on its input's own size.

    Raises:
        ValueError: `k` below 1 or above what there is; otherwise as `singular_values`.
        TypeError: as `singular_values`.
    """
    with torch.no_grad():
        symbols = conv_symbols_of(layer, input_size=input_size, padding=padding)
        taps = symbols.taps.double()
        groups, _, a, b = taps.shape
        if not 1 <= k <= groups * min(a, b):
            raise ValueError(f"expected `k` from 1 to {groups * min(a, b)}, the values at each frequency, got {k}")
        step = max(1, _BLOCK_BYTES // (16 * groups * a * b))
        parts = [_triples(taps, symbols, part, k) for part in symbols.frequencies.split(step)]
    values, left, right = (torch.cat(each).cpu() for each in zip(*parts, strict=True))
    return SingularVectors(
        frequencies=symbols.frequencies.cpu(), values=values, left=left, right=right, grid=symbols.grid,
        stride=symbols.stride, transposed=symbols.transposed, exact=symbols.exact, note=symbols.note,
    )  # fmt: skip


def _triples(taps: Tensor, symbols: Symbols, frequencies: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """(f, k) values and the vectors, of all groups together."""
    groups, _, a, b = taps.shape
    matrices = kernels.conv_symbols(taps, symbols.offsets, frequencies, grid=symbols.grid)
    each = min(k, min(a, b))
    u, s, vh = leading_triples(matrices, each)
    values, order = s.transpose(0, 1).reshape(len(frequencies), -1).sort(dim=1, descending=True, stable=True)
    order = order[:, :k]
    row = torch.arange(len(frequencies), device=taps.device)[:, None]
    left = u.new_zeros(len(frequencies), k, groups, a)
    right = u.new_zeros(len(frequencies), k, groups, b)
    group, index = order // each, order % each
    place = torch.arange(k, device=taps.device)[None]
    left[row, place, group] = u[group, row, :, index]
    right[row, place, group] = vh[group, row, index].conj()
    return values[:, :k], left.flatten(2), right.flatten(2)
