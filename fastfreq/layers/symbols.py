"""A convolution layer as one small matrix per frequency: its taps, where they sit, and which frequencies differ."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastfreq.vocabulary.checks import check_finite_weight

from ._eager import outside_graphs
from ._weights import as_applied

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
TRANSPOSED = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
_KINDS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear,
)  # fmt: skip
AS_CIRCULAR = "taken as circular, as the layer does not pad: neither its own values nor a bound of them"


@dataclasses.dataclass(frozen=True, eq=False)
class Symbols:
    """A linear layer on a periodic grid in the normal form of `fastfreq_kernels.conv_symbols`.

    At the integer frequency k of `grid` the layer is, for each group g, the matrix
    A_g(k) = sum_j taps[g, j] exp(2 pi i <k, offsets[j] / grid>). A stride s splits the finer side into the s^d
    phases x[s m + p]: they are further channels, channel-major, on the grid of the coarser side.

    Attributes:
        taps: (g, t, a, b), output and input channels (and phases) of each group; keeps the weight's gradient. Of the
            weight's dtype where they are its entries; float64 where they are scaled or added up.
        offsets: (t, d) int64, all different modulo the grid; on the CPU, which reads them.
        grid: (n_1 .. n_d), periodic grid of the coarser side.
        stride: (s_1 .. s_d).
        transposed: whether the finer side is the output.
        frequencies: (f, d) int64, one of each set of frequencies that share their singular values.
        multiplicity: (f,) int64, how many frequencies of the grid share them.
        cells: (*grid) int64, the row of each frequency.
        exact: whether this periodic map has the singular values of the layer's own map. If not, they are bounded from
            above, unless the note is `AS_CIRCULAR`.
        note: what was done to the layer, for people.
        weight_shape: shape of the layer's weight.
        input_size: (d,) of the layer's input.
        dtype: of the layer's weight.
    """

    taps: Tensor
    offsets: Tensor
    grid: tuple[int, ...]
    stride: tuple[int, ...]
    transposed: bool
    frequencies: Tensor
    multiplicity: Tensor
    cells: Tensor
    exact: bool
    note: str
    weight_shape: tuple[int, ...]
    input_size: tuple[int, ...]
    dtype: torch.dtype

    @property
    def constant(self) -> bool:
        """Whether all frequencies share one matrix, as in a 1 x 1 kernel."""
        return len(self.frequencies) == 1


@outside_graphs
def conv_symbols_of(
    layer: nn.Module,
    *,
    input_size: Sequence[int],
    batch_norm: nn.Module | None = None,
    padding: str | None = None,
) -> Symbols:
    """Symbols of a convolution, a transposed one, or a linear layer.

    The layer is y[i] = sum_j W_j x[s i + dil j - p]. Circular padding is a periodic map already. A zero-padded layer
    is a part of the rows and columns of the periodic map on a grid enlarged by the padding (to a multiple of the
    stride), so that its i-th singular value is at most that of the periodic map. A transposed convolution is the
    adjoint of a convolution. Kernels larger than the grid wrap around it.

    Args:
        layer: Conv1d, 2d, 3d, ConvTranspose1d, 2d, 3d, or Linear.
        input_size: (d,) spatial size of the layer's input; () for Linear.
        batch_norm: one in evaluation mode to fold in: scales output channel o by gamma_o / sqrt(var_o + eps).
        padding: None for what the layer does, "circular" for the periodic map on its input's own size (for a
            transposed convolution: on stride times its input's size) whatever it pads with.

    Raises:
        ValueError: weights that are not finite, a size that the stride does not divide, a padding mode with no
            periodic counterpart, a wrong number of sides, a weight that something unknown makes at each call.
        TypeError: another kind of layer, or one without usable weights: lazy, quantised, complex.
    """
    if padding not in (None, "circular"):
        raise ValueError(f"expected `padding` to be None (what the layer does) or 'circular', got {padding!r}")
    weight = weight_of(layer)
    size = tuple(int(n) for n in input_size)
    if isinstance(layer, nn.Linear):
        taps = _scaled(weight, batch_norm, 0, 1)[None, None]
        return _symbols(taps, torch.zeros(1, 1, dtype=torch.int64), (1,), (1,), False, True, "", weight, ())
    assert isinstance(layer, Convolution)
    d = weight.ndim - 2
    if len(size) != d or any(n < 1 for n in size):
        raise ValueError(f"expected `input_size` of {d} positive sides for {type(layer).__name__}, got {size}")
    transposed = isinstance(layer, TRANSPOSED)
    scaled = _scaled(weight, batch_norm, 1 if transposed else 0, layer.groups)
    grid, before, exact, note = _periodic(layer, size, padding)
    taps, offsets = _taps(scaled, layer, before, grid)
    if transposed:  # the adjoint: A(k)^H has the transposed taps at the opposite offsets
        taps, offsets = taps.transpose(2, 3), -offsets
    stride = tuple(int(s) for s in layer.stride)
    return _symbols(taps, offsets, grid, stride, transposed, exact, note, weight, size)


def weight_of(layer: nn.Module) -> Tensor:
    """The weight that a convolution or linear layer applies; anything that does not apply it plainly is refused."""
    kind = type(layer).__name__
    if not isinstance(layer, Convolution | nn.Linear):
        raise TypeError(f"expected a convolution, a transposed convolution or a linear layer, got {kind}")
    if not any(_runs_as(type(layer), base) for base in _KINDS) or "forward" in vars(layer):
        raise TypeError(
            f"expected a layer whose forward pass is torch's own, {kind} has another, which may do more to its weight "
            "and input; use the plain layer with the weight that it applies"
        )
    weight: Any = as_applied(layer).weight
    if isinstance(weight, nn.parameter.UninitializedParameter):
        raise TypeError(f"expected a {kind} with weights, its own are not made yet; run one batch through it first")
    if not isinstance(weight, Tensor) or weight.is_quantized:
        raise TypeError(f"expected a {kind} with floating-point weights, got quantised ones; use the float model")
    if weight.is_complex():
        raise TypeError(f"expected real weights, got {weight.dtype}; the symmetry A(-k) = conj A(k) needs them real")
    check_finite_weight(weight)
    return weight


def _runs_as(kind: type, base: type) -> bool:
    own = (getattr(kind, name, None) for name in ("forward", "_conv_forward"))
    return all(a is b for a, b in zip(own, (getattr(base, n, None) for n in ("forward", "_conv_forward")), strict=True))


def _scaled(weight: Tensor, batch_norm: nn.Module | None, axis: int, groups: int) -> Tensor:
    """The weight with a batch norm's scale on its output channels, in float64 so that it is rounded nowhere."""
    if batch_norm is None:
        return weight
    if not isinstance(batch_norm, BatchNorm) or batch_norm.running_var is None:
        raise TypeError(f"expected a batch norm with running statistics to fold in, got {type(batch_norm).__name__}")
    gamma = 1.0 if batch_norm.weight is None else batch_norm.weight.double()
    scale = gamma / torch.sqrt(batch_norm.running_var.double() + batch_norm.eps)
    weight = weight.double()
    if axis == 0:
        return weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    # transposed: (in, out / groups, ...); input channels of group g meet output channels of group g
    per_group = scale.reshape(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1).reshape(weight.shape[:2])
    return weight * per_group.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))


