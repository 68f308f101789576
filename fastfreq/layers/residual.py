"""Residual blocks of a network as linear maps: the branch, and the branch plus what it is added to."""

from __future__ import annotations

import copy
import dataclasses
import math
import operator
import os
import threading
from collections.abc import Callable
from typing import Any

import fastfreq_kernels as kernels
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

from fastfreq.engine.arithmetic import float32
from fastfreq.engine.copies import TRACING, private_copy

from ._latent import symbol_matrices
from ._weights import as_applied, other_hooks
from .activations import half_plane
from .layer_singular_values import LayerSingularValues
from .symbols import BatchNorm, conv_symbols_of

_ADD = (operator.add, operator.iadd, torch.add, "add", "add_")
_POINTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ELU, nn.Tanh, nn.Hardswish, nn.Identity, nn.Dropout,
    nn.Dropout2d,
)  # fmt: skip
_POINTWISE_CALLS = (F.relu, torch.relu, F.gelu, F.silu, F.dropout, "relu", "relu_")
_BLOCK = 64 << 20
Chain = list[Any]


@dataclasses.dataclass(frozen=True)
class Block:
    """A sum of two chains of linear layers that begin at one place.

    Attributes:
        name: what the names of the branch's layers have in common.
        branch: its convolutions and batch norms in order, activations left out.
        shortcut: those of the other way; empty for the identity.
        after: name of the last convolution of the branch.
        input_size: (d,) where both begin.
        channels: there.
    """

    name: str
    branch: Chain
    shortcut: Chain
    after: str
    input_size: tuple[int, ...]
    channels: int


class _Tracer(fx.Tracer):
    """Follows its own thread alone: while it traces, the forward passes of all threads come by here."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)


def find_blocks(model: nn.Module, input_size: tuple[int, ...]) -> tuple[list[Block], list[tuple[str, str, str]]]:
    """Residual blocks in order of execution, and sums that are none with the reason.

    A block is a sum of two ways from one place through convolutions, batch norms and element-wise functions alone, at
    least one convolution among them.

    Raises:
        ValueError: a model that torch.fx cannot trace.
    """
    own = private_copy(model)
    try:
        with TRACING:
            tracer = _Tracer()
            graph = fx.GraphModule(own, tracer.trace(own))
    except Exception as error:
        raise ValueError(
            f"expected a model that torch.fx can trace, to find its sums, {type(model).__name__} raised: {error}; pass "
            "residual=False for its convolutions alone"
        ) from error
    _note_shapes(graph, input_size)
    modules: dict[str, nn.Module] = {**dict(graph.named_modules())}
    found: list[Block] = []
    left: list[tuple[str, str, str]] = []
    for node in graph.graph.nodes:
        if node.target not in _ADD or len(node.all_input_nodes) != 2:
            continue
        if len(node.args) + len(node.kwargs) != 2:
            left.append((node.name, "sum", f"it has other arguments than what it adds: {dict(node.kwargs)}"))
            continue
        ways = [_way_back(one, modules) for one in node.all_input_nodes]
        start = next((n for n in ways[0] if n in ways[1]), None)
        if start is None:
            stopped = " and ".join(sorted({str(way[-1].target) for way in ways}))
            left.append((node.name, "sum", f"its two ways do not meet behind convolutions and batch norm: {stopped}"))
            continue
        first, second = (way[: way.index(start)][::-1] for way in ways)
        if _convolutions(second, modules) > _convolutions(first, modules):
            first, second = second, first
        if _convolutions(first, modules):
            found.append(_block(first, second, start, modules))
    return found, left


def _note_shapes(graph: fx.GraphModule, input_size: tuple[int, ...]) -> None:
    """Run the graph once on zeros: `node.meta["tensor_meta"]` then has each result's shape."""
    example = next((p for p in graph.parameters() if p.is_floating_point()), torch.zeros(()))
    with torch.no_grad():
        ShapeProp(graph).propagate(torch.zeros(1, *input_size, dtype=example.dtype, device=example.device))


def _way_back(node: fx.Node, modules: dict[str, nn.Module]) -> list[fx.Node]:
    """From a node back through what is linear or element-wise; the last node is where that ends."""
    way = [node]
    while _passes(way[-1], modules):
        way.append(way[-1].all_input_nodes[0])
    return way


def _passes(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        module = modules[str(node.target)]
        known = isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, *BatchNorm.__args__, *_POINTWISE))
        return known and not other_hooks(module)
    return node.op in ("call_function", "call_method") and node.target in _POINTWISE_CALLS


