"""The network of the bottleneck theory: cyclic images, filters as large as the image, a fixed pooling before each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def pooling_eigenvalues(frequencies: NDArray[np.int64], size: Sequence[int], beta: float) -> NDArray[np.float64]:
    """(f,) m_w = (1 - beta) + beta prod_axis (1 + 2 cos(2 pi k / n)) / 3 of M = (1 - beta) Id + beta Avg_{3 x .. x 3}.

    Args:
        frequencies: (f, d) integers, cycles per image.
        size: (n_1 .. n_d) of the cyclic image.
        beta: 0 (no pooling) to 1 (the average alone).

    Source: Wen and Jacot 2024, section 2; this form of their pooling operator M is our reading.
    """
    cosines = (1 + 2 * np.cos(2 * np.pi * np.asarray(frequencies) / np.asarray(size))) / 3
    return (1 - beta) + beta * np.prod(cosines, axis=-1)


class CyclicConv(nn.Module):
    """z[i] = sum_p W_p (M x)[s i + p] + b on a cyclic grid, with a filter as large as the grid, by FFT.

    Attributes:
        weight: (c_out, c_in, n_1 .. n_d).
        bias: (c_out,).
        size: (n_1 .. n_d) of its input.
        beta: strength of the pooling M.
        stride: s, which divides every side.
    """

    pooling: Tensor

    def __init__(self, inputs: int, outputs: int, size: Sequence[int], *, beta: float = 0.0, stride: int = 1) -> None:
        super().__init__()
        self.size = tuple(int(n) for n in size)
        if not self.size or any(n < 1 or n % stride for n in self.size):
            raise ValueError(f"expected a `size` of positive sides that the stride {stride} divides, got {self.size}")
        if not 0 <= beta <= 1:
            raise ValueError(f"expected `beta` from 0 (no pooling) to 1, got {beta}")
        self.beta, self.stride = beta, stride
        scale = math.sqrt(2 / (inputs * math.prod(self.size)))
        self.weight = nn.Parameter(scale * torch.randn(outputs, inputs, *self.size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        half = (*self.size[:-1], self.size[-1] // 2 + 1)
        frequencies = np.argwhere(np.ones(half, dtype=bool))
        pooling = torch.from_numpy(pooling_eigenvalues(frequencies, self.size, beta))
        self.register_buffer("pooling", pooling, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c_out, *n / s) of x (b, c_in, *n)."""
        if tuple(x.shape[2:]) != self.size:
            raise ValueError(f"expected images of {self.size}, the size of the filters, got {tuple(x.shape[2:])}")
        axes = tuple(range(2, 2 + len(self.size)))
        signal = torch.fft.rfftn(x, dim=axes).flatten(2).permute(2, 0, 1)
        filters = torch.fft.rfftn(self.weight, dim=axes).flatten(2).permute(2, 1, 0).conj()
        product = (signal * self.pooling.to(x.dtype)[:, None, None]) @ filters
        shape = (len(x), len(self.weight), *self.size[:-1], self.size[-1] // 2 + 1)
        out = torch.fft.irfftn(product.permute(1, 2, 0).reshape(shape), s=self.size, dim=axes)
        if self.stride > 1:
            out = out[(..., *[slice(None, None, self.stride)] * len(self.size))]
        return out + self.bias.reshape(-1, *[1] * len(self.size))

    def effective_convolution(self) -> nn.Module:
        """The ordinary convolution with the filter M W, for `conv_symbols_of(..., padding="circular")`."""
        kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(self.size)]
        outputs, inputs = self.weight.shape[:2]
        layer = kind(inputs, outputs, self.size, stride=self.stride, bias=False, device="meta")  # pyright: ignore[reportArgumentType]
        axes = tuple(range(2, 2 + len(self.size)))
        weight = self.weight.detach().double()
        every = np.argwhere(np.ones(self.size, dtype=bool))
        pooling = torch.from_numpy(pooling_eigenvalues(every, self.size, self.beta)).reshape(self.size)
        pooled = torch.fft.ifftn(torch.fft.fftn(weight, dim=axes) * pooling.to(weight.device), dim=axes).real
        layer.weight = nn.Parameter(pooled, requires_grad=False)
        return layer

    def extra_repr(self) -> str:
        """Sizes, for print."""
        outputs, inputs = self.weight.shape[:2]
        return f"{inputs}, {outputs}, size={self.size}, beta={self.beta}, stride={self.stride}"


class CyclicNet(nn.Module):
    """alpha_l = relu(W_l * (M alpha_{l-1}) + b_l), without relu in the last layer.

    Attributes:
        layers: the CyclicConv layers, a Sequential.
        size: (n_1 .. n_d) of the input.
        beta: strength of the pooling before each layer.
        head: linear classifier on the mean over pixels of the last layer, or None; then the last layer has a relu.
    """

    def __init__(
        self,
        channels: Sequence[int],
        size: Sequence[int],
        *,
        beta: float,
        strides: Sequence[int] | None = None,
        classes: int | None = None,
    ) -> None:
        """Make a network with Gaussian weights from torch's generator.

        Args:
            channels: (c_0 .. c_L): c_0 of the input, c_L of the output.
            size: (n_1 .. n_d) of the cyclic images.
            beta: strength of the pooling, 0 to 1.
            strides: one per layer; 1 if None.
            classes: number of classes of a head, or None.

        Raises:
            ValueError: fewer than one layer, strides of another number, sides that they do not divide.
        """
        super().__init__()
        if len(channels) < 2:
            raise ValueError(f"expected `channels` of the input and at least one layer, got {list(channels)}")
        steps = [1] * (len(channels) - 1) if strides is None else list(strides)
        self.size, self.beta = tuple(int(n) for n in size), beta
        grid, layers = self.size, []
        for inputs, outputs, stride in zip(channels[:-1], channels[1:], steps, strict=True):
            layers.append(CyclicConv(inputs, outputs, grid, beta=beta, stride=stride))
            grid = tuple(n // stride for n in grid)
        self.layers = nn.Sequential(*layers)
        self.head = None if classes is None else nn.Linear(channels[-1], classes)

    @property
    def convolutions(self) -> list[CyclicConv]:
        """The layers in order."""
        return [layer for layer in self.layers if isinstance(layer, CyclicConv)]

    def forward(self, x: Tensor) -> Tensor:
        """Images (b, c_L, *grid), or logits (b, classes) with a head, of x (b, c_0, *size)."""
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index < last or self.head is not None:
                x = torch.relu(x)
        return x if self.head is None else self.head(x.flatten(2).mean(dim=2))
