"""What the experiments read off functions on uniform grids: waves in them, when these are learnt, radial spectra."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfreq.vocabulary import numbers, statistics, streams

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
Curve = Callable[[FloatArray], Any]


def uniform(samples: int) -> FloatArray:
    """(n,) places of [0, 1), the end left out, so that whole frequencies are periodic on them."""
    return np.arange(samples) / samples


def check_waves(frequencies: Sequence[int], samples: int) -> tuple[NDArray[np.int64], int]:
    """(frequencies, samples) where every frequency is a whole one below half of the samples.

    Raises:
        ValueError: one is not, or they do not ascend.
    """
    k = numbers.ascending("frequencies", frequencies, numbers.as_int)
    n = numbers.as_int("samples", samples)
    if k[0] < 1 or 2 * k[-1] >= n:
        raise ValueError(
            f"expected `frequencies` from 1 and below half of the {n} samples, got {k[0]} to {k[-1]}; "
            f"take more `samples`"
        )
    return np.array(k, dtype=np.int64), n


def waves(values: FloatArray, frequencies: NDArray[np.int64]) -> ComplexArray:
    """(..., k) coefficients c_k = (2 / n) sum_z f(z) exp(-2 pi i k z) on the grid z of `uniform`.

    |c_k| of A sin(2 pi k z + phi) is A.

    Args:
        values: (..., n) of f.
        frequencies: (k,) whole ones, 0 < k < n / 2.
    """
    return 2 / values.shape[-1] * np.fft.rfft(values, axis=-1)[..., frequencies]


def sum_of_sinusoids(z: FloatArray, frequencies: FloatArray, amplitudes: FloatArray, phases: FloatArray) -> FloatArray:
    """(n,) sum_i A_i sin(2 pi k_i z + phi_i).

    Source: Rahaman et al. 2019.
    """
    return np.sin(2 * np.pi * z[:, None] * frequencies + phases) @ amplitudes


def phases(seed: int, count: int) -> FloatArray:
    """(count,) uniform on [0, 2 pi), the same first ones for any count."""
    generator = streams.generator("training", seed)
    generator.integers(2**63)  # the first number seeds the network
    return 2 * np.pi * generator.random(count)


def check_target(target: Curve, z: FloatArray) -> FloatArray:
    """(n,) values of a caller's function of z.

    Raises:
        ValueError: another shape, or NaN.
    """
    if not callable(target):
        raise TypeError(f"expected `target` as a function of z, got {type(target).__name__}")
    values = numbers.as_array("target", target(z.copy()))
    if values.shape != z.shape or not np.isfinite(values).all():
        raise ValueError(f"expected `target` to give {len(z)} finite values of z, got shape {values.shape}")
    return values


def first_hit(reached: NDArray[np.bool_], steps: NDArray[np.int64], *, hold: int = 1) -> FloatArray:
    """(k,) the first step from which `reached` (t, k) holds for `hold` records in a row; inf where none.

    A run of records that the end cuts short counts where it lasts to the end.
    """
    hold = numbers.as_int("hold", hold)
    if hold < 1:
        raise ValueError(f"expected a `hold` from 1, got {hold}")
    padded = np.concatenate([reached, np.repeat(reached[-1:], hold - 1, axis=0)])
    lasting = np.stack([padded[i : i + hold].all(axis=0) for i in range(len(reached))])
    return np.where(lasting.any(axis=0), steps[lasting.argmax(axis=0)].astype(np.float64), np.inf)


def order(frequencies: Any, values: FloatArray) -> float:
    """Spearman's rank correlation of values with frequency; frequencies never reached (inf) are the last, as equals."""
    return statistics.rank_correlation(frequencies, values)


def radial_amplitude(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(radius, amplitude): root mean square of |Fourier coefficient| over rings of whole radius, of fields (..., n, n).

    Fields are freed of their mean and multiplied by Hann's window on both axes: without it the edges of a field that
    is not periodic add a line that falls as 1 / k, whatever the field. Coefficients are those of the orthonormal DFT;
    rings are from 1 to below n / 2.
    """
    n = values.shape[-1]
    window = np.hanning(n + 1)[:n]
    weight = np.outer(window, window)
    centred = values - (values * weight).sum(axis=(-2, -1), keepdims=True) / weight.sum()
    power = np.abs(np.fft.fft2(centred * weight, norm="ortho")) ** 2
    k = np.fft.fftfreq(n, 1 / n)
    ring = np.rint(np.hypot(k[:, None], k[None])).astype(np.int64)
    radius = np.arange(1, (n + 1) // 2)
    mean = np.stack([power[..., ring == r].mean(axis=-1) for r in radius], axis=-1)
    return radius.astype(np.float64), np.sqrt(mean)
