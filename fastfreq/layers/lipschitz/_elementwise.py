"""The largest slopes of element-wise functions, in closed form, for any of their arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ._call import UnboundedError

_SELU = 1.0507009873554805 * 1.6732632423543772
# at x = sqrt(2): Phi(x) + x phi(x)
_GELU = 0.5 * (1 + math.erf(1.0)) + math.exp(-1.0) / math.sqrt(math.pi)
# where the second derivative vanishes, found numerically and rounded up
_GELU_TANH, _SILU, _MISH = 1.1289930687, 1.0998393202, 1.0884981613
_FLOAT = 1 + 2.0**-23  # torch keeps 1 / alpha and 1 / 6 in float32, in networks of float64 too
Slope = Callable[[dict[str, Any]], float]


def _most(a: float, b: float) -> float:
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)


def _elu(args: dict[str, Any]) -> float:
    alpha, scale, inner = (float(args[name]) for name in ("alpha", "scale", "input_scale"))
    if not inner >= 0:
        raise UnboundedError(f"ELU with `input_scale`={inner:g} grows like an exponential")
    return _most(abs(scale), abs(alpha * scale * inner))


def _celu(args: dict[str, Any]) -> float:
    if not float(args["alpha"]) > 0:
        raise UnboundedError(f"CELU with `alpha`={args['alpha']} grows like an exponential")
    return _FLOAT


def _gelu(args: dict[str, Any]) -> float:
    return {"none": _GELU, "tanh": _GELU_TANH}[args["approximate"]]


def _softplus(args: dict[str, Any]) -> float:
    if not float(args["beta"]) > 0 or not float(args["threshold"]) >= 15:
        raise UnboundedError(
            f"softplus with beta={args['beta']} and threshold={args['threshold']} jumps where it becomes the identity; "
            "pass a positive `beta` and a `threshold` of at least 15"
        )
    return 1.0


def _threshold(args: dict[str, Any]) -> float:
    if float(args["threshold"]) != float(args["value"]):
        raise UnboundedError(f"it jumps from {args['value']} to {args['threshold']}")
    return 1.0


def _prelu(args: dict[str, Any]) -> float:
    weight = args["weight"]
    assert isinstance(weight, Tensor)
    return _most(1.0, float(weight.detach().double().abs().max()))


def _off(flag: str) -> Slope:
    def slope(args: dict[str, Any]) -> float:
        if args[flag]:
            raise UnboundedError(f"it is random: its `{flag}` is True although the model is in evaluation mode")
        return 1.0

    return slope


def _rrelu(args: dict[str, Any]) -> float:
    _off("training")(args)
    return _most(1.0, abs(float(args["lower"]) + float(args["upper"])) / 2)


SLOPES: dict[str, tuple[float | Slope, str]] = {
    # name: (largest slope, names of the arguments beside the first that are accounted for)
    "relu": (1.0, ""),
    "relu6": (1.0, ""),
    "hardtanh": (1.0, "min_val max_val"),
    "clamp": (1.0, "min max"),
    "clip": (1.0, "min max"),
    "clamp_min": (1.0, "min"),
    "clamp_max": (1.0, "max"),
    "leaky_relu": (lambda args: _most(1.0, abs(float(args["negative_slope"]))), "negative_slope"),
    "prelu": (_prelu, "weight"),
    "rrelu": (_rrelu, "lower upper training generator"),
    "elu": (_elu, "alpha scale input_scale"),
    "celu": (_celu, "alpha"),
    "selu": (_SELU, ""),
    "gelu": (_gelu, "approximate"),
    "silu": (_SILU, ""),
    "mish": (_MISH, ""),
    "hardswish": (1.5, ""),
    "hardsigmoid": (_FLOAT / 6, ""),
    "sigmoid": (0.25, ""),
    "log_sigmoid": (1.0, ""),
    "tanh": (1.0, ""),
    "softplus": (_softplus, "beta threshold"),
    "softshrink": (1.0, "lambd"),
    "threshold": (_threshold, "threshold value"),
    "abs": (1.0, ""),
    "neg": (1.0, ""),
    "negative": (1.0, ""),
    "sin": (1.0, ""),
    "cos": (1.0, ""),
    "atan": (1.0, ""),
    "erf": (2 / math.sqrt(math.pi), ""),
    "dropout": (_off("train"), "p train"),
    "feature_dropout": (_off("train"), "p train"),
    "alpha_dropout": (_off("train"), "p train"),
    "feature_alpha_dropout": (_off("train"), "p train"),
}
