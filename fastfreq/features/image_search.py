"""How an image is searched for that a network answers to: its parameters, how it is moved, what is held against it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fastfreq.results import codec
from fastfreq.vocabulary import numbers

FloatArray = NDArray[np.float64]

# covariance of red, green and blue in [0, 1], of 1,000 photographs of ImageNet, one a class, at a quarter of their
# size; by benchmarks/reproductions/natural_colours.py, which says how far those of others may be from it
NATURAL_COLOURS = ((0.0703, 0.0616, 0.0565), (0.0616, 0.0674, 0.0642), (0.0565, 0.0642, 0.0745))
_JITTER = 1 / 16
_START = 0.01  # standard deviation of the coefficients at the start
_BOUND = 80.0  # B of Mahendran and Vedaldi, of pixels from 0 to 255 less 127.5
_VARIATION = _BOUND / 6.5  # V


@codec.record
@dataclasses.dataclass(frozen=True)
class ImageSearch:
    """Gradient ascent on an image's Fourier coefficients: pixels = sigmoid(colours F^-1(coefficients / f^decay)).

    Attributes:
        steps: of Adam.
        rate: of Adam.
        decay: of the weights of coefficients over frequency: 1 as in natural images, 0 for none.
        jitter: largest shift at each step, as a share of the shorter side; None for 1/16, and where one place of a
            layer is raised for a quarter of the layer's stride, as in the paper.
        scale: largest change of size, 0.1 for factors from 1 / 1.1 to 1.1.
        rotation: largest, in degrees.
        total_variation: weight of R_TV = mean (dx^2 + dy^2) / V^2, V = B / 6.5, of pixels from 0 to 255.
        alpha_norm: weight of R_alpha = mean (sum_c x_c^2)^(alpha / 2) / B^alpha, B = 80, of pixels less 127.5.
        alpha: its power.
        through_relu: steps at the start in which gradients pass ReLU and ReLU6 where they are shut, for images of which
            not one of a layer lets any through; for units that are 0 since the start, until they are not. 0 for never.
        colours: (c, c) covariance of channels, in whose eigenvectors colours are searched for; None for that of
            natural images where there are three channels, and for channels by themselves elsewhere.
    """

    steps: int = 256
    rate: float = 0.05
    decay: float = 1.0
    jitter: float | None = None
    scale: float = 0.1
    rotation: float = 10.0
    total_variation: float = 0.0
    alpha_norm: float = 0.0
    alpha: float = 6.0
    through_relu: int = 16
    colours: tuple[tuple[float, ...], ...] | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "through_relu"):
            object.__setattr__(self, name, numbers.as_int(name, getattr(self, name)))
        for name in (
            "rate",
            "decay",
            *(("jitter",) if self.jitter is not None else ()),
            "scale",
            "rotation",
            "total_variation",
            "alpha_norm",
            "alpha",
        ):
            object.__setattr__(self, name, numbers.as_float(name, getattr(self, name)))
            if getattr(self, name) < 0:
                raise ValueError(f"expected `{name}` of at least 0, got {getattr(self, name):g}")
        if self.steps < 1 or self.through_relu < 0:
            raise ValueError(f"expected at least one of `steps`, got {self.steps}; and `through_relu` from 0")
        if self.rate == 0 or self.alpha < 1 or (self.jitter or 0) > 0.5 or self.rotation > 180:
            raise ValueError(
                f"expected a positive `rate`, `alpha` from 1, `jitter` to 0.5 and `rotation` to 180, got "
                f"{self.rate:g}, {self.alpha:g}, {self.jitter} and {self.rotation:g}"
            )
        if self.colours is not None:
            try:
                rows = np.asarray(self.colours, dtype=np.float64)
            except (TypeError, ValueError):
                raise TypeError(
                    f"expected `colours` as a (c, c) matrix of numbers, got {self.colours!r:.60}; leave it out for "
                    f"those of natural images"
                ) from None
            _root(rows)
            object.__setattr__(self, "colours", tuple(tuple(map(float, row)) for row in rows))

    def mixing(self, channels: int) -> FloatArray:
        """(c, c) that makes colours of independent numbers: a root of the covariance, of its largest row 1.

        Raises:
            ValueError: a covariance of another number of channels.
        """
        if self.colours is None:
            return _root(np.array(NATURAL_COLOURS)) if channels == 3 else np.eye(channels)
        if len(self.colours) != channels:
            raise ValueError(f"expected `colours` of {channels} channels, got {len(self.colours)}")
        return _root(np.array(self.colours))


def checked_search(search: ImageSearch) -> ImageSearch:
    """Refuse anything else."""
    if not isinstance(search, ImageSearch):
        raise TypeError(f"expected `search` as a features.ImageSearch or None, got {type(search).__name__}")
    return search


def _root(covariance: FloatArray) -> FloatArray:
    """Eigenvectors times roots of eigenvalues, divided by the norm of the largest row."""
    square = covariance.ndim == 2 and covariance.shape[0] == covariance.shape[1] and covariance.size > 0
    if not square or not np.isfinite(covariance).all() or not np.allclose(covariance, covariance.T):
        raise ValueError(f"expected `colours` as a symmetric (c, c) matrix of finite numbers, got {covariance.shape}")
    values, vectors = np.linalg.eigh(covariance)
    if values[0] <= 0:
        raise ValueError(f"expected `colours` with positive eigenvalues, got {values[0]:.3g}")
    vectors = vectors * np.where(np.abs(vectors).max(axis=0) == vectors.max(axis=0), 1, -1)  # signs are nobody's choice
    root = vectors * np.sqrt(values)
    return root / np.linalg.norm(root, axis=1).max()


class FourierImages:
    """Coefficients (n, c, h, w // 2 + 1, 2) -> pixels (n, c, h, w) between 0 and 1."""

    def __init__(self, search: ImageSearch, shape: tuple[int, int, int], device: torch.device) -> None:
        c, h, w = shape
        self._shape = shape
        radius = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w))
        weight = np.maximum(radius, 1 / max(h, w)) ** -search.decay / 4
        self._weight = torch.tensor(weight, dtype=torch.float32, device=device)
        self._mixing = None if c == 1 else torch.tensor(search.mixing(c), dtype=torch.float32, device=device)

    def start(self, generator: np.random.Generator) -> NDArray[np.float32]:
        """(c, h, w // 2 + 1, 2) of one image, near grey."""
        c, h, w = self._shape
        return generator.standard_normal((c, h, w // 2 + 1, 2), dtype=np.float32) * np.float32(_START)

    def coefficients(self, images: Tensor) -> Tensor:
        """(n, c, h, w // 2 + 1, 2) of given pixels, first held between 0.01 and 0.99."""
        independent = torch.logit(images.double().clamp(0.01, 0.99))
        if self._mixing is not None:
            back = torch.linalg.inv(self._mixing.double())
            independent = torch.einsum("ij,njhw->nihw", back, independent)
        spectrum = torch.fft.rfft2(independent, norm="ortho") / self._weight
        return torch.view_as_real(spectrum).float()

    def __call__(self, coefficients: Tensor) -> Tensor:
        """Pixels."""
        return _Pixels.apply(coefficients, self._weight, self._mixing, self._shape[2])


class _Pixels(torch.autograd.Function):
    """What `FourierImages` says, and its derivative in one transform: autograd's takes twice as long."""

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, weight: Tensor, mixing: Tensor | None, width: int) -> Tensor:
        rows = torch.fft.ifft(torch.view_as_complex(coefficients) * weight, dim=-2, norm="ortho")
        own = _own_twins(width)
        torch.view_as_real(rows)[..., own, 1] = 0  # not every transform leaves out what no real image has
        pixels = torch.fft.irfft(rows, n=width, dim=-1, norm="ortho")
        if mixing is not None:
            pixels = (mixing @ pixels.flatten(2)).view(pixels.shape)
        pixels = pixels.sigmoid_()
        ctx.save_for_backward(pixels, weight, mixing)
        return pixels

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        pixels, weight, mixing = ctx.saved_tensors
        slope = (1 - pixels).mul_(pixels).mul_(grads[0])
        if mixing is not None:
            slope = (mixing.T @ slope.flatten(2)).view(pixels.shape)
        twice = 2 * weight  # a coefficient stands for its twin, too
        own = _own_twins(pixels.shape[-1])
        twice[:, own] = weight[:, own]
        return torch.view_as_real(torch.fft.rfft2(slope, norm="ortho").mul_(twice)), None, None, None


def _own_twins(width: int) -> list[int]:
    """Columns kx = 0 and w / 2, whose twins are in them: real images have no imaginary part of their own there."""
    return [0] if width % 2 else [0, width // 2]


def draw_moves(
    search: ImageSearch, shape: tuple[int, int, int], generator: np.random.Generator
) -> NDArray[np.float32] | None:
    """(steps, 2, 3) affine maps of `torch.nn.functional.affine_grid`, one a step; None where images stay."""
    jitter = _JITTER if search.jitter is None else search.jitter
    if not (jitter or search.scale or search.rotation):
        return None
    _, h, w = shape
    drawn = generator.uniform(-1, 1, (search.steps, 4))
    angle = drawn[:, 0] * math.radians(search.rotation)
    size = (1 + search.scale) ** drawn[:, 1]
    cosine, sine = size * np.cos(angle), size * np.sin(angle)
    shift = 2 * drawn[:, 2:] * jitter * min(h, w)
    moves = [[cosine, -sine * h / w, shift[:, 1] / w], [sine * w / h, cosine, shift[:, 0] / h]]
    return np.array(moves, dtype=np.float32).transpose(2, 0, 1)


def moved(images: Tensor, moves: Tensor) -> Tensor:
    """Images under affine maps (n, 2, 3), bilinear, reflected at the border."""
    h, w = images.shape[2:]
    y, x = ((2 * torch.arange(n, device=moves.device) + 1) / n - 1 for n in (h, w))
    # sums of a row's and a column's part: `affine_grid` takes a product of matrices, three times as long
    rows, columns = moves[..., 1:2] * y + moves[..., 2:3], moves[..., 0:1] * x
    grid = moves.new_empty(len(images), h, w, 2)
    for i in (0, 1):
        torch.add(rows[:, i, :, None], columns[:, i, None, :], out=grid[..., i])
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def penalty(images: Tensor, search: ImageSearch) -> Tensor | None:
    """(n,) what is held against images; None where nothing is.

    Source: Mahendran, Vedaldi 2016, section 3.
    """
    total = None
    if search.total_variation:
        x = 255 * images
        down, right = x.diff(dim=-2).square().sum(dim=(1, 2, 3)), x.diff(dim=-1).square().sum(dim=(1, 2, 3))
        pixels = images.shape[-2] * images.shape[-1]
        total = (down + right) * (search.total_variation / (pixels * _VARIATION**2))
    if search.alpha_norm:
        # divided first: 127.5^6 and its like are large
        squares = ((255 * images - 127.5) / _BOUND).square().sum(dim=1)
        bounded = squares.pow(search.alpha / 2).mean(dim=(1, 2)) * search.alpha_norm
        total = bounded if total is None else total + bounded
    return total


def high_frequency_share(image: NDArray[np.float32]) -> float:
    """Share of the energy of an image (c, h, w), its mean left out, above 1/4 cycle per pixel; 0 for a flat one."""
    _, h, w = image.shape
    energy = np.square(np.abs(np.fft.fft2(image.astype(np.float64)))).sum(axis=0)
    energy[0, 0] = 0
    radius = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w))
    total = energy.sum()
    return float(energy[radius > 0.25].sum() / total) if total > 1e-12 * image.size**2 else 0.0
