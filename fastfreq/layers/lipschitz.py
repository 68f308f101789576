"""An upper bound on the Lipschitz constant of a network, from the norms of its layers and how they are connected."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

from .discovery import FoundLayer, find_convolutions
from .spectral_norms import spectral_norm
from .symbols import BatchNorm, Convolution

# Lipschitz constants of element-wise functions with respect to L2
_ELEMENTWISE: dict[type, float] = {
    nn.ReLU: 1, nn.ReLU6: 1, nn.LeakyReLU: 1, nn.Identity: 1, nn.Dropout: 1, nn.Dropout2d: 1, nn.Flatten: 1,
    nn.Tanh: 1, nn.Sigmoid: 0.25, nn.Softplus: 1, nn.ELU: 1, nn.Hardtanh: 1, nn.Softmax: 1,
    nn.SiLU: 1.0998394, nn.GELU: 1.1289042, nn.Hardswish: 1.5,
}  # fmt: skip
_SHAPE = {
    "flatten",
    "view",
    "reshape",
    "permute",
    "transpose",
    "squeeze",
    "unsqueeze",
    "contiguous",
    "size",
    "dim",
    "shape",
}
_FUNCTIONS: dict[Any, float] = {
    F.relu: 1, torch.relu: 1, torch.flatten: 1, torch.tanh: 1, torch.sigmoid: 0.25, F.dropout: 1, F.silu: 1.0998394,
    F.gelu: 1.1289042, F.leaky_relu: 1,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class LipschitzBound:
    """An upper bound on ||f(x) - f(y)|| / ||x - y|| in L2 and the factor of every layer.

    Attributes:
        bound: of the whole network, from its input to its output.
        log10: its logarithm: bounds of deep networks leave the range of what is readable.
        layers: (name, kind, factor) in order of execution, factors above or below 1 only.
    """

    bound: float
    log10: float
    layers: tuple[tuple[str, str, float], ...]

    def table(self) -> list[dict[str, Any]]:
        """One row per layer: layer, kind, factor."""
        return [{"layer": name, "kind": kind, "factor": factor} for name, kind, factor in self.layers]


def lipschitz_bound(model: nn.Module, *, input_size: Sequence[int]) -> LipschitzBound:
    """Upper bound on the Lipschitz constant of a network in evaluation mode, with respect to L2 norms.

    The network is traced (torch.fx). Functions that follow each other multiply; branches that are added add up; what
    is concatenated adds up in squares. Convolutions count with their spectral norm (for zero padding the upper bound,
    so the product stays one), together with a batch norm that follows directly; a batch norm alone with
    max |gamma / sqrt(var + eps)|; max pooling with sqrt(ceil(kernel / stride)^d), average pooling with at most that
    over kernel^(d/2), element-wise functions with the maximum of their derivative.

    Args:
        model: any module that torch.fx traces and whose functions are known here.
        input_size: (c, height, width) of its images.

    Raises:
        ValueError: a model that cannot be traced, or a function without a known constant; the message names it.
    """
    found, _ = find_convolutions(model, tuple(input_size), linear=True)
    try:
        graph = fx.symbolic_trace(model)
    except Exception as error:
        raise ValueError(f"expected a model that torch.fx can trace, {type(model).__name__} raised: {error}") from error
    note_shapes(graph, tuple(input_size))
    walk = _Walk(dict(graph.named_modules()), {layer.name: layer for layer in found})
    for node in graph.graph.nodes:
        walk.visit(node)
    log = walk.output
    bound = math.exp(log) if log < 709 else math.inf
    return LipschitzBound(bound, log / math.log(10), tuple(walk.rows))


def note_shapes(graph: fx.GraphModule, input_size: tuple[int, ...]) -> None:
    """Run the graph once on zeros: `node.meta["tensor_meta"]` then has each result's shape."""
    example = next((p for p in graph.parameters() if p.is_floating_point()), torch.zeros(()))
    modes = {module: module.training for module in graph.modules()}
    graph.eval()
    with torch.no_grad():
        ShapeProp(graph).propagate(torch.zeros(1, *input_size, dtype=example.dtype, device=example.device))
    for module, training in modes.items():
        module.training = training


