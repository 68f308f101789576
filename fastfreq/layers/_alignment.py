"""How activations at a frequency lie to the singular vectors that a layer keeps there."""

from __future__ import annotations

import dataclasses

import fastfreq_kernels as kernels
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._gram_vectors import principal_directions, right_vectors
from ._latent import symbol_matrices
from .symbols import Symbols

RANK = 1e-10  # of the largest eigenvalue: eigenvectors below it are rounding
FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Aligned:
    """Figures of f frequencies, sums over inputs; see `LayerActivations`.

    Attributes:
        eigenvalues: (f, r) descending.
        kept_energy: (f,).
        output_energy: (f,).
        kept_output_energy: (f,).
        angles: (f, m) ascending, NaN beyond those there are.
    """

    eigenvalues: FloatArray
    kept_energy: FloatArray
    output_energy: FloatArray
    kept_output_energy: FloatArray
    angles: FloatArray


class Alignment:
    """One layer's singular vectors beside second moments of its input."""

    def __init__(self, symbols: Symbols) -> None:
        self.symbols = symbols
        self.shared = self._vectors(symbols.frequencies) if symbols.constant else None

    def __call__(
        self, data: Tensor, frequencies: NDArray[np.int64], counts: NDArray[np.int64], *, factor: bool
    ) -> Aligned:
        """Figures at (f, d) frequencies.

        Args:
            data: (f, c, n) inputs as columns with `factor`, else (f, c, c) their sum of outer products.
            frequencies: (f, d).
            counts: (f,) singular values kept at each.
            factor: which of the two `data` is.
        """
        directions, eigenvalues = principal_directions(data, factor=factor)
        values, right = self.shared or self._vectors(torch.from_numpy(frequencies).to(data.device))
        groups, _, rank, inputs = right.shape
        grouped = directions.reshape(len(data), groups, inputs, -1).transpose(0, 1)
        parts = (right @ grouped).transpose(0, 1).reshape(len(data), groups * rank, -1)  # (f, g r, n) v^H e
        strength = values.transpose(0, 1).reshape(-1, groups * rank).expand(len(data), -1)
        order = strength.argsort(dim=1, descending=True, stable=True)
        strength = strength.gather(1, order)
        parts = parts.gather(1, order[:, :, None].expand_as(parts))
        wanted = torch.from_numpy(counts).to(data.device)
        kept = torch.arange(groups * rank, device=data.device) < wanted[:, None]
        energy = ((parts.real.square() + parts.imag.square()) * eigenvalues[:, None]).sum(dim=2)
        passed = strength.square() * energy
        return Aligned(
            eigenvalues=eigenvalues.cpu().numpy(),
            kept_energy=(energy * kept).sum(dim=1).cpu().numpy(),
            output_energy=passed.sum(dim=1).cpu().numpy(),
            kept_output_energy=(passed * kept).sum(dim=1).cpu().numpy(),
            angles=_angles(parts, kept, eigenvalues, wanted),
        )

    def _vectors(self, frequencies: Tensor) -> tuple[Tensor, Tensor]:
        """(g, f, r) singular values and (g, f, r, b) right singular vectors, conjugated."""
        return right_vectors(symbol_matrices(self.symbols, frequencies))


def _angles(parts: Tensor, kept: Tensor, eigenvalues: Tensor, wanted: Tensor) -> FloatArray:
    """Principal angles between the kept right singular vectors and as many leading directions of the inputs."""
    most = int(wanted.max())
    if not most:
        return np.full((len(parts), 0), np.nan)
    resolved = (eigenvalues > RANK * eigenvalues[:, :1]).sum(dim=1)
    leading = torch.arange(parts.shape[2], device=parts.device) < torch.minimum(wanted, resolved)[:, None]
    overlap = parts[:, :most] * kept[:, :most, None] * leading[:, None]
    cosines = kernels.channel_singular_values(overlap[:, :, : min(most, parts.shape[2])])
    angles = torch.acos(cosines.clamp(max=1)).cpu().numpy()
    known = np.arange(angles.shape[1]) < torch.minimum(wanted, resolved).cpu().numpy()[:, None]
    return np.where(known, angles, np.nan)