def _linear(nodes: list[fx.Node], modules: dict[str, nn.Module]) -> list[tuple[str, nn.Module]]:
    """Names and modules, one that is called twice twice."""
    every = [(str(n.target), modules[str(n.target)]) for n in nodes if n.op == "call_module"]
    return [(name, module) for name, module in every if not isinstance(module, _POINTWISE)]


def _convolutions(nodes: list[fx.Node], modules: dict[str, nn.Module]) -> int:
    return sum(not isinstance(module, BatchNorm) for _, module in _linear(nodes, modules))


def _block(first: list[fx.Node], second: list[fx.Node], start: fx.Node, modules: dict[str, nn.Module]) -> Block:
    branch, shortcut = _linear(first, modules), _linear(second, modules)
    convolutions = [name for name, module in branch if not isinstance(module, BatchNorm)]
    name = os.path.commonprefix([f"{name}." for name in convolutions]).rpartition(".")[0]
    shape = start.meta["tensor_meta"].shape
    return Block(
        name=name if len(convolutions) > 1 and name else f"{convolutions[-1]} block",
        branch=[as_applied(module) for _, module in branch],
        shortcut=[as_applied(module) for _, module in shortcut],
        after=convolutions[-1],
        input_size=tuple(shape[2:]),
        channels=int(shape[1]),
    )


