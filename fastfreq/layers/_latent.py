"""The input of a convolution as the vectors at each frequency that its symbols multiply, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import fastfreq_kernels as kernels
import torch
from torch import Tensor, nn

from .cyclic import CyclicConv
from .symbols import Symbols, conv_symbols_of


def layer_symbols(
    layer: nn.Module, input_size: Sequence[int], *, batch_norm: nn.Module | None = None, padding: str | None = None
) -> Symbols:
    """`conv_symbols_of`, for a CyclicConv with its pooling too, in float64."""
    if isinstance(layer, CyclicConv):
        return conv_symbols_of(layer.effective_convolution(), input_size=layer.size, padding="circular")
    return conv_symbols_of(layer, input_size=input_size, batch_norm=batch_norm, padding=padding)


def symbol_matrices(symbols: Symbols, frequencies: Tensor) -> Tensor:
    """(g, f, a, b) complex128 matrices A_g(k)."""
    with torch.no_grad():
        return kernels.conv_symbols(symbols.taps.double(), symbols.offsets, frequencies, grid=symbols.grid)


def to_channels(x: Tensor, symbols: Symbols) -> Tensor:
    """Input (n, c, *size) as (n, g b, *grid): padded with the zeros of the layer, its stride's phases as channels.

    The layer then is y^(k) = A(k) x^(k) at every frequency k of the grid, with x^ the DFT of this.
    """
    d = len(symbols.grid)
    stride = (1,) * d if symbols.transposed else symbols.stride
    margins = [s * m - n for s, m, n in zip(stride, symbols.grid, x.shape[2:], strict=True)]
    if any(margin < 0 for margin in margins):
        raise ValueError(f"expected an input of at most {symbols.grid} times the stride, got {tuple(x.shape[2:])}")
    if any(margins):
        x = nn.functional.pad(x, [side for margin in reversed(margins) for side in (0, margin)])
    if math.prod(stride) == 1:
        return x
    split = [part for m, s in zip(symbols.grid, stride, strict=True) for part in (m, s)]
    x = x.reshape(*x.shape[:2], *split)
    coarse, phases = [2 + 2 * axis for axis in range(d)], [3 + 2 * axis for axis in range(d)]
    return x.permute(0, 1, *phases, *coarse).reshape(len(x), -1, *symbols.grid)


def from_channels(channels: Tensor, symbols: Symbols, shape: Sequence[int]) -> Tensor:
    """The image (n, c, *size) of `shape` that `to_channels` took apart; what lies beyond it is dropped."""
    if symbols.transposed:
        return channels
    d = len(symbols.grid)
    x = channels.reshape(shape[0], shape[1], *symbols.stride, *symbols.grid)
    x = x.permute(0, 1, *[axis for i in range(d) for axis in (2 + d + i, 2 + i)])
    fine = [m * s for m, s in zip(symbols.grid, symbols.stride, strict=True)]
    return x.reshape(shape[0], shape[1], *fine)[(..., *[slice(n) for n in shape[2:]])]


def wave(frequency: Sequence[int], grid: Sequence[int], like: Tensor) -> Tensor:
    """(*grid) exp(2 pi i <k, p> / n) / sqrt(number of pixels), complex128."""
    angle = torch.zeros((), dtype=torch.float64, device=like.device)
    for axis, (k, n) in enumerate(zip(frequency, grid, strict=True)):
        turns = (k * torch.arange(n, device=like.device) % n).double() / n  # modulo n in integers: large k stay exact
        angle = angle + turns.reshape(-1, *[1] * (len(grid) - 1 - axis))
    return torch.polar(torch.full_like(angle, 1 / math.sqrt(math.prod(grid))), 2 * math.pi * angle)
