"""Thresholds for the codes of fixed frames: hard and soft, with or without a sign, fixed, relative or learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fastfreq.vocabulary import checks, numbers

__all__ = ["Threshold", "described", "shrunk"]

KINDS = ("hard", "soft")
MODES = ("fixed", "relative", "learned")


def shrunk(codes: Tensor, tau: Tensor | float, *, kind: str = "hard", signed: bool = False) -> Tensor:
    """Thresholded codes, elementwise: hard |x| 1[|x| > tau], soft max(|x| - tau, 0); NaN stays.

    Args:
        codes: of any shape, real or complex.
        tau: at least 0, of a shape that broadcasts to that of `codes`.
        kind: "hard" or "soft".
        signed: times sgn(x), the usual shrinkage; of complex codes times x / |x|.

    Source: Donoho, Johnstone 1994, for the signed ones; without a sign they are those of a rectified first layer.
    """
    magnitude = codes.abs()
    left = magnitude - tau if kind == "soft" else magnitude
    left = torch.where(magnitude <= tau, 0.0, left)  # not `>`: NaN is no small number
    return left * codes.sgn() if signed else left


class Threshold(nn.Module):
    """sigma of h = sigma(W x) where W is a fixed frame: `shrunk` as a layer.

    Fixed: tau itself. Relative: tau times the root mean square of all codes of an image, so that its contrast does
    not decide what is kept. Learned: one parameter, positive as softplus of `raw`, which starts at tau.

    Raises:
        ValueError: another kind or mode, a tau below 0, or one to learn where none can be: a hard threshold's
            derivative by tau is 0 wherever there is one, and softplus is never 0.
        TypeError: a tau that is no number, or, when called, codes that are no tensor of floats.
    """

    def __init__(self, kind: str = "hard", *, tau: float = 0.2, mode: str = "fixed", signed: bool = False) -> None:
        super().__init__()
        self.tau = numbers.as_float("tau", tau)
        checks.check_choice("kind", kind, KINDS)
        checks.check_choice("mode", mode, MODES)
        if self.tau < 0 or (mode == "learned" and self.tau == 0):
            raise ValueError(f"expected `tau` {'above' if mode == 'learned' else 'of at least'} 0, got {tau}")
        if mode == "learned" and kind == "hard":
            raise ValueError(
                "expected kind='soft' beside mode='learned', got 'hard': a hard threshold's derivative by tau is 0 "
                "wherever there is one, so that no gradient would ever move it"
            )
        self.kind, self.mode, self.signed = kind, mode, numbers.as_flag("signed", signed)
        if mode == "learned":  # the inverse of softplus
            self.raw = nn.Parameter(torch.tensor(self.tau + math.log(-math.expm1(-self.tau))))

    def of(self, codes: Tensor) -> Tensor | float:
        """The threshold of these codes: a number, or one for each image."""
        if self.mode == "learned":
            return nn.functional.softplus(self.raw).to(codes.device)
        if self.mode == "relative":
            magnitude = codes.abs()
            exact = magnitude.reshape(len(magnitude), math.prod(magnitude.shape[1:])).to(
                torch.promote_types(magnitude.dtype, torch.float32)
            )
            # squares of numbers below 1e-19 or above 1e19 are none of float32's: of shares of the largest they are
            largest = exact.detach().amax(dim=1, keepdim=True) if exact.shape[1] else exact.new_ones(len(exact), 1)
            largest = torch.where(largest == 0, 1, largest)  # not `> 0`: NaN is no small number
            mean = (exact / largest).square().mean(dim=1, keepdim=True)
            root = largest * mean.clamp_min(torch.finfo(exact.dtype).tiny).sqrt()  # which has no slope at 0
            return (self.tau * root).to(magnitude.dtype).reshape(-1, *[1] * (codes.ndim - 1))
        return self.tau

    def forward(self, codes: Tensor) -> Tensor:
        """(n, ...) -> (n, ...)."""
        checks.check_tensor("codes", codes, "(n, ...)")
        if codes.ndim == 0 or not (codes.is_floating_point() or codes.is_complex()):
            raise TypeError(
                f"expected `codes` (n, ...) of a float or complex type, one row an image, got {codes.dtype} "
                f"{tuple(codes.shape)}"
            )
        return shrunk(codes, self.of(codes), kind=self.kind, signed=self.signed)

    def extra_repr(self) -> str:
        """What was asked for."""
        return f"{self.kind!r}, tau={self.tau:g}, mode={self.mode!r}, signed={self.signed}"


def described(threshold: Threshold | None) -> str:
    """In words what of a threshold no weight holds.

    Raises:
        TypeError: it is none.
    """
    if threshold is None:
        return "no threshold"
    if not isinstance(threshold, Threshold):
        raise TypeError(f"expected `threshold` as a features.Threshold or None, got {type(threshold).__name__}")
    size = "" if threshold.mode == "learned" else f" of {threshold.tau:g}"
    return f"{threshold.mode} {threshold.kind} threshold{size}" + (" with signs" if threshold.signed else "")
