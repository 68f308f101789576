"""Random waves in a band of frequencies, added to images while a network is trained."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Literal

import fastfreq_kernels as kernels
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastfreq.vocabulary import checks, fourier, streams
from fastfreq.vocabulary.conventions import Convention, resolve

Spread = Literal["frequencies", "radii"]
_KEYS = 1 << 62


@dataclasses.dataclass(frozen=True)
class FourierAugmentation:
    """x~ = clip(x + s eps U_k) with a random frequency k, random signs s and a random strength for every image.

    A transform of one image or of a batch, with pixels in [0, 1], before normalisation::

        augment = ff.FourierAugmentation(eps=(0, 4.0), band=(4, 12))
        logits = net(augment(images))

    U_k is the Fourier basis image of unit L2 norm, as in `heatmap`. The object holds no random state. Everything drawn
    for an image is a function of its key alone, whatever its batch; keys that are not given are drawn from `generator`,
    or from torch's global generator, which torch.manual_seed sets and which a DataLoader seeds anew in every worker
    and epoch: in a dataset, two workers never add the same waves.

    Attributes:
        eps: L2 norm of the wave in each channel, in pixels of [0, 1] before clipping; (low, high) draws it uniformly.
        band: (low, high) radii of the frequencies, low <= |k| < high, in cycles per image (per shorter side where
            sides differ); None for all.
        spread: "frequencies", uniform over the frequencies of the band, of which there are more at higher radii; or
            "radii", every ring of one cycle equally often.
        probability: with which an image gets a wave at all.
        convention: phase, signs and clipping: "yin2019", "fhmap", "rai", or a Convention.

    Raises:
        ValueError: a strength, band, spread or probability other than these.

    Source: perturbation of Yin et al. 2019; as an augmentation, Vaish, Wang, Strisciuglio 2024, "Fourier-basis
        Functions to Bridge Augmentation Gap: Rethinking Frequency Augmentation in Image Classification".
    """

    eps: float | tuple[float, float]
    band: tuple[float, float] | None = None
    spread: Spread = "frequencies"
    probability: float = 1.0
    convention: str | Convention = "yin2019"

    def __post_init__(self) -> None:
        low, high = self._strengths
        if not 0 <= low <= high < math.inf or high <= 0:
            raise ValueError(
                f"expected `eps`, the L2 norm per channel in pixels of [0, 1], positive or (low, high) with "
                f"0 <= low <= high, got {self.eps!r}"
            )
        if self.band is not None and not 0 <= self.band[0] < self.band[1]:
            raise ValueError(f"expected a `band` (low, high) of radii with 0 <= low < high, got {self.band!r}")
        if self.spread not in ("frequencies", "radii"):
            raise ValueError(f"expected `spread` of 'frequencies' or 'radii', got {self.spread!r}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"expected a `probability` from 0 to 1, got {self.probability!r}")
        resolve(self.convention)

    @property
    def _strengths(self) -> tuple[float, float]:
        return self.eps if isinstance(self.eps, tuple) else (self.eps, self.eps)

    def __call__(
        self, images: Tensor, *, keys: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """The images with their waves.

        Args:
            images: (n, c, h, w), or one (c, h, w): float32, bfloat16 or float16 in [0, 1], or uint8.
            keys: (n,) int64, of which all that is drawn is a function, such as epoch * size + index; None draws them.
            generator: on the CPU, that keys are drawn from; None for torch's global one.

        Returns:
            Like `images`; float32 in [0, 1] for uint8.

        Raises:
            ValueError: images of another shape or range, no frequency in the band, or keys of another shape.
            TypeError: images or keys of another type.
        """
        if images.ndim == 3:
            return self(images[None], keys=keys, generator=generator)[0]
        checks.check_images(images)
        n, c, h, w = images.shape
        if keys is None:
            keys = torch.randint(_KEYS, (n,), generator=generator)
        elif generator is not None:
            raise ValueError("expected `keys` or a `generator` to draw them from, got both")
        if keys.shape != (n,):
            raise ValueError(f"expected `keys` of shape ({n},), one per image, got {tuple(keys.shape)}")
        frequencies, strengths, signs = self._draw(keys.to(images.device, non_blocking=True), (c, h, w))
        convention = resolve(self.convention)
        dtype = torch.float32 if images.dtype == torch.uint8 else images.dtype
        return kernels.fourier_waves(
            images,
            frequencies,
            signs,
            strengths=strengths,
            phase=convention.phase,
            clip=convention.clip,
            dtype=dtype,
        )

    def _draw(self, keys: Tensor, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Frequency (n, 2), strength and signs (n, c) of each image; sign 0 for images that get no wave."""
        c, h, w = shape
        blocks = -(-(c + 3) // 256)  # whole groups of numbers are drawn for many images at once
        domain = streams.domain("augmentation")
        uniform = kernels.gaussian_noise(keys, (16, 4, 4 * blocks), seed=0, domain=domain).flatten(1).double()
        uniform = (1 + torch.erf(uniform / math.sqrt(2))) / 2
        convention = resolve(self.convention)
        choices, cumulated = _choices_on(keys.device, (h, w), self.band, self.spread, convention.phase_of)
        index = torch.searchsorted(cumulated, uniform[:, 0].contiguous(), right=True)
        frequencies = choices[index.clamp_max(len(choices) - 1)]
        low, high = self._strengths
        strengths = low + (high - low) * uniform[:, 1]
        signs = torch.where(uniform[:, 3 : 3 + c] < 0.5, -1, 1).to(torch.int8)
        mode = convention.signs
        if mode == "image":
            signs = signs[:, :1].expand(-1, c)
        elif mode == "none":
            signs = torch.ones_like(signs)
        return frequencies, strengths, signs * (uniform[:, 2:3] < self.probability)


@functools.lru_cache(maxsize=32)
def _choices_on(
    device: torch.device,
    shape: tuple[int, int],
    band: tuple[float, float] | None,
    spread: Spread,
    phase_of: fourier.PhaseOf,
) -> tuple[Tensor, Tensor]:
    """`_choices`, on a device, which is waited for once."""
    choices, cumulated = _choices(shape, band, spread, phase_of)
    return torch.from_numpy(choices).to(device), torch.from_numpy(cumulated).to(device)


def _choices(
    shape: tuple[int, int], band: tuple[float, float] | None, spread: Spread, phase_of: fourier.PhaseOf
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The (f, 2) frequencies of a band, that member of k and -k with the phase, and cumulated probabilities (f,)."""
    every, _ = fourier.unique_frequencies(shape)
    radii = fourier.radius(every, shape)
    low, high = (0.0, math.inf) if band is None else band
    chosen = every[(radii >= low) & (radii < high)]
    if not len(chosen):
        raise ValueError(
            f"expected a `band` with frequencies of {shape[0]} x {shape[1]} images, whose radii end at "
            f"{radii.max():.4g}; got {band}"
        )
    weights = fourier.multiplicity(chosen, shape).astype(np.float64)
    if spread == "radii":
        rings = fourier.ring(chosen, shape)
        weights /= np.bincount(rings, weights)[rings]
    return fourier.oriented(chosen, shape, phase_of), np.cumsum(weights) / weights.sum()
