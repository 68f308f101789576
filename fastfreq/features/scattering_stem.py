"""A first layer of moduli of Morlet wavelets: the scattering transform, without SciPy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from fastfreq.vocabulary import numbers

from .fixed_layer import FixedLayer, as_images, like

__all__ = ["ScatteringStem", "scattering_stem"]

_MOST_SCALES = 30
_ALIASES = 2  # periods of the spectrum that a sampled Gaussian is summed over, on each side


def scattering_stem(size: tuple[int, int], *, scales: int = 2, orientations: int = 8, order: int = 2) -> ScatteringStem:
    """A fixed first layer that hardly changes when its input moves: the scattering transform.

    S0 = x * phi, S1 = |x * psi_a| * phi, S2 = ||x * psi_a| * psi_b| * phi with Morlet wavelets psi of 2^j pixels, j =
    0 .. J - 1, and L orientations over half a turn, b of a coarser scale than a, and the Gaussian phi of 2^J pixels;
    everything is sampled at every 2^J-th pixel, images are mirrored at their edges. As a module it gives maps
    (n, c m, h', w'), h' = h / 2^J rounded up, m = 1 + J L + L^2 J (J - 1) / 2, those of a channel together: S0, S1 by
    scale and orientation, S2 by both pairs.

    As in kymatio, x * psi of scale j is taken at every 2^j-th pixel before its modulus, where it aliases: from j = 1 on
    maps of noise are off from the formula by up to 5 % of their largest value.

    Takes any number of channels, float64, float32 and half precision (computed in float32), and lets gradients
    through.

    Args:
        size: (h, w) of the images, at least 2^(J + 1); filters are made for it.
        scales: J.
        orientations: L.
        order: 1 leaves S2 out.

    Raises:
        ValueError: images that are too small for J, or, when called, of another size.
        TypeError: a number that is no integer.

    Source: Bruna, Mallat 2013; filters (sigma = .8 2^j, xi = 3 pi / 4 / 2^j, slant 4 / L) as in kymatio.
    """
    return ScatteringStem(size, scales, orientations, order)


class ScatteringStem(FixedLayer):
    """What `scattering_stem` makes."""

    def __init__(self, size: tuple[int, int], scales: int, orientations: int, order: int) -> None:
        h, w = numbers.as_ints("size", size, of="(h, w)")
        self.scales, self.orientations = numbers.as_int("scales", scales), numbers.as_int("orientations", orientations)
        if self.scales < 1 or self.orientations < 1:
            raise ValueError(f"expected `scales` and `orientations` of at least 1, got {scales} and {orientations}")
        order = numbers.as_int("order", order)
        if order not in (1, 2):
            raise ValueError(f"expected `order` 1 or 2, got {order}")
        if self.scales > _MOST_SCALES:
            raise ValueError(
                f"expected at most {_MOST_SCALES} `scales`, got {self.scales}; no image has sides for more"
            )
        if min(h, w) < 2 << self.scales:
            raise ValueError(
                f"expected sides of at least {2 << self.scales} for {self.scales} scales, got {(h, w)}; take fewer "
                f"scales or larger images"
            )
        super().__init__(f"scattering stem of {h} x {w}, {scales} scales, {orientations} orientations, order {order}")
        self.size, self.order = (h, w), order
        step = 1 << self.scales
        self._grid = tuple((-(-side // step) + 2) * step for side in (h, w))
        self._filters = {name: make() for name, make in self._makers()}
        for name, values in self._filters.items():
            self.register_buffer(name, torch.from_numpy(values).float(), persistent=False)

    def _makers(self) -> list[tuple[str, Callable[[], NDArray[np.float64]]]]:
        """phi_r and psi_r_j: those of scale j on a grid that is 2^r coarser are those of scale j - r there."""
        found: list[tuple[str, Callable[[], NDArray[np.float64]]]] = []
        for r in range(self.scales):
            grid = tuple(side >> r for side in self._grid)
            found.append((f"phi_{r}", lambda grid=grid, j=self.scales - 1 - r: _gaussian(grid, 0.8 * 2**j)))
            for j in range(r + 1 if r else 0, self.scales):
                found.append((f"psi_{r}_{j}", lambda grid=grid, j=j - r: _morlets(grid, j, self.orientations)))
        return found

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Filters follow to a device, and to float64 from their own float64; no FFT takes half precision."""
        super()._apply(fn, recurse)
        for name, values in self._filters.items():
            moved = self.get_buffer(name)
            dtype = torch.float64 if moved.dtype == torch.float64 else torch.float32
            if not moved.is_meta:
                setattr(self, name, torch.from_numpy(values).to(moved.device, dtype))
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c m, h', w')."""
        x = as_images(images)
        if x.shape[2:] != self.size:
            raise ValueError(
                f"expected images of {self.size[0]} x {self.size[1]}, for which the filters were made, got "
                f"{tuple(x.shape[2:])}; make another scattering_stem, or resize the images"
            )
        step = 1 << self.scales
        if not len(x):  # MKL refuses transforms of nothing
            maps = 1 + self.scales * self.orientations
            maps += (self.order == 2) * self.orientations**2 * self.scales * (self.scales - 1) // 2
            return images.new_zeros(0, x.shape[1] * maps, *(side // step - 2 for side in self._grid))
        sides = [
            edge
            for side, all_of_it in zip(self.size[::-1], self._grid[::-1], strict=True)
            for edge in (step, all_of_it - step - side)
        ]
        spectrum = torch.fft.fft2(pad(x, sides, mode="reflect"))
        maps = [self._smooth(spectrum, 0)[:, :, None]]
        second = []
        for a in range(self.scales):
            first = self._moduli(spectrum, 0, a)
            maps.append(self._smooth(first, a))
            if self.order == 2:
                for b in range(a + 1, self.scales):
                    second.append(self._smooth(self._moduli(first, a, b), b).flatten(2, 3))
        found = torch.cat([*maps, *second], dim=2)[..., 1:-1, 1:-1]
        return like(found.flatten(1, 2), images)

    def codes(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c m h' w')."""
        return self(images).flatten(1)

    def _moduli(self, spectrum: Tensor, r: int, j: int) -> Tensor:
        """Of u on a grid that is 2^r coarser than the image's: spectra of |u * psi_j|, on one that is 2^j coarser."""
        filtered = spectrum[..., None, :, :] * self.get_buffer(f"psi_{r}_{j}").to(spectrum.real.dtype)
        return torch.fft.fft2(torch.fft.ifft2(_folded(filtered, 1 << (j - r))).abs())

    def _smooth(self, spectrum: Tensor, r: int) -> Tensor:
        """Of u: u * phi at every 2^J-th pixel of the image."""
        filtered = spectrum * self.get_buffer(f"phi_{r}").to(spectrum.real.dtype)
        return torch.fft.ifft2(_folded(filtered, 1 << (self.scales - r))).real


