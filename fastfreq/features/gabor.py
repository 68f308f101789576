"""Gabor functions fitted to patterns: where a filter's wave runs, how fine it is, how far it reaches."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastfreq.results import codec

FloatArray = NDArray[np.float64]
SMALLEST = 5  # side of a pattern: fewer numbers fit eight parameters too well
_HALF = math.sqrt(2 * math.log(2))  # of a Gaussian's deviation: where it is a half
_STEPS, _SMALL_ENOUGH = 80, 1e-10
_BLOCK = 1 << 18  # numbers that are fitted at a time


@codec.record
@dataclasses.dataclass(frozen=True, eq=False)
class Gabors:
    """A exp(-u^2 / 2 su^2 - v^2 / 2 sv^2) cos(2 pi f u + phase) for each pattern; u runs along the wave, v across.

    All of them NaN for patterns that are zero or below 5 x 5.

    Attributes:
        orientation: (u,) degrees in [0, 180) from the rows to the wave vector, atan2(ky, kx) with ky downwards: 0 for
            upright stripes, 90 for lying ones.
        frequency: (u,) f in cycles per pixel.
        centre: (u, 2) row and column of the middle.
        reach: (u, 2) su and sv in pixels.
        amplitude: (u,) A.
        phase: (u,) radians at the centre.
        residual: (u,) share of the pattern's energy that is not in the Gabor function.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "orientation": "u", "frequency": "u", "centre": "u 2", "reach": "u 2", "amplitude": "u", "phase": "u",
        "residual": "u",
    }  # fmt: skip

    orientation: FloatArray
    frequency: FloatArray
    centre: FloatArray
    reach: FloatArray
    amplitude: FloatArray
    phase: FloatArray
    residual: FloatArray

    @property
    def bandwidth(self) -> FloatArray:
        """(u,) octaves between the frequencies at which the amplitude is half the largest; inf where zero is inside.

        log2 (f + d) / (f - d) with d = sqrt(2 ln 2) / (2 pi su).
        """
        half = _HALF / (2 * np.pi * self.reach[:, 0])
        low = self.frequency - half
        with np.errstate(divide="ignore", invalid="ignore"):
            octaves = np.log2((self.frequency + half) / low)
        return np.where(np.isnan(self.frequency), np.nan, np.where(low > 0, octaves, np.inf))

    def drawn(self, shape: tuple[int, int]) -> FloatArray:
        """(u, h, w) the functions on a grid."""
        rows, columns = np.mgrid[: shape[0], : shape[1]].astype(float)
        y, x = rows - self.centre[:, 0, None, None], columns - self.centre[:, 1, None, None]
        angle = np.deg2rad(self.orientation)[:, None, None]
        u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        su, sv = self.reach.T[..., None, None]
        wave = np.cos(2 * np.pi * self.frequency[:, None, None] * u + self.phase[:, None, None])
        return self.amplitude[:, None, None] * np.exp(-(u**2) / (2 * su**2) - v**2 / (2 * sv**2)) * wave


