"""The FP-norm: how much a function costs a wide network, and what it says of the error between samples."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from fastfreq.vocabulary import numbers

from .lfp_kernel import LFPKernel


def fp_norm(values: ArrayLike, *, kernel: LFPKernel, period: float = 1.0) -> float:
    """||f||_gamma = (sum over k != 0 of |f^(k)|^2 / gamma^2(k / period))^(1/2) of a periodic function.

    The constant costs nothing: 1 / gamma(0) is 0. High frequencies cost most, |k|^((d+1)/2) to |k|^((d+3)/2).

    Args:
        values: (N_1, .., N_d) of the function on a grid over one period, its end left out.
        kernel: whose gamma; the one of `TwoLayerReLU.limit_kernel(published=True)`.
        period: of the function.

    Raises:
        ValueError: another number of axes, NaN, or a function that the grid is too coarse for: a part of it stands at
            the largest frequency, whose sign a grid does not tell.

    Source: Zhang, Xu, Luo, Ma 2019 (arXiv 1905.10264), our reading.
    """
    given = numbers.as_array("values", values)
    if given.ndim != kernel.dimension or not given.size or not np.isfinite(given).all():
        raise ValueError(f"expected finite `values` on a grid of {kernel.dimension} axes, got shape {given.shape}")
    length = numbers.as_float("period", period)
    if not length > 0:
        raise ValueError(f"expected a `period` above 0, got {period}")
    energy = np.square(np.abs(np.fft.fftn(given, norm="forward"))).reshape(-1)
    axes = [np.fft.fftfreq(n, 1 / n) for n in given.shape]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, given.ndim)
    highest = (2 * grid == -np.array(given.shape)).any(axis=1)  # of even sides, where k and -k are one
    if energy[highest].sum() > 1e-6 * energy[1:].sum():
        raise ValueError(
            "expected a grid that resolves the function, a part of it stands at the largest frequency: give more "
            "values per period"
        )
    return math.sqrt(float((energy[1:] / kernel.gamma_squared(grid[1:] / length)).sum()))


def generalization_bound(
    norm: float, *, kernel: LFPKernel, samples: int, largest: float, confidence: float = 0.95
) -> float:
    """What the mean absolute error of the interpolation with least FP-norm stays below, before it is measured.

    With that confidence over independent uniform samples on the torus of period 1,
    E|h - f| <= (||f||_inf + 2 ||f - h_ini||_gamma ||gamma||_l2) (2 / sqrt(M) + 4 sqrt(2 log(4 / delta) / M)).
    It is a bound of the worst case: expect errors some orders of magnitude below.

    Args:
        norm: ||f - h_ini||_gamma, of `fp_norm` with period 1.
        kernel: whose gamma.
        samples: M.
        largest: ||f||_inf.
        confidence: 1 - delta.

    Raises:
        ValueError: arguments outside their ranges.

    Source: Zhang, Xu, Luo, Ma 2019 (arXiv 1905.10264), our reading, with 1 / gamma(0) = 0.
    """
    count = numbers.as_int("samples", samples)
    sizes = [numbers.as_float(name, value) for name, value in (("norm", norm), ("largest", largest))]
    if count < 1 or min(sizes) < 0 or not 0 < numbers.as_float("confidence", confidence) < 1:
        raise ValueError(
            f"expected `samples` of at least 1, `norm` and `largest` of at least 0 and `confidence` between 0 and 1, "
            f"got {samples}, {norm}, {largest} and {confidence}"
        )
    ball = sizes[1] + 2 * sizes[0] * kernel.gamma_l2()
    return ball * (2 / math.sqrt(count) + 4 * math.sqrt(2 * math.log(4 / (1 - confidence)) / count))