def _periodic(
    layer: Any, size: tuple[int, ...], padding: str | None
) -> tuple[tuple[int, ...], tuple[int, ...], bool, str]:
    """Coarse grid, padding before each axis, whether the periodic map is the layer's own, and a note."""
    before, after = margins(layer)
    if layer.padding_mode == "circular":
        return _circular(layer, size, before, after, padding)
    if padding != "circular":
        return _zero_padded(layer, size, before, after)
    coarse = size if isinstance(layer, TRANSPOSED) else _coarse(layer, size)
    try:
        own = not any((*before, *after)) and _zero_padded(layer, size, before, after)[::2] == (coarse, True)
    except ValueError:  # no output at this size
        own = False
    return coarse, before, own, "" if own else AS_CIRCULAR


def _coarse(layer: Any, size: tuple[int, ...]) -> tuple[int, ...]:
    stride = layer.stride
    for n, s in zip(size, stride, strict=True):
        if n % s:
            raise ValueError(
                f"expected sides that the stride {tuple(stride)} divides for a periodic map, got {size}; "
                f"use {tuple(-(-n // s) * s for n, s in zip(size, stride, strict=True))}"
            )
    return tuple(n // s for n, s in zip(size, stride, strict=True))


def _circular(
    layer: Any, size: tuple[int, ...], before: tuple[int, ...], after: tuple[int, ...], padding: str | None
) -> tuple[tuple[int, ...], tuple[int, ...], bool, str]:
    """`_periodic` of a layer with circular padding of its own."""
    coarse = _coarse(layer, size)
    rows = _rows(size, layer.stride, layer.dilation, layer.kernel_size, before, after)
    if any(m > n for m, n in zip(rows, coarse, strict=True)):
        if padding == "circular":
            return coarse, before, False, AS_CIRCULAR
        raise ValueError(
            f"expected circular padding that gives at most {coarse} outputs, it gives {rows}: part of the output "
            "repeats; pass padding='circular' for the periodic map itself"
        )
    part = rows != coarse
    return coarse, before, not part, "upper bound: the layer gives a part of the periodic output" if part else ""


def _zero_padded(
    layer: Any, size: tuple[int, ...], before: tuple[int, ...], after: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...], bool, str]:
    """`_periodic` of a layer with zero padding, or none."""
    if layer.padding_mode != "zeros" and any((*before, *after)):
        raise ValueError(
            f"expected zero or circular padding, got padding_mode={layer.padding_mode!r}, which no periodic map "
            "bounds; pass padding='circular' to treat the layer as periodic"
        )
    stride, dilation, kernel = layer.stride, layer.dilation, layer.kernel_size
    transposed = isinstance(layer, TRANSPOSED)
    fine = tuple(
        (n - 1) * s - b - a + dil * (k - 1) + extra + 1
        for n, s, b, a, dil, k, extra in zip(
            size, stride, before, after, dilation, kernel, layer.output_padding, strict=True
        )
    ) if transposed else size  # fmt: skip
    rows = size if transposed else _rows(size, stride, dilation, kernel, before, after)
    if any(m < 1 for m in (*rows, *fine)):
        raise ValueError(f"expected an input larger than the kernel, {type(layer).__name__} has no output at {size}")
    grid, exact = [], True
    for n, m, s, b, dil, k in zip(fine, rows, stride, before, dilation, kernel, strict=True):
        last = (m - 1) * s - b + dil * (k - 1)  # the farthest pixel that an output sees
        beyond = max(b, last - (n - 1), 0)
        coarse = max(-(-(n + beyond) // s), m)
        grid.append(coarse)
        exact &= beyond == 0 and coarse * s == n and m == coarse
    if exact:
        return tuple(grid), before, True, ""
    enlarged = "x".join(str(n * s) for n, s in zip(grid, stride, strict=True))
    return tuple(grid), before, False, f"upper bound: zero padding, a part of the periodic map on {enlarged}"


def margins(layer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and after each axis."""
    if layer.padding == "valid":
        none = (0,) * len(layer.kernel_size)
        return none, none
    if layer.padding == "same":
        totals = [dil * (k - 1) for dil, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    return tuple(layer.padding), tuple(layer.padding)


def _rows(
    size: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    kernel: Sequence[int],
    before: Sequence[int],
    after: Sequence[int],
) -> tuple[int, ...]:
    """Output size of the convolution."""
    every = zip(size, stride, dilation, kernel, before, after, strict=True)
    return tuple((n + b + a - dil * (k - 1) - 1) // s + 1 for n, s, dil, k, b, a in every)


def _taps(weight: Tensor, layer: Any, before: Sequence[int], grid: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Taps (g, t, a, b s^d) of the convolution and their offsets; positions that agree modulo the grid are added up.

    Position dil j - p = s o + r is the offset o of phase r.
    """
    stride, sides = torch.tensor(layer.stride), torch.tensor(grid)
    positions = torch.cartesian_prod(*(torch.arange(k) for k in layer.kernel_size))
    positions = positions.reshape(-1, len(grid)) * torch.tensor(layer.dilation) - torch.tensor(before)
    offsets, index = torch.unique(
        torch.div(positions, stride, rounding_mode="floor") % sides, dim=0, return_inverse=True
    )
    phase = torch.zeros_like(index)
    for axis, s in enumerate(layer.stride):
        phase = phase * s + positions[:, axis] % s
    phases = math.prod(layer.stride)
    groups, rows, columns = layer.groups, weight.shape[0] // layer.groups, weight.shape[1]
    flat = weight.reshape(groups, rows, columns, -1)
    if len(positions) > len(torch.unique(index * phases + phase)):
        flat = flat.double()  # sums of float32 would round
    place = (index * phases + phase).to(weight.device, non_blocking=True)
    taps = flat.new_zeros(groups, rows, columns, len(offsets) * phases).index_add(3, place, flat)
    taps = taps.reshape(groups, rows, columns, len(offsets), phases).permute(0, 3, 1, 2, 4)
    return taps.reshape(groups, len(offsets), rows, columns * phases), offsets


def _symbols(
    taps: Tensor,
    offsets: Tensor,
    grid: tuple[int, ...],
    stride: tuple[int, ...],
    transposed: bool,
    exact: bool,
    note: str,
    weight: Tensor,
    input_size: tuple[int, ...],
) -> Symbols:
    frequencies, multiplicity, cells = distinct_frequencies(offsets, grid)
    return Symbols(
        taps=taps,
        offsets=offsets,
        grid=grid,
        stride=stride,
        transposed=transposed,
        frequencies=frequencies.to(taps.device, non_blocking=True),
        multiplicity=multiplicity,
        cells=cells,
        exact=exact,
        note=note,
        weight_shape=tuple(weight.shape),
        input_size=input_size,
        dtype=weight.dtype,
    )


def distinct_frequencies(offsets: Tensor, grid: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """One of each set of frequencies that share singular values, how many share them, and the row of each frequency.

    Real taps: k and -k do. And where all offsets differ by multiples of q along an axis (dilation, 1 x 1 kernels), k
    and k + n / gcd(q, n) do: their symbols differ by a phase.
    """
    periods = []
    for axis, n in enumerate(grid):
        q = 0
        for step in (offsets[:, axis] - offsets[0, axis]).tolist():
            q = math.gcd(q, step)
        periods.append(n // math.gcd(q, n))
    sides = torch.tensor(periods)
    every = torch.cartesian_prod(*(torch.arange(n) for n in periods)).reshape(-1, len(grid))
    strides = torch.tensor([math.prod(periods[axis + 1 :]) for axis in range(len(periods))])
    code = (every * strides).sum(dim=1)
    twin = ((-every % sides) * strides).sum(dim=1)
    rows, index = torch.unique(torch.minimum(code, twin), return_inverse=True)
    cells = index.reshape(periods).repeat(*(n // p for n, p in zip(grid, periods, strict=True)))
    return every[rows], torch.bincount(cells.reshape(-1), minlength=len(rows)), cells
