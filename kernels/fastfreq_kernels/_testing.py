"""Hostile inputs and the comparison with the float64 reference, shared by tests and benchmarks."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from ._output import Output
from .fourier_perturb import _reference, fourier_signs

__all__ = ["CASES", "Case", "assert_matches_reference"]


@dataclasses.dataclass(frozen=True)
class Case:
    """One call of `fourier_perturb`; `str` gives a readable test id."""

    name: str
    n: int = 2
    c: int = 3
    h: int = 8
    w: int = 8
    f: int = 3
    images: torch.dtype = torch.float32
    strides: str = "contiguous"
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    clip: bool = True
    normalised: bool = True
    signs: str = "channel"
    eps: float = 2.0
    phase: float = 0.7

    def __str__(self) -> str:
        return self.name

    def inputs(self, seed: int, device: str = "cpu") -> tuple[tuple[Tensor, Tensor, Tensor], dict[str, Any]]:
        """Fresh random arguments, positional and by keyword."""
        random = torch.Generator().manual_seed(seed)
        pixels = torch.rand(self.n, self.c, self.h, self.w, generator=random)
        pixels = (pixels * 255).round().to(torch.uint8) if self.images == torch.uint8 else pixels.to(self.images)
        images = _strided(pixels.to(device), self.strides)
        frequencies = torch.randint(-2 * max(self.h, self.w), 2 * max(self.h, self.w), (self.f, 2), generator=random)
        special = torch.tensor([[0, 0], [self.h // 2, self.w // 2], [-1, 0], [self.h // 2, 0]])[: self.f]
        frequencies[: len(special)] = special
        frequencies = frequencies.to(device)
        ids = torch.arange(self.n, device=device) + 2**33
        signs = fourier_signs(ids, frequencies, (self.c, self.h, self.w), seed=seed, signs=self.signs)
        keywords: dict[str, Any] = {
            "eps": self.eps,
            "phase": self.phase,
            "clip": self.clip,
            "dtype": self.dtype,
            "channels_last": self.channels_last,
        }
        if self.normalised:
            keywords["mean"] = torch.rand(self.c, generator=random).to(device)
            keywords["std"] = (0.1 + torch.rand(self.c, generator=random)).to(device)
        return (images, frequencies, signs), keywords


def _strided(pixels: Tensor, strides: str) -> Tensor:
    if strides == "channels_last":
        return pixels.contiguous(memory_format=torch.channels_last)
    if strides == "every other":
        n, c, h, w = pixels.shape
        holes = pixels.new_zeros((n, c, 2 * h, 2 * w))[:, :, ::2, ::2]
        return holes.copy_(pixels)
    if strides == "transposed":
        return pixels.transpose(2, 3).contiguous().transpose(2, 3)
    if strides == "expanded":
        return pixels[:1].expand(pixels.shape)
    return pixels


_BF16, _FP16, _UINT8 = torch.bfloat16, torch.float16, torch.uint8
CASES = (
    Case("one element", n=1, c=1, h=1, w=1, f=1),
    Case("one row", n=1, c=1, h=1, w=7, channels_last=True),
    Case("one column", n=2, c=5, h=7, w=1, dtype=_BF16),
    Case("primes", n=3, c=5, h=13, w=17, f=7, channels_last=True),
    Case("33x47", h=33, w=47, f=9),
    Case("33x47 channels_last", h=33, w=47, f=10, channels_last=True, dtype=_BF16),
    Case("33x47 to fp16", h=33, w=47, dtype=_FP16, channels_last=True, strides="channels_last"),
    Case("grey 33x40", c=1, h=33, w=40, channels_last=True),
    Case("five channels", c=5, h=11, w=70, strides="channels_last", channels_last=True, dtype=_BF16),
    Case("uint8", n=3, h=32, w=32, images=_UINT8, channels_last=True, dtype=_BF16),
    Case("uint8 channels_last in, contiguous out", h=12, w=20, images=_UINT8, strides="channels_last"),
    Case("bf16 in and out", h=32, w=32, images=_BF16, dtype=_BF16, channels_last=True),
    Case("fp16 in, fp32 out", h=9, w=66, images=_FP16),
    Case("every other pixel", h=10, w=12, strides="every other", channels_last=True),
    Case("transposed", h=10, w=12, strides="transposed", dtype=_BF16),
    Case("one image expanded", n=4, h=6, w=6, strides="expanded", channels_last=True),
    Case("unclipped", h=16, w=16, clip=False),
    Case("no normalisation", h=16, w=16, normalised=False, channels_last=True),
    Case("one sign per image, phase 0", h=16, w=18, signs="image", phase=0.0),
    Case("no random signs, strong", h=16, w=18, signs="none", eps=50.0, phase=-2.5, channels_last=True),
)


def assert_matches_reference(
    out: Tensor,
    images: Tensor,
    frequencies: Tensor,
    signs: Tensor,
    *,
    eps: float,
    phase: float,
    clip: bool,
    dtype: torch.dtype,
    channels_last: bool,
    mean: Tensor | None = None,
    std: Tensor | None = None,
) -> None:
    """Shape, dtype, layout and every value of `out` against the reference in float64.

    A value may be off by 16 float32 eps of the terms it is the sum of; in 16 bits, by one unit in the last place more.
    """
    pixels = images.double() / 255 if images.dtype == torch.uint8 else images.double()
    wide_mean, wide_std = (None if value is None else value.double() for value in (mean, std))
    output = Output(clip, wide_mean, wide_std, torch.float64, channels_last)
    truth = _reference.perturb(pixels, frequencies, signs, eps, phase, output)
    assert out.shape == truth.shape and out.dtype == dtype, (out.shape, truth.shape, out.dtype, dtype)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert out.is_contiguous(memory_format=layout), f"expected {layout}, got strides {out.stride()}"
    c, h, w = images.shape[1:]
    largest = 1 + eps * (2 / (h * w)) ** 0.5
    terms = torch.full((c, 1, 1), largest, dtype=torch.float64, device=out.device)
    if mean is not None and std is not None:
        terms = (terms + mean.double().abs()[:, None, None]) / std.double().abs()[:, None, None]
    allowed = 16 * torch.finfo(torch.float32).eps * terms
    if dtype in (torch.bfloat16, torch.float16):
        # one unit in the last place of a value in [2^e, 2^(e + 1)) is eps 2^e
        exponent = torch.frexp(truth)[1] - 1
        unit = torch.ldexp(torch.full_like(truth, torch.finfo(dtype).eps), exponent)
        allowed = allowed + unit.clamp_min(torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps)
    error = (out.double() - truth).abs() / allowed
    worst = float(error.max()) if error.numel() else 0.0
    assert worst <= 1, f"worst value is off by {worst:.3g} times what is allowed (nan: unwritten or invalid output)"