class _Walk:
    """Logarithms of Lipschitz constants from the network's input to each node, in order of execution."""

    def __init__(self, modules: dict[str, nn.Module], layers: dict[str, FoundLayer]) -> None:
        self.modules, self.layers = modules, layers
        self.logs: dict[fx.Node, float] = {}
        self.rows: list[tuple[str, str, float]] = []
        self.folded: set[fx.Node] = set()
        self.output = -math.inf

    def visit(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.logs[node] = 0.0
        elif node.op == "get_attr":
            self.logs[node] = -math.inf  # a constant
        elif node.op == "output":
            self.output = max(self.logs[n] for n in node.all_input_nodes)
        elif node.op == "call_module":
            name = str(node.target)
            factor = self._module(node, name, self.modules[name])
            if factor != 1:
                self.rows.append((name, type(self.modules[name]).__name__, factor))
            self.logs[node] = self.logs[node.all_input_nodes[0]] + _log(factor)
        else:
            arguments: Any = node.args[0] if node.target is torch.cat else node.args
            # as often as they are named: x + x is two branches
            self.logs[node] = _combine(node, [self.logs[a] for a in arguments if isinstance(a, fx.Node)])

    def _module(self, node: fx.Node, name: str, module: nn.Module) -> float:
        if not isinstance(module, Convolution | nn.Linear):
            return 1.0 if node in self.folded else _of_other_module(name, module, node)
        if name not in self.layers:
            raise ValueError(f"expected layers whose weight is their map, {name!r} overrides its forward")
        users = list(node.users)
        norm = None
        if len(users) == 1 and users[0].op == "call_module":
            following = self.modules[str(users[0].target)]
            if isinstance(following, BatchNorm):
                norm = following
                self.folded.add(users[0])
        with torch.no_grad():
            return float(spectral_norm(module, input_size=self.layers[name].input_size, batch_norm=norm))


def _log(factor: float) -> float:
    return math.log(factor) if factor > 0 else -math.inf


def _of_other_module(name: str, module: nn.Module, node: fx.Node) -> float:
    for kind, factor in _ELEMENTWISE.items():
        if type(module) is kind:
            return factor
    if isinstance(module, BatchNorm):
        variance = module.running_var
        if variance is None:
            raise ValueError(f"expected batch norm with running statistics, {name!r} has none: it is not Lipschitz")
        gamma = torch.ones_like(variance) if module.weight is None else module.weight.detach()
        return float((gamma / torch.sqrt(variance + module.eps)).abs().max())
    if isinstance(module, nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d):
        return math.sqrt(_overlap(module))
    if isinstance(module, nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d):
        # sqrt(largest column sum x largest row sum); borders that leave padding out divide by less
        whole = getattr(module, "divisor_override", None) is None and (
            module.count_include_pad or not any(_pads(module))
        )
        return math.sqrt(_overlap(module) / math.prod(_sides(module, module.kernel_size))) if whole else math.inf
    if isinstance(module, nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d | nn.AdaptiveAvgPool3d) and _shrinks(node):
        return 1.0  # a pixel in two windows has at most half of the weight in each
    raise ValueError(
        f"expected functions with a known Lipschitz constant, {name!r} is {type(module).__name__}; bound the parts "
        "before and after it"
    )


def _sides(module: Any, value: Any) -> tuple[int, ...]:
    d = int(type(module).__name__[-2])
    return tuple(value) if isinstance(value, tuple) else (value,) * d


def _pads(module: Any) -> tuple[int, ...]:
    return _sides(module, module.padding)


def _shrinks(node: fx.Node) -> bool:
    before, after = node.all_input_nodes[0].meta["tensor_meta"].shape, node.meta["tensor_meta"].shape
    return all(n >= m for n, m in zip(before, after, strict=True))


def _overlap(module: Any) -> int:
    """How many windows a pixel can be in."""
    kernel, stride = _sides(module, module.kernel_size), _sides(module, module.stride)
    return math.prod(-(-k // s) for k, s in zip(kernel, stride, strict=True))


def _combine(node: fx.Node, inputs: list[float]) -> float:
    """Logarithm of the constant of a function's result from those of its arguments."""
    target = node.target
    if target in (operator.add, operator.iadd, torch.add, operator.sub, torch.sub) or target in ("add", "add_"):
        return _sum(inputs)
    if target in (operator.mul, operator.truediv) and len(inputs) == 1:
        number = next(a for a in node.args if not isinstance(a, fx.Node))
        return inputs[0] + _log(abs(float(number)) if target is operator.mul else 1 / abs(float(number)))  # pyright: ignore[reportArgumentType]
    if target is torch.cat:
        return _sum([2 * x for x in inputs]) / 2
    if target in _FUNCTIONS:
        return inputs[0] + _log(_FUNCTIONS[target])
    if target in _SHAPE or target in (operator.getitem, getattr):
        return inputs[0]
    if target in ("mean", torch.mean, "relu", "relu_"):  # a mean of n values is 1 / sqrt(n)-Lipschitz
        return inputs[0]
    if target is F.adaptive_avg_pool2d and _shrinks(node):
        return inputs[0]
    raise ValueError(
        f"expected functions with a known Lipschitz constant, the model calls {target}; use modules, or bound the "
        "parts before and after it"
    )


def _sum(logs: list[float]) -> float:
    largest = max(logs)
    return largest if largest == -math.inf else largest + math.log(sum(math.exp(x - largest) for x in logs))