def _folded(spectrum: Tensor, step: int) -> Tensor:
    """The spectrum of every `step`-th sample: the mean over the frequencies that alias to one."""
    h, w = spectrum.shape[-2:]
    return spectrum.unflatten(-1, (step, w // step)).unflatten(-3, (step, h // step)).mean(dim=(-2, -4))


def _gaussian(
    grid: tuple[int, ...], sigma: float, *, slant: float = 1.0, theta: float = 0.0, xi: float = 0.0
) -> NDArray[np.float64]:
    """(h, w) the DFT of a sampled Gaussian of sum 1, sigma pixels wide along theta and sigma / slant across it, at xi.

    Its transform is exp(-sigma^2 (a^2 + b^2 / slant^2) / 2), a and b the parts of the frequency less xi along theta and
    across; sampling sums it over periods of 2 pi.
    """
    frequencies = [2 * np.pi * np.fft.fftfreq(side) for side in grid]
    total = np.zeros(grid)
    for i, j in itertools.product(range(-_ALIASES, _ALIASES + 1), repeat=2):
        y = frequencies[0][:, None] + 2 * np.pi * i - xi * math.cos(theta)
        x = frequencies[1][None, :] + 2 * np.pi * j - xi * math.sin(theta)
        along, across = y * math.cos(theta) + x * math.sin(theta), x * math.cos(theta) - y * math.sin(theta)
        total += np.exp(-(sigma**2) * (along**2 + (across / slant) ** 2) / 2)
    return total


def _morlets(grid: tuple[int, ...], j: int, orientations: int) -> NDArray[np.float64]:
    """(L, h, w) DFTs of Morlet wavelets of mean 0: a wave times a Gaussian, less as much of the Gaussian."""
    sigma, xi, slant = 0.8 * 2**j, 3 * math.pi / 4 / 2**j, 4 / orientations
    found = []
    for i in range(orientations):
        theta = (int(orientations - orientations / 2 - 1) - i) * math.pi / orientations
        wave = _gaussian(grid, sigma, slant=slant, theta=theta, xi=xi)
        envelope = _gaussian(grid, sigma, slant=slant, theta=theta)
        found.append(wave - wave[0, 0] / envelope[0, 0] * envelope)
    return np.stack(found)