@float32("ieee")
def block_spectra(block: Block) -> dict[str, LayerSingularValues]:
    """Singular values of the branch, and of the branch plus its shortcut, as linear maps on a circular grid.

    Batch norm is folded in, element-wise functions are taken as the identity: what the block does to small signals
    about an operating point that leaves every unit on. At frequency k of the output's grid the map is a matrix of
    c_out x s^d c_in, for the s^d frequencies of the input that its stride folds onto k.

    Raises:
        ValueError: a size that the block's strides do not divide, another shape on both ways.
    """
    strides = [_total_stride(chain, len(block.input_size)) for chain in (block.branch, block.shortcut)]
    if strides[0] != strides[1]:
        raise ValueError(f"expected one stride on both ways, got {strides[0]} and {strides[1]}")
    if any(n % s for n, s in zip(block.input_size, strides[0], strict=True)):
        raise ValueError(f"expected sides that the stride {strides[0]} divides, got {block.input_size}")
    grid = tuple(n // s for n, s in zip(block.input_size, strides[0], strict=True))
    frequencies, multiplicity = half_plane(grid)
    outputs = _out_channels(block.branch, block.channels)
    columns = block.channels * math.prod(strides[0])
    values = np.zeros((2, len(frequencies), min(outputs, columns)))
    step = max(1, _BLOCK // (16 * max(outputs, block.channels) * columns))
    with torch.no_grad():
        for start in range(0, len(frequencies), step):
            part = torch.from_numpy(frequencies[start : start + step])
            branch = _chain_matrices(block.branch, block, strides[0], part)
            both = branch + _chain_matrices(block.shortcut, block, strides[0], part)
            for k, matrices in enumerate((branch, both)):
                values[k, start : start + step] = _values(matrices).cpu().numpy()
    kind = "branch + identity" if not block.shortcut else "branch + shortcut"
    return {
        f"{block.name}: {name}": _spectrum(
            f"{block.name}: {name}", block, grid, frequencies, multiplicity, own, columns
        )
        for name, own in zip(("branch", kind), values, strict=True)
    }


def _total_stride(chain: Chain, dimensions: int) -> tuple[int, ...]:
    strides = [module.stride for module in chain if not isinstance(module, BatchNorm)]
    return tuple(math.prod(s[axis] for s in strides) for axis in range(dimensions))


def _out_channels(chain: Chain, channels: int) -> int:
    for module in chain:
        channels = channels if isinstance(module, BatchNorm) else module.weight.shape[0]
    return channels


def _chain_matrices(chain: Chain, block: Block, stride: tuple[int, ...], frequencies: Tensor) -> Tensor:
    """(f, c_out, c_in s^d) of a chain at frequencies of the output's grid; columns by channel, then alias.

    With orthonormal transforms a sample at every s-th pixel is y^(k) = s^(-d/2) times the sum over the aliases q of k.
    """
    d = len(block.input_size)
    device = next((p.device for module in chain for p in module.parameters()), torch.device("cpu"))
    grid = torch.tensor(block.input_size)
    coarse = grid // torch.tensor(stride)
    aliases = torch.cartesian_prod(*(torch.arange(s) for s in stride)).reshape(-1, d)
    at = (frequencies[:, None] + aliases * coarse).to(device)  # (f, s^d, d) frequencies of the input
    shape = (len(frequencies), *stride)
    signal = torch.eye(block.channels, dtype=torch.complex128, device=device).expand(*shape, -1, -1)
    signal = _own_alias(signal, shape)
    size = block.input_size
    for module in chain:
        if isinstance(module, BatchNorm):
            signal = signal * _scale(module)[:, None]
            continue
        own = tuple(module.stride)
        left = [signal.shape[1 + axis] for axis in range(d)]
        where = at.reshape(len(frequencies), *stride, d)[(slice(None), *[slice(n) for n in left])].reshape(-1, d)
        matrices = _layer_matrices(module, size, where).reshape(len(frequencies), *left, -1, signal.shape[-2])
        signal = matrices @ signal
        if math.prod(own) > 1:
            signal = _folded(signal, own) / math.sqrt(math.prod(own))
            size = tuple(n // s for n, s in zip(size, own, strict=True))
    return signal.reshape(len(frequencies), signal.shape[-2], signal.shape[-1])


def _own_alias(signal: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(f, *s, c, c s^d): at each alias the identity in the columns of that alias, zero in the others."""
    count, channels = math.prod(shape[1:]), signal.shape[-1]
    out = signal.new_zeros(shape[0], count, channels, channels, count)
    index = torch.arange(count)
    out[:, index, :, :, index] = signal.reshape(shape[0], count, channels, channels).transpose(0, 1)
    return out.reshape(*shape, channels, channels * count)


def _folded(signal: Tensor, stride: tuple[int, ...]) -> Tensor:
    """Sum over the aliases that a stride s makes equal: alias j of S becomes j mod S / s."""
    for axis, s in enumerate(stride, start=1):
        signal = signal.unflatten(axis, (s, signal.shape[axis] // s)).sum(dim=axis)
    return signal


def _layer_matrices(module: Any, size: tuple[int, ...], frequencies: Tensor) -> Tensor:
    """(f, c_out, c_in) of a convolution without its stride, groups as blocks."""
    plain = copy.copy(module)
    plain.stride = (1,) * len(size)
    matrices = symbol_matrices(conv_symbols_of(plain, input_size=size, padding="circular"), frequencies)
    if len(matrices) == 1:
        return matrices[0]
    groups, count, rows, columns = matrices.shape
    whole = matrices.new_zeros(count, groups, rows, groups, columns)
    index = torch.arange(groups)
    whole[:, index, :, index] = matrices
    return whole.reshape(count, groups * rows, groups * columns)


def _scale(norm: Any) -> Tensor:
    if norm.running_var is None:
        raise ValueError("expected a batch norm with running statistics to fold in, got one without")
    gamma = 1.0 if norm.weight is None else norm.weight.double()
    return (gamma / torch.sqrt(norm.running_var.double() + norm.eps)).to(torch.complex128)


def _values(matrices: Tensor) -> Tensor:
    """(f, r) singular values within 1e-7 of the largest, from the smaller Gram matrix."""
    gram = matrices @ matrices.mH if matrices.shape[-2] <= matrices.shape[-1] else matrices.mH @ matrices
    packed = gram.real.tril() + gram.imag.tril(-1).mT
    return kernels.hermitian_eigenvalues(packed).clamp_min(0).sqrt()


def _spectrum(
    name: str,
    block: Block,
    grid: tuple[int, ...],
    frequencies: NDArray[np.int64],
    multiplicity: NDArray[np.int64],
    values: NDArray[np.float64],
    columns: int,
) -> LayerSingularValues:
    sides = np.asarray(grid)
    cells = np.zeros(grid, dtype=np.int64)
    for k in (frequencies, -frequencies):
        cells[tuple((k % sides).T)] = np.arange(len(frequencies))
    return LayerSingularValues(
        name=name,
        layer_type="residual block",
        weight_shape=(_out_channels(block.branch, block.channels), columns),
        input_size=block.input_size,
        grid=grid,
        frequencies=frequencies % sides,
        cells=cells,
        multiplicity=multiplicity,
        distinct=values,
        accuracy="high",
        exact=False,
        note="linear part of the block, taken as circular, element-wise functions as the identity",
    )
