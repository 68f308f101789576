"""The table: operation -> its bound, and the arguments that the bound accounts for. What is not here is refused."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import _linear
from ._call import Call, Jump, UnboundedError, copies, depends, log_of, together, total
from ._elementwise import SLOPES

Bound = Callable[[Call], Any]


@dataclasses.dataclass(frozen=True)
class Rule:
    """How one operation is bounded.

    Attributes:
        bound: gives the logarithm of the result's constant, for several results a list.
        arguments: names that the bound accounts for; an operation with another one is refused.
    """

    bound: Bound
    arguments: frozenset[str]


def _slope(slope: float | Callable[[dict[str, Any]], float]) -> Bound:
    def bound(call: Call) -> float:
        log = call.only(call.op._schema.arguments[0].name)
        return log + log_of(float(slope(call.args) if callable(slope) else slope))

    return bound


def _summed(bound: Bound) -> Bound:
    return lambda call: total(bound(call))


def _side_by_side(call: Call) -> float:
    """Concatenation: squares add up, each time that a tensor is named."""
    return together(log for log in call.logs["tensors"] if log is not None)


def _chosen(*names: str) -> Bound:
    """Each element from one of several tensors, by a constant mask or as the larger or smaller one."""

    def bound(call: Call) -> float:
        for name in ("condition", "mask"):
            if depends(call.logs.get(name)):
                raise UnboundedError("it jumps: it chooses by a condition on the image")
        present = [name for name in names if call.logs.get(name) is not None]
        return together(call.logs[name] + copies(call.args[name], call.result) for name in present)

    return bound


def _maximum(call: Call) -> Any:
    if "other" in call.args:
        return _chosen("self", "other")(call)
    log = call.only("self")
    return [log, Jump("the index of a maximum, which jumps")] if isinstance(call.result, tuple | list) else log


def _max_pool(call: Call) -> float:
    """Root of the number of windows that one pixel is in, counted."""
    x, out = call.args["self"], call.result
    d = int(call.name[8])
    kernel, padding, dilation = (_per_axis(call.args[key], d) for key in ("kernel_size", "padding", "dilation"))
    stride = _per_axis(call.args["stride"], d) if len(call.args["stride"]) else kernel
    count = 1
    for n, m, k, s, p, dil in zip(x.shape[-d:], out.shape[-d:], kernel, stride, padding, dilation, strict=True):
        seen = torch.arange(m)[:, None] * s - p + torch.arange(k) * dil
        inside = seen[(seen >= 0) & (seen < n)]
        count *= int(torch.bincount(inside, minlength=1).max()) if inside.numel() else 1
    return call.only("self") + log_of(count) / 2


def _per_axis(value: Any, d: int) -> list[int]:
    every = [int(v) for v in (value if isinstance(value, list | tuple) else [value])]
    return every * d if len(every) == 1 else every


def batch_norm_scale(args: dict[str, Any]) -> Tensor:
    """(c,) what a batch norm multiplies each channel with, float64.

    Raises:
        UnboundedError: it uses the statistics of the batch.
    """
    if args.get("training") or args.get("use_input_stats") or args["running_var"] is None:
        raise UnboundedError("it normalises by statistics of the batch")
    variance = args["running_var"].detach().double()
    gamma = torch.ones_like(variance) if args["weight"] is None else args["weight"].detach().double()
    return gamma / torch.sqrt(variance + args["eps"])


def _batch_norm(call: Call) -> float:
    return call.only("input") + log_of(float(batch_norm_scale(call.args).abs().max()))


def _norm(call: Call) -> float:
    """Jacobian of z = (x - mean) / sqrt(var + eps) is (P - z z^T / n) / sqrt(var + eps), at most 1 / sqrt(eps)."""
    if call.name == "instance_norm" and not call.args["use_input_stats"]:
        return _batch_norm(call)
    eps, gamma = call.args["eps"], call.args["weight"]
    eps = torch.finfo(call.args["input"].dtype).eps if eps is None else float(eps)
    if not eps > 0:
        raise UnboundedError(f"it divides by the deviation of its input, with eps={eps:g}: it has no constant")
    largest = 1.0 if gamma is None else float(gamma.detach().double().abs().max())
    return call.only("input") + log_of(largest / math.sqrt(eps))


def _softmax(call: Call) -> float:
    return call.only("self") + log_of(0.5)  # of diag(p) - p p^T, at p = (1/2, 1/2)


def _log_softmax(call: Call) -> float:
    x = call.args["self"]
    return call.only("self") + log_of(x.shape[call.args["dim"]] if x.ndim else 1) / 2  # of I - 1 p^T


def _cast(call: Call) -> float:
    if not call.result.dtype.is_floating_point:
        raise UnboundedError(f"it rounds to {call.result.dtype}, which jumps")
    return call.only("self", shapes="other")


def _constant(_call: Call) -> None:
    """Of the shape of a tensor alone."""


_CONV = "input weight bias stride padding dilation groups"
_AFFINE = "input weight bias running_mean running_var momentum eps cudnn_enabled cudnn_enable"
_TYPE = "self dtype layout device pin_memory non_blocking memory_format copy other"

_LINES: list[tuple[str, Bound, str]] = [
    # sums, products
    ("add", _summed(_linear.scaled_sum("self", "other")), "self other alpha"),
    ("sub subtract", _summed(_linear.scaled_sum("self", "other")), "self other alpha"),
    ("rsub", _summed(_linear.scaled_sum("other", "self")), "self other alpha"),
    ("mul multiply", _linear.times, "self other"),
    ("div divide true_divide", _linear.over, "self other rounding_mode"),
    ("linear", _linear.linear, "input weight bias"),
    ("matmul mm bmm", _linear.product, "self other mat2"),
    ("addmm", _linear.affine, "self mat1 mat2 beta alpha"),
    ("conv1d conv2d conv3d", _linear.convolution, _CONV),
    ("conv_transpose1d conv_transpose2d conv_transpose3d", _linear.convolution, f"{_CONV} output_padding"),
    ("convolution", _linear.convolution, f"{_CONV} output_padding transposed"),
    # the same elements
    ("view reshape", _linear.identity, "self size shape"),
    ("flatten", _linear.identity, "self start_dim end_dim"),
    ("ravel numpy_T mT t alias detach lift_fresh_copy", _linear.identity, "self"),
    ("unflatten", _linear.identity, "self dim sizes"),
    ("permute transpose", _linear.identity, "self dims dim0 dim1"),
    ("movedim", _linear.identity, "self source destination"),
    ("swapaxes swapdims", _linear.identity, "self axis0 axis1 dim0 dim1"),
    ("squeeze unsqueeze", _linear.identity, "self dim"),
    ("contiguous clone", _linear.identity, "self memory_format"),
    # entries of one sign
    ("expand expand_as", _linear.one_sign, "self size implicit other"),
    ("repeat tile", _linear.one_sign, "self repeats dims"),
    ("repeat_interleave", _linear.one_sign, "self repeats dim output_size"),
    ("slice", _linear.one_sign, "self dim start end step"),
    ("select narrow", _linear.one_sign, "self dim index start length"),
    ("index", _linear.one_sign, "self indices"),
    ("index_select gather", _linear.one_sign, "self dim index sparse_grad"),
    ("flip roll", _linear.one_sign, "self dims shifts"),
    ("diagonal", _linear.one_sign, "self offset dim1 dim2"),
    ("unfold", _linear.one_sign, "self dimension size step"),
    ("im2col col2im", _linear.one_sign, "self output_size kernel_size dilation padding stride"),
    ("pad constant_pad_nd", _linear.one_sign, "self pad mode value"),
    ("pixel_shuffle pixel_unshuffle channel_shuffle", _linear.one_sign, "self upscale_factor downscale_factor groups"),
    ("mean sum", _linear.one_sign, "self dim keepdim dtype"),
    ("cumsum", _linear.one_sign, "self dim dtype"),
    (
        "avg_pool1d avg_pool2d avg_pool3d",
        _linear.one_sign,
        "self kernel_size stride padding ceil_mode count_include_pad divisor_override",
    ),
    ("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d", _linear.one_sign, "self output_size"),
    (
        "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d "
        "_upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d _upsample_bilinear2d_aa",
        _linear.one_sign,
        "self input output_size scale_factors align_corners scales scales_d scales_h scales_w",
    ),
    ("split split_with_sizes", _linear.parts, "self split_size dim split_sizes"),
    ("chunk unbind", _linear.parts, "self chunks dim"),
    ("tensor_split", _linear.parts, "self sections indices dim"),
    # side by side, chosen
    ("cat concat concatenate stack hstack vstack", _side_by_side, "tensors dim"),
    ("where", _chosen("self", "other"), "condition self other"),
    ("masked_fill", _chosen("self", "value"), "self mask value"),
    ("maximum minimum", _chosen("self", "other"), "self other"),
    ("max min amax amin", _maximum, "self dim keepdim other"),
    ("max_pool1d max_pool2d max_pool3d", _max_pool, "self kernel_size stride padding dilation ceil_mode"),
    # normalisation
    ("batch_norm", _batch_norm, f"{_AFFINE} training"),
    ("layer_norm rms_norm", _norm, f"{_AFFINE} normalized_shape"),
    ("group_norm", _norm, f"{_AFFINE} num_groups"),
    ("instance_norm", _norm, f"{_AFFINE} use_input_stats"),
    ("softmax", _softmax, "self dim dtype"),
    ("log_softmax", _log_softmax, "self dim dtype"),
    ("logsumexp", _slope(1.0), "self dim keepdim"),
    # types; constants
    ("to _to_copy type_as", _cast, _TYPE),
    (
        "zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty",
        _constant,
        f"{_TYPE} size fill_value",
    ),
]
RULES: dict[str, Rule] = {
    name: Rule(bound, frozenset(arguments.split())) for names, bound, arguments in _LINES for name in names.split()
} | {name: Rule(_slope(slope), frozenset(f"self input {more}".split())) for name, (slope, more) in SLOPES.items()}

REASONS: dict[str, str] = {
    "scaled_dot_product_attention": "dot-product attention has no Lipschitz constant on unbounded inputs (Kim, "
    "Papamakarios and Mnih 2021)",
    "_native_multi_head_attention": "dot-product attention has no Lipschitz constant on unbounded inputs",
    "glu": "a product of two tensors that both depend on the image has no Lipschitz constant where they are unbounded",
}
for _names, _reason in (
    ("exp exp2 expm1 square pow cosh sinh tan", "its slope grows without bound"),
    ("reciprocal sqrt rsqrt log log2 log10 log1p", "its slope grows without bound near zero"),
    ("gt lt ge le eq ne sign round floor ceil trunc argmax argmin argsort hardshrink heaviside", "it jumps"),
    ("rand_like randn_like bernoulli normal", "it is random"),
):
    REASONS |= dict.fromkeys(_names.split(), _reason)
