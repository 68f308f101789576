"""What an operation makes of its planes for a network: clipped, normalised, cast, laid out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["OUTPUT", "Output"]

OUTPUT = "bool clip, Tensor? mean, Tensor? std, ScalarType dtype, bool channels_last"  # in an operator's schema, last


class Output(NamedTuple):
    """normalise(clip(planes)), cast, of planes (..., c, h, w).

    Attributes:
        clip: to [0, 1], before normalisation; NaN stays NaN.
        mean: (c,), subtracted after clipping, or None.
        std: (c,), divided by after `mean` is subtracted, or None as `mean`.
        dtype: of the result.
        channels_last: lay each image of the result out with the channels innermost, else contiguous.
    """

    clip: bool
    mean: Tensor | None
    std: Tensor | None
    dtype: torch.dtype
    channels_last: bool

    def finish(self, planes: Tensor) -> Tensor:
        """The specification, differentiable."""
        out = planes.clamp(0, 1) if self.clip else planes
        if self.mean is not None and self.std is not None:
            out = (out - self.mean.to(out.dtype)[:, None, None]) / self.std.to(out.dtype)[:, None, None]
        out = out.to(self.dtype)
        return out.movedim(-3, -1).contiguous().movedim(-1, -3) if self.channels_last else out.contiguous()

    def terms(self) -> tuple[Tensor, Tensor] | None:
        """(gain, shift) (c,) float32 of the normalisation, or None without one."""
        if self.mean is None or self.std is None:
            return None
        return 1 / self.std.float(), -self.mean.float() / self.std.float()

    def empty(self, images: Tensor, *batch: int) -> Tensor:
        """An unwritten result (*batch, c, h, w) beside images (n, c, h, w)."""
        c, h, w = images.shape[1:]
        if self.channels_last:
            return images.new_empty((*batch, h, w, c), dtype=self.dtype).movedim(-1, -3)
        return images.new_empty((*batch, c, h, w), dtype=self.dtype)
