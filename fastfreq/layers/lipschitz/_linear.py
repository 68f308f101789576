"""Norms of linear operations: of those with entries of one sign from sums, of matrices and convolutions exactly."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from fastfreq.layers._values import distinct_values
from fastfreq.layers.symbols import conv_symbols_of

from ._call import Call, UnboundedError, copies, log_of, matrix_norm

_ALLOWANCE = 1 + 1e-6  # singular values of accuracy "high" are right to 1e-7, weights made in float32 too
_PLAIN: dict[tuple[int, bool], Any] = {
    (1, False): nn.Conv1d, (2, False): nn.Conv2d, (3, False): nn.Conv3d,
    (1, True): nn.ConvTranspose1d, (2, True): nn.ConvTranspose2d, (3, True): nn.ConvTranspose3d,
}  # fmt: skip


def one_sign(call: Call) -> float:
    """Copies, selections, sums and means: sqrt(largest row sum x largest column sum) of |A|, the Schur test.

    The operation itself, with the arguments that it has, gives the sums: of ones, and by its adjoint. For selections,
    means and windows that do not overlap this is the norm.
    """
    name = call.op._schema.arguments[0].name
    log = call.only(name, shapes="other")
    x = call.args[name]
    with torch.enable_grad():
        ones = torch.ones(x.shape, dtype=torch.float64, device=x.device, requires_grad=True)
        out = call.run(**{name: ones})
        if not isinstance(out, Tensor):
            raise UnboundedError("it returns several tensors")
        (columns,) = torch.autograd.grad(out.sum(), ones)
    with torch.no_grad():
        rows = out - call.run(**{name: torch.zeros_like(ones)})
    if not rows.numel() or not columns.numel():
        return log
    return log + log_of(math.sqrt(float(rows.abs().max()) * float(columns.abs().max())))


def identity(call: Call) -> float:
    """The same elements in another shape."""
    return call.only(call.op._schema.arguments[0].name)


def parts(call: Call) -> list[float]:
    """Pieces of a tensor, each of them a restriction."""
    log = call.only(call.op._schema.arguments[0].name)
    return [log] * len(call.result)


def times(call: Call) -> float:
    """Product with a constant, element by element."""
    if all(log is not None for key, log in call.logs.items() if key in ("self", "other")):
        raise UnboundedError(
            "a product of two tensors that both depend on the image (a gate, attention) has no Lipschitz constant "
            "where they are unbounded"
        )
    name, constant = ("self", "other") if call.logs["self"] is not None else ("other", "self")
    return call.logs[name] + _diagonal(call, name, _constant(call.args[constant]))


def over(call: Call) -> float:
    """Quotient by a constant."""
    if call.args.get("rounding_mode") is not None:
        raise UnboundedError("it rounds, which jumps")
    if call.logs["other"] is not None:
        raise UnboundedError(
            "a quotient by a tensor that depends on the image has no constant where that comes near zero"
        )
    return call.only("self") + _diagonal(call, "self", 1 / _constant(call.args["other"]))


def _constant(value: Any) -> Tensor:
    """In float64 from the start: torch would make a number float32."""
    if isinstance(value, complex) or (isinstance(value, Tensor) and value.is_complex()):
        raise UnboundedError("its constant is complex")
    return value.detach().double() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def _diagonal(call: Call, name: str, constant: Tensor) -> float:
    """Logarithm of the norm: an element that is broadcast meets several constants."""
    x = call.args[name]
    squares = constant.square().to(call.result.device).expand(call.result.shape)
    if not squares.numel():
        return 0.0
    return log_of(math.sqrt(float(squares.sum_to_size(x.shape).max()))) if isinstance(x, Tensor) else 0.0


def scaled_sum(first: str, second: str) -> Any:
    """The sum `first` + alpha `second`, either of them a constant or not."""

    def bound(call: Call) -> list[float]:
        logs = []
        for name, factor in ((first, 1.0), (second, float(call.args["alpha"]))):
            if call.logs[name] is not None:
                logs.append(call.logs[name] + log_of(abs(factor)) + copies(call.args[name], call.result))
        return logs

    return bound


def product(call: Call) -> float:
    """A matrix product with one constant factor, on either side."""
    names = [a.name for a in call.op._schema.arguments if a.name in ("self", "other", "mat2")]
    left, right = names
    if call.logs[left] is not None and call.logs[right] is not None:
        raise UnboundedError(
            "a product of two tensors that both depend on the image (attention) has no Lipschitz constant"
        )
    name, constant = (left, right) if call.logs[left] is not None else (right, left)
    matrix, x = call.args[constant].detach(), call.args[name]
    if matrix.ndim == 1:
        matrix = matrix[:, None] if name == left else matrix[None]
    if matrix.ndim > 2 and (x.ndim != matrix.ndim or x.shape[:-2] != matrix.shape[:-2]):
        raise UnboundedError("it multiplies by a batch of matrices that is broadcast")
    norms = [matrix_norm(one) for one in matrix.reshape(-1, *matrix.shape[-2:])]
    return call.logs[name] + log_of(max(norms, default=0.0))


def affine(call: Call) -> float:
    """Beta times a constant plus alpha times a tensor times a matrix."""
    log = call.only("mat1")
    return log + log_of(abs(float(call.args["alpha"])) * matrix_norm(call.args["mat2"]))


def linear(call: Call) -> float:
    """A linear layer, with the batch norm after it."""
    weight = call.args["weight"].detach().double()
    weight = weight if weight.ndim == 2 else weight[None]
    if call.scale is not None:
        weight = call.scale[:, None] * weight
    return call.only("input") + log_of(matrix_norm(weight) * _ALLOWANCE)


def convolution(call: Call) -> float:
    """A convolution with its spectral norm, or an upper bound of it where it pads with zeros."""
    log = call.only("input")
    weight, x, args = call.args["weight"].detach().double(), call.args["input"], call.args
    d = weight.ndim - 2
    if x.ndim != d + 2 or (d, False) not in _PLAIN:
        raise UnboundedError(f"its input has shape {tuple(x.shape)}, a batch is expected")
    transposed = "transpose" in call.name or bool(args.get("transposed"))
    groups = int(args["groups"])
    if call.scale is not None:
        weight = _scaled(weight, call.scale, groups, transposed)
    options: dict[str, Any] = {key: args[key] for key in ("stride", "dilation", "padding")}
    options = {key: value if isinstance(value, str) else _each(value, d) for key, value in options.items()}
    if transposed:
        options["output_padding"] = _each(args["output_padding"], d)
    size = tuple(x.shape[2:])
    if call.periodic is not None:
        options |= {"padding": call.periodic, "padding_mode": "circular"}
        size = tuple(n - 2 * p for n, p in zip(size, call.periodic, strict=True))
    outputs, inputs = weight.shape[0], weight.shape[1] * groups
    if transposed:
        outputs, inputs = inputs, outputs
    layer = _PLAIN[d, transposed](
        inputs, outputs, tuple(weight.shape[2:]), groups=groups, bias=False, device="meta", **options
    )
    layer.weight = nn.Parameter(weight, requires_grad=False)
    try:
        values = distinct_values(conv_symbols_of(layer, input_size=size), "high")
    except (ValueError, TypeError) as error:
        raise UnboundedError(str(error)) from error
    return log + log_of(float(values.max()) * _ALLOWANCE)


def _each(value: Any, d: int) -> tuple[int, ...]:
    every = tuple(int(v) for v in value)
    return every * d if len(every) == 1 else every


def _scaled(weight: Tensor, scale: Tensor, groups: int, transposed: bool) -> Tensor:
    rest = [1] * (weight.ndim - 2)
    if not transposed:
        return weight * scale.reshape(-1, 1, *rest)
    per_group = scale.reshape(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1)
    return weight * per_group.reshape(*weight.shape[:2], *rest)
