"""A convolution that is evaluated at every s-th pixel only, and interpolated to the pixels that are expected of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

PlainConv = nn.Conv1d | nn.Conv2d | nn.Conv3d


def interpolation(n: int, stride: int) -> NDArray[np.float64]:
    """(n, ceil(n / s)) matrix from samples at 0, s, 2 s, .. to the n pixels, by the wave of lowest frequencies.

    Trigonometric interpolation on a circle of s ceil(n / s) pixels: exact for what has no frequency at or above half a
    cycle per sample there, the identity at the samples, and it keeps constants.
    """
    m = -(-n // stride)
    x = np.arange(n)[:, None] / stride - np.arange(m)
    with np.errstate(invalid="ignore", divide="ignore"):
        lower = np.tan(np.pi * x / m) if m % 2 == 0 else np.sin(np.pi * x / m)
        matrix = np.sin(np.pi * x) / (m * lower)
    matrix[np.arange(n) % stride == 0] = 0
    matrix[np.arange(m) * stride, np.arange(m)] = 1
    return matrix


def interpolated(samples: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """(n, c, *size) of samples (n, c, *coarse), one matrix per axis."""
    for axis, matrix in enumerate(matrices, start=2):
        samples = torch.movedim(torch.movedim(samples, axis, -1) @ matrix.T, -1, axis)
    return samples


class CoarseConv(nn.Module):
    """y = U (W x at every s-th output), with U the `interpolation` to the outputs of the original layer.

    Attributes:
        conv: the original layer with s times its stride.
        size: (d,) of the output.
        stride: s.
    """

    def __init__(self, layer: PlainConv, size: Sequence[int], stride: int) -> None:
        super().__init__()
        self.size, self.stride = tuple(size), stride
        self.conv = copy.copy(layer)
        self.conv.stride = tuple(stride * s for s in layer.stride)
        if isinstance(layer.padding, str):
            totals = [dil * (k - 1) for dil, k in zip(layer.dilation, layer.kernel_size, strict=True)]
            if layer.padding == "same" and any(total % 2 for total in totals):
                raise ValueError(
                    f"expected padding of both sides alike, got 'same' with a kernel of {layer.kernel_size}"
                )
            self.conv.padding = tuple(total // 2 if layer.padding == "same" else 0 for total in totals)
        for axis, n in enumerate(self.size):
            self.register_buffer(f"matrix{axis}", torch.from_numpy(interpolation(n, stride)).to(layer.weight))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c_out, *size) of x (n, c_in, ...)."""
        samples = self.conv(x)
        expected = tuple(-(-n // self.stride) for n in self.size)
        if tuple(samples.shape[2:]) != expected:
            raise ValueError(
                f"expected an input that gives outputs of {self.size}, for which this layer was made, got "
                f"{tuple(x.shape[2:])}; make it anew for other images"
            )
        return interpolated(samples, [getattr(self, f"matrix{axis}") for axis in range(len(self.size))])

    def extra_repr(self) -> str:
        """Sizes, for print."""
        return f"size={self.size}, stride={self.stride}"


def coarse_model(model: nn.Module, sizes: Mapping[str, tuple[int, ...]], strides: Mapping[str, int]) -> nn.Module:
    """A copy of the model with some of its convolutions replaced; the original shares nothing with it."""
    changed = copy.deepcopy(model)
    for name, stride in strides.items():
        parent, _, last = name.rpartition(".")
        layer = changed.get_submodule(name)
        assert isinstance(layer, PlainConv)
        setattr(changed.get_submodule(parent), last, CoarseConv(layer, sizes[name], stride))
    return changed


def multiply_adds(layer: PlainConv, size: Sequence[int], stride: int = 1) -> int:
    """Multiplications of one image: of the convolution at every s-th output, and of the interpolation."""
    coarse = [-(-n // stride) for n in size]
    outputs = layer.weight.shape[0]
    total = layer.weight.numel() * math.prod(coarse)
    if stride > 1:
        now = list(coarse)
        for axis, n in enumerate(size):
            total += outputs * math.prod(now) * n
            now[axis] = n
    return total
