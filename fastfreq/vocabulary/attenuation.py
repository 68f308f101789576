"""What averaging a function over a sphere or a ball leaves of each of its frequencies."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def sphere_attenuation(frequency: ArrayLike, *, radius: float, dimensions: int) -> FloatArray:
    """Factor on each frequency of a function on R^n that is averaged over a sphere of radius r around every point.

    exp(i <w, x>) becomes A(r |w|) exp(i <w, x>), A(z) = Gamma(n/2) (2/z)^(n/2 - 1) J_{n/2 - 1}(z) = E cos(z t), t the
    first coordinate of a uniform point of the unit sphere. In many dimensions A is about exp(-(r |w|)^2 / (2 n)): what
    Gaussian noise with a standard deviation of r / sqrt(n) per coordinate leaves.

    The expectation is a trapezoidal rule over the angle theta, t = cos(theta), with more nodes than the integrand has
    frequencies: no Gamma or Bessel function that could overflow, whatever n. Absolute error at most 1e-12.

    Args:
        frequency: |w|, any shape, in radians per unit of length; a function of images has n = c h w dimensions, and w
            is a direction in the space of images, not a wave across one image.
        radius: r, in the unit of length, at least 0.
        dimensions: n, at least 1.

    Returns:
        Factors in [-1, 1] of the shape of `frequency`.

    Raises:
        ValueError: a negative radius, a dimension below 1, or frequencies that are not finite.

    Source: Lin, Jiang 2019, "Bandlimiting Neural Networks Against Adversarial Attacks", section 4; Stein, Weiss 1971,
        chapter IV, theorem 3.3.
    """
    if not (math.isfinite(radius) and radius >= 0):
        raise ValueError(f"expected a `radius` of at least 0, got {radius!r}")
    if dimensions < 1:
        raise ValueError(f"expected at least one of `dimensions`, got {dimensions}")
    z = np.abs(np.asarray(frequency, dtype=np.float64)) * radius
    if not np.isfinite(z).all():
        raise ValueError("expected finite frequencies, got NaN or infinity")
    if dimensions == 1:
        return np.cos(z)
    cosines, weights = _nodes(dimensions, float(z.max(initial=0.0)))
    return np.array([np.cos(each * cosines) @ weights for each in z.reshape(-1)]).reshape(z.shape)


def ball_attenuation(frequency: ArrayLike, *, radius: float, dimensions: int) -> FloatArray:
    """The same for the average over a full ball: Gamma(n/2 + 1) (2/z)^(n/2) J_{n/2}(z), z = r |w|.

    That is the sphere's factor two dimensions up, as the first n coordinates of a uniform point of the sphere in n + 2
    dimensions are uniform in the ball. Arguments, range and errors are those of `sphere_attenuation`.

    Source: Lin, Jiang 2019, section 4; Barthe, Guedon, Mendelson, Naor 2005, corollary 4.
    """
    if dimensions < 1:
        raise ValueError(f"expected at least one of `dimensions`, got {dimensions}")
    return sphere_attenuation(frequency, radius=radius, dimensions=dimensions + 2)


def _nodes(n: int, largest: float) -> tuple[FloatArray, FloatArray]:
    """Cosines of equally spaced angles and their weights, of sum 1, for the density sin(theta)^(n - 2).

    cos(z cos theta) has frequencies up to about z, the power of the sine up to about its square root. An odd power is
    a sine, replaced by as much of its Fourier series as the nodes resolve, times an even one.
    """
    bandlimit = largest + 12 * largest ** (1 / 3) + 12 * math.sqrt(n)
    m = 2 * int(bandlimit / 2) + 65
    angles = (np.arange(m) + 0.5) * (math.pi / m)
    even = n - 2 - n % 2
    weights = np.exp(even * np.log(np.sin(angles)))
    if n % 2:
        k = np.fft.fftfreq(m, 1 / m)
        weights = weights * np.fft.ifft(np.exp(1j * np.pi * k / m) / (1 - 4 * k**2)).real
    return np.cos(angles), weights / weights.sum()
