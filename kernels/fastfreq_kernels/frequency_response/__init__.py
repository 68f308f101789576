"""Values at scattered points -> their Fourier transform at any frequencies, without a matrix of all waves."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from fastfreq_kernels import _dispatch

from . import _cpu, _gradients, _reference

__all__ = ["frequency_response"]

_REDUCTIONS = ("mean", "sum")


def frequency_response(
    points: Tensor,
    values: Tensor,
    frequencies: Tensor,
    *,
    reduction: Literal["mean", "sum"] = "mean",
    backend: str | None = None,
) -> Tensor:
    """The non-uniform discrete Fourier transform of values at points x_i, for any frequencies k in cycles per unit.

        F(k) = 1/n sum_i values[i] exp(-2 pi i k . x_i)

    Whole turns are taken from phases k . x before they are rounded: in float32, too, figures are exact to a few eps of
    mean |values|, whatever the frequency, as far as float64 products k . x are. Waves of a block of points are in
    memory at a time. On a CPU frequencies that lie evenly on a line, or on parallel ones, are found out and cost little
    more than one; give those of a direction in float64, j p: rounded to float32 they are no longer even.

    Args:
        points: (n, d), float32 or float64.
        values: (n, m), of the same type: real outputs, or residuals, at the points. A column with a value that is not
            finite has a transform that is not.
        frequencies: (K, d), float32 or float64.
        reduction: "mean" over the points, as above, or "sum".
        backend: None chooses: "triton" on a GPU and "cpu" on a CPU. One that is named is used or refused.

    Returns:
        (K, m) complex, of the values' precision. Differentiable in points, values and frequencies; once more, too, with
        as much memory as there are points times frequencies.

    Raises:
        ValueError: shapes that do not fit, a mean of no points, another reduction, tensors on several devices, or on a
            CPU points or frequencies that are not finite.
        TypeError: another dtype, or complex values: pass their parts as columns.
        RuntimeError: a backend that cannot run here.

    Source: Xu, Zhang, Luo, Xiao, Ma 2019, "Frequency Principle: Fourier Analysis Sheds Light on Deep Neural Networks",
    the projection method, there on one direction; the convention is that of Luo, Ma, Xu, Zhang 2019.
    """
    _check(points, values, frequencies)
    if reduction not in _REDUCTIONS:
        raise ValueError(f"expected `reduction` to be one of {_REDUCTIONS}, got {reduction!r}")
    if reduction == "mean" and not len(points):
        raise ValueError("expected at least one point to average over, got none; use reduction='sum'")
    return _RESPONSE(points, values, frequencies, reduction == "mean", backend=backend)


def _check(points: Tensor, values: Tensor, frequencies: Tensor) -> None:
    if points.ndim != 2 or not points.shape[1]:
        hint = "; use points[:, None]" if points.ndim == 1 else ""
        raise ValueError(f"expected `points` of shape (n, d), one row each, got {tuple(points.shape)}{hint}")
    if values.ndim != 2 or len(values) != len(points):
        hint = "; use values[:, None]" if values.ndim == 1 else ""
        raise ValueError(
            f"expected `values` of shape ({len(points)}, m), a row per point, got {tuple(values.shape)}{hint}"
        )
    if frequencies.ndim != 2 or frequencies.shape[1] != points.shape[1]:
        raise ValueError(
            f"expected `frequencies` of shape (K, {points.shape[1]}), rows of cycles per unit of each coordinate of "
            f"the points, got {tuple(frequencies.shape)}"
        )
    if values.dtype not in (torch.float32, torch.float64):
        hint = "; pass real and imaginary parts as columns" if values.is_complex() else "; use values.float()"
        raise TypeError(f"expected `values` of float32 or float64, got {values.dtype}{hint}")
    if points.dtype != values.dtype:
        raise TypeError(
            f"expected `points` of {values.dtype}, as the values are, got {points.dtype}; use points.to(values)"
        )
    if frequencies.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"expected `frequencies` of float32 or float64, got {frequencies.dtype}; use frequencies.double()"
        )
    for name, tensor in (("points", points), ("frequencies", frequencies)):
        if tensor.device != values.device:
            raise ValueError(
                f"expected `{name}` on {values.device}, where the values are, got {tensor.device}; move it with "
                ".to(values.device)"
            )


def _fake(points: Tensor, values: Tensor, frequencies: Tensor, mean: bool) -> Tensor:
    return values.new_empty((frequencies.shape[0], values.shape[1]), dtype=values.dtype.to_complex())


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.mean = inputs[3]


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    points, values, frequencies = ctx.saved_tensors
    of_points, of_values, of_frequencies = ctx.needs_input_grad[:3]
    scaled = gradient / len(points) if ctx.mean else gradient
    v = _gradients.of_values(scaled, points, frequencies, _sums) if of_values else None
    x, k = _gradients.of_phases(scaled, points, values, frequencies) if of_points or of_frequencies else (None, None)
    return x if of_points else None, v, k if of_frequencies else None, None


def _sums(points: Tensor, values: Tensor, frequencies: Tensor) -> Tensor:
    return _RESPONSE(points, values, frequencies, False, backend=None)


_RESPONSE = _dispatch.register(
    "frequency_response",
    "(Tensor points, Tensor values, Tensor frequencies, bool mean) -> Tensor",
    reference=_reference.response,
    cpu=_cpu.response,
    fake=_fake,
    gradient=(_backward, _setup),
)
