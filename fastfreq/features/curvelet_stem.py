"""A first layer of curvelets: a tight frame with directions, on images of any size."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from fastfreq.vocabulary import checks, numbers

from .fixed_layer import FixedLayer, as_images, like
from .frames import curvelet_scales, library
from .shrinkage import Threshold, described

__all__ = ["CurveletStem", "curvelet_stem"]


def curvelet_stem(size: tuple[int, int], *, threshold: Threshold | None = None) -> CurveletStem:
    """A fixed first layer of uniform discrete curvelets, a tight frame: ||codes|| = ||images|| without a threshold.

    Images are filled with zeros at the end up to sides on which the transform is a tight frame. Coefficients are
    complex; the codes (n, k) of an image, channel after channel, are their real and imaginary parts in turn, or with
    an unsigned threshold sigma(|c|), half as many. Curvelets of different scale and direction stand on different
    grids: there are no maps.

    Takes any number of channels, float64, float32 and half precision (computed in float32); gradients go through, by
    the adjoint of the frame. `torch.compile` breaks its graph at the package's transform.

    Args:
        size: (h, w) of the images, at least 32.
        threshold: what becomes of the coefficients; None leaves them as they are.

    Raises:
        ValueError: sides below 32, or, when called, images of another size.
        TypeError: another type.
        ImportError: curvelets is not installed.

    Source: Nguyen, Chauris 2010, by the package `curvelets`.
    """
    return CurveletStem(size, threshold)


class CurveletStem(FixedLayer):
    """What `curvelet_stem` makes."""

    def __init__(self, size: tuple[int, int], threshold: Threshold | None) -> None:
        h, w = numbers.as_ints("size", size, of="(h, w)")
        if min(h, w) < 32:
            raise ValueError(f"expected sides of at least 32 for curvelets, got {(h, w)}; enlarge the images")
        said = described(threshold)
        scales, multiple = curvelet_scales((h, w))
        super().__init__(f"curvelet stem of {h} x {w}, {scales} scales, {said}")
        self.size, self.threshold = (h, w), threshold
        self._filled = (-(-h // multiple) * multiple, -(-w // multiple) * multiple)
        package = library("curvelets.torch", "curvelets")
        made = package.UDCT(shape=self._filled, num_scales=scales, wedges_per_direction=3)
        self._length = sum(math.prod(shape) for level in made.coefficient_shapes() for side in level for shape in side)
        self._on = {torch.device("cpu"): made}  # in float64; the package casts for float32

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, k)."""
        x = as_images(images)
        if x.shape[2:] != self.size:
            raise ValueError(
                f"expected images of {self.size[0]} x {self.size[1]}, for which the curvelets were made, got "
                f"{tuple(x.shape[2:])}; make another curvelet_stem, or resize the images"
            )
        transform = self._transform(x.device)
        planes = pad(x, (0, self._filled[1] - self.size[1], 0, self._filled[0] - self.size[0])).flatten(0, 1)
        found = [transform.vect(transform.forward(plane)) for plane in planes]  # the package takes one plane at a time
        codes = torch.stack(found) if found else torch.zeros(0, self._length, dtype=x.dtype.to_complex())
        codes = codes.reshape(len(x), x.shape[1] * self._length)
        if self.threshold is not None:
            codes = self.threshold(codes)
        return like(torch.view_as_real(codes).flatten(1) if codes.is_complex() else codes, images)

    def codes(self, images: Tensor) -> Tensor:
        """As `forward`."""
        return self(images)

    def inverse(self, codes: Tensor) -> Tensor:
        """(n, k) codes without a threshold, or with a signed one -> (n, c, h, w), by the adjoint of the frame.

        Raises:
            ValueError: codes of another length, or without a phase.
            TypeError: no tensor of floats.
        """
        checks.check_tensor("codes", codes, "(n, k)")
        if not codes.is_floating_point():
            raise TypeError(f"expected `codes` of a float type, as the stem gives them, got {codes.dtype}")
        if codes.ndim != 2 or not codes.shape[1] or codes.shape[1] % (2 * self._length):
            raise ValueError(
                f"expected codes (n, k) with real and imaginary parts, k a multiple of {2 * self._length}, got "
                f"{tuple(codes.shape)}; take no threshold, or a signed one"
            )
        exact = codes if codes.dtype == torch.float64 else codes.float()
        values = torch.view_as_complex(exact.reshape(-1, self._length, 2).contiguous())
        transform = self._transform(codes.device)
        found = torch.stack([transform.backward(transform.struct(row)) for row in values])
        channels = codes.shape[1] // (2 * self._length)
        h, w = self.size
        return found.reshape(len(codes), channels, *self._filled)[..., :h, :w].to(codes.dtype)

    def _transform(self, device: torch.device) -> Any:
        if device not in self._on:
            copied = copy.deepcopy(self._on[torch.device("cpu")])
            copied.apply_to_tensors(lambda t: t.to(device))
            self._on[device] = copied
        return self._on[device]