def fit_gabors(patterns: FloatArray) -> Gabors:
    """The Gabor function with the least squared error to each pattern, by Levenberg and Marquardt's method.

    It starts from the two largest peaks of the pattern's spectrum, each with two sizes, and keeps the best end.

    Args:
        patterns: (u, h, w), finite.

    Raises:
        ValueError: another shape, NaN or infinity.
        TypeError: other things than numbers.

    Source: Daugman 1985 for the function; Marquardt 1963 for the method.
    """
    values = as_patterns(patterns)
    count, h, w = values.shape
    found = torch.full((count, 9), torch.nan, dtype=torch.float64)
    norms = values.flatten(1).norm(dim=1)
    usable = (norms > 0).nonzero()[:, 0] if min(h, w) >= SMALLEST else torch.zeros(0, dtype=torch.int64)
    block = max(1, _BLOCK // (4 * h * w))
    for some in usable.split(block) if len(usable) else ():
        scaled = values[some] / norms[some, None, None]
        starts = _starts(scaled)
        ends, errors = _marquardt(starts.flatten(0, 1), scaled.repeat_interleave(starts.shape[1], 0))
        best = errors.view(len(some), -1).argmin(dim=1)
        rows = torch.arange(len(some)) * starts.shape[1] + best
        found[some] = torch.cat([ends[rows], errors[rows, None]], dim=1)
    found[:, 6:8] *= norms[:, None]
    x, y, kx, ky, su, sv, a, b, residual = found.numpy().T
    orientation = np.rad2deg(np.arctan2(ky, kx)) % 180
    orientation = np.where(orientation >= 180, 0, orientation)  # what is just below zero is rounded up to it
    angle = np.deg2rad(orientation)
    turned = np.cos(angle) * kx + np.sin(angle) * ky < 0  # the same wave, run through the other way
    return Gabors(
        orientation=orientation,
        frequency=np.hypot(kx, ky),
        centre=np.stack([y, x], axis=1),
        reach=np.exp(np.stack([su, sv], axis=1)),
        amplitude=np.hypot(a, b),
        phase=np.arctan2(np.where(turned, b, -b), a),
        residual=residual,
    )


def as_patterns(patterns: FloatArray) -> Tensor:
    """(u, h, w) in float64.

    Raises:
        ValueError: another shape, NaN or infinity.
        TypeError: other things than numbers.
    """
    values = patterns.detach().cpu().numpy() if isinstance(patterns, Tensor) else np.asarray(patterns)
    if values.dtype.kind not in "iuf":
        raise TypeError(f"expected `patterns` (u, h, w) of real numbers, got {type(patterns).__name__} {values.dtype}")
    if values.ndim != 3 or 0 in values.shape[1:]:
        raise ValueError(f"expected `patterns` of shape (u, h, w), got {values.shape}; add an axis with patterns[None]")
    if not np.isfinite(values).all():
        raise ValueError("expected finite `patterns`, got NaN or infinity; leave those out")
    return torch.from_numpy(values.astype(np.float64))


def _starts(patterns: Tensor) -> Tensor:
    """(u, 4, 8) parameters x, y, kx, ky, log su, log sv, a, b."""
    count, h, w = patterns.shape
    energy = patterns.square()
    rows, columns = torch.arange(h, dtype=torch.float64), torch.arange(w, dtype=torch.float64)
    y, x = (energy.sum(dim=2) @ rows), (energy.sum(dim=1) @ columns)
    spread = (energy.sum(dim=2) @ rows**2 - y**2 + energy.sum(dim=1) @ columns**2 - x**2).clamp_min(0.25).sqrt()
    side = 1 << (4 * max(h, w) - 1).bit_length()
    power = torch.fft.rfft2(patterns, s=(side, side)).abs()
    power[:, side // 2 + 1 :, 0] = 0  # twins of those above
    near = max(1, round(side / max(h, w)))  # half the main lobe of a pattern of this size
    starts = []
    for _ in range(2):
        at = power.flatten(1).argmax(dim=1)
        i, j = at // power.shape[2], at % power.shape[2]
        ky = torch.where(i > side // 2, i - side, i) / side
        for size in (1.0, 0.5):
            reach = (spread * size).log()
            k = torch.stack([(j / side).double(), ky.double()], dim=1)
            starts.append(torch.cat([torch.stack([x, y], 1), k, torch.stack([reach, reach], 1), k * 0], dim=1))
        _clear(power, i, j, near)
    start = torch.stack(starts, dim=1)
    start[..., 2] += 1e-3  # a wave vector of zero has no direction
    return start


def _clear(power: Tensor, i: Tensor, j: Tensor, near: int) -> None:
    """Zero around a peak of each spectrum."""
    side = power.shape[1]
    rows, columns = torch.arange(side), torch.arange(power.shape[2])
    apart = (rows - i[:, None]) % side
    close = torch.minimum(apart, side - apart) <= near
    power *= ~(close[:, :, None] & ((columns - j[:, None]).abs() <= near)[:, None, :])


def _marquardt(parameters: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(b, 8) parameters at the end and (b,) squared errors; targets (b, h, w) of norm 1."""
    b, h, w = targets.shape
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    places = torch.stack([columns.reshape(-1), rows.reshape(-1)]).double()
    y = targets.reshape(b, -1)
    p = _with_linear(parameters, places, y)
    values, jacobian = _gabor(p, places)
    errors = (y - values).square().sum(dim=1)
    damping = torch.full((b,), 1e-2, dtype=torch.float64)
    active = torch.arange(b)
    for _ in range(_STEPS):
        normal = jacobian.transpose(1, 2) @ jacobian
        gradient = (jacobian.transpose(1, 2) @ (y[active] - values)[..., None])[..., 0]
        scale = normal.diagonal(dim1=1, dim2=2).clamp_min(1e-12)
        step = torch.linalg.solve(normal + torch.diag_embed(scale * damping[active, None]), gradient)
        tried = _inside(p[active] + step, h, w)
        new_values, new_jacobian = _gabor(tried, places)
        new_errors = (y[active] - new_values).square().sum(dim=1)
        better = new_errors < errors[active]
        gain = torch.where(better, errors[active] - new_errors, torch.inf)
        p[active[better]], errors[active[better]] = tried[better], new_errors[better]
        values[better], jacobian[better] = new_values[better], new_jacobian[better]
        damping[active] = torch.where(better, damping[active] * 0.2, damping[active] * 4)
        going = (gain > _SMALL_ENOUGH * errors[active]) & (damping[active] < 1e8) & (errors[active] > 1e-28)
        if not going.any():
            break
        active, values, jacobian = active[going], values[going], jacobian[going]
    return p, errors


def _inside(p: Tensor, h: int, w: int) -> Tensor:
    """Waves that the grid can hold, at places and of sizes that it can tell."""
    most = math.log(2 * max(h, w))
    low = p.new_tensor([-w / 2, -h / 2, -0.5, -0.5, math.log(0.4), math.log(0.4), -torch.inf, -torch.inf])
    high = p.new_tensor([1.5 * w, 1.5 * h, 0.5, 0.5, most, most, torch.inf, torch.inf])
    return p.clamp(low, high)


def _with_linear(parameters: Tensor, places: Tensor, y: Tensor) -> Tensor:
    """The parameters with the best a and b for the others."""
    p = parameters.clone()
    p[:, 6:] = 1
    _, jacobian = _gabor(p, places)
    waves = jacobian[:, :, 6:]
    normal = waves.transpose(1, 2) @ waves
    normal = normal + 1e-9 * torch.eye(2, dtype=torch.float64) * normal.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    p[:, 6:] = torch.linalg.solve(normal, (waves.transpose(1, 2) @ y[..., None])[..., 0])
    return p


def _gabor(p: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """(b, n) values E (a cos psi + b sin psi) and (b, n, 8) derivatives, at places (2, n) x and y."""
    x0, y0, kx, ky, lu, lv, a, b = (each[:, None] for each in p.unbind(dim=1))
    x, y = places[0] - x0, places[1] - y0
    f = torch.hypot(kx, ky).clamp_min(1e-9)
    nx, ny = kx / f, ky / f
    u, v = nx * x + ny * y, nx * y - ny * x
    iu, iv = (-2 * lu).exp(), (-2 * lv).exp()
    envelope = (-0.5 * (iu * u.square() + iv * v.square())).exp()
    psi = 2 * math.pi * f * u
    cosine, sine = envelope * psi.cos(), envelope * psi.sin()
    g, turned = a * cosine + b * sine, b * cosine - a * sine  # turned: the derivative by psi
    du = -iu * u * g + 2 * math.pi * f * turned  # of the value by u
    dv = -iv * v * g
    # the wave vector turns u into v: du/dk = v (-ny, nx) / f, dv/dk = -u (-ny, nx) / f, and psi = 2 pi k r
    turn = (-iu * u * v * g - dv * u) / f
    derivatives = [
        -(du * nx - dv * ny), -(du * ny + dv * nx), -ny * turn + 2 * math.pi * x * turned,
        nx * turn + 2 * math.pi * y * turned, iu * u.square() * g, iv * v.square() * g, cosine, sine,
    ]  # fmt: skip
    return g, torch.stack(derivatives, dim=2)
