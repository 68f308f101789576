"""Images -> wavelet coefficients and back: separable filters, every boundary mode of PyWavelets, fused thresholding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fastfreq_kernels import _dispatch

from . import _cpu, _reference
from ._geometry import MODES, length, restored

__all__ = ["MODES", "dwt2", "idwt2"]

SHRINKAGES = ("hard", "soft")


def dwt2(
    images: Tensor,
    low: Sequence[float],
    high: Sequence[float],
    *,
    mode: str = "symmetric",
    levels: int = 1,
    threshold: float | None = None,
    shrinkage: str = "hard",
    rectified: bool = False,
    backend: str | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Separable two-dimensional discrete wavelet transform of every channel; all bands of a level in one pass.

    Along one axis, with e the signal extended by `mode`: y[o] = sum_j f[j] e[2 o + 1 - j] for o = 0 ..
    floor((n + F - 1) / 2) - 1; for "periodization" e[2 o + F / 2 - j], o = 0 .. ceil(n / 2) - 1. What PyWavelets'
    wavedec2 gives.

    Args:
        images: (n, c, h, w), float32 or float64.
        low: (F,) the scaling filter of the analysis, F even; PyWavelets' `Wavelet.dec_lo`.
        high: (F,) the wavelet filter of the analysis, `Wavelet.dec_hi`.
        mode: of the extension beyond the edges, one of `MODES`, named as in PyWavelets.
        levels: how often the approximation is transformed again.
        threshold: details of at most this magnitude become 0; None keeps all.
        shrinkage: "hard" keeps the others as they are, "soft" brings them nearer to 0 by `threshold`.
        rectified: of the others the magnitudes, without a sign.
        backend: None chooses: the reference if a gradient is needed, else "triton" on a GPU and "cpu" on a CPU. One
            that is named is used or refused.

    Returns:
        The approximation (n, c, h_J, w_J), and the details (n, c, 3, h_j, w_j) from the coarsest level to the finest:
        horizontal (high-pass across rows), vertical (high-pass along them), diagonal (both).

    Raises:
        ValueError: a shape, mode, filter or threshold other than these; a single sample in a mode that mirrors on it.
        TypeError: a dtype other than these.
        RuntimeError: a backend that cannot run here, or that cannot give the gradient that an input requires.
    """
    _check(images, "images", low, high, mode)
    if not isinstance(levels, int) or levels < 1:
        raise ValueError(f"expected `levels` to be at least 1, got {levels!r}")
    if shrinkage not in SHRINKAGES:
        raise ValueError(f"expected `shrinkage` to be one of {SHRINKAGES}, got {shrinkage!r}")
    if threshold is not None and not (0 <= threshold < math.inf):
        raise ValueError(f"expected a `threshold` of at least 0, or None, got {threshold!r}")
    if rectified and threshold is None:
        raise ValueError(
            "expected a `threshold` beside rectified=True, got None; pass threshold=0 for magnitudes alone"
        )
    shrink = "" if threshold is None else shrinkage + (" rectified" if rectified else "")
    taps = [float(v) for v in low], [float(v) for v in high]
    approximation, details = images, []
    for _ in range(levels):
        _check_mirrors(approximation.shape[-2:], mode)
        bands = _DWT(approximation, *taps, mode, shrink, float(threshold or 0.0), backend=backend)
        approximation = bands[:, :, 0]
        details.insert(0, bands[:, :, 1:])
    return approximation, details


def idwt2(
    approximation: Tensor,
    details: Sequence[Tensor],
    low: Sequence[float],
    high: Sequence[float],
    *,
    mode: str = "symmetric",
    shape: tuple[int, int] | None = None,
    backend: str | None = None,
) -> Tensor:
    """The images of wavelet coefficients: the inverse of `dwt2` with the synthesis filters of the same wavelet.

    Along one axis x[i] = sum_o (low[i + F - 2 - 2 o] a[o] + high[i + F - 2 - 2 o] d[o]); for "periodization"
    i + F / 2 - 1 - 2 o, modulo twice the coefficients. As PyWavelets' waverec2.

    Args:
        approximation: (n, c, h_J, w_J), float32 or float64.
        details: (n, c, 3, h_j, w_j) each, from the coarsest level to the finest.
        low: (F,) the scaling filter of the synthesis; PyWavelets' `Wavelet.rec_lo`.
        high: (F,) the wavelet filter of the synthesis, `Wavelet.rec_hi`.
        mode: that of the analysis.
        shape: (h, w) of the images: an odd side comes back one longer without it.
        backend: as for `dwt2`.

    Raises:
        ValueError: as for `dwt2`, coefficients that do not fit each other, or a `shape` that they cannot have.
        TypeError: as for `dwt2`.
        RuntimeError: as for `dwt2`.
    """
    _check(approximation, "approximation", low, high, mode)
    taps = [float(v) for v in low], [float(v) for v in high]
    current = approximation
    for level in details:
        n, c, h, w = current.shape
        if level.ndim != 5 or level.shape[:3] != (n, c, 3) or any(
            have - want not in (0, 1) for have, want in zip((h, w), level.shape[3:], strict=True)
        ):  # fmt: skip
            raise ValueError(
                f"expected details of shape {(n, c, 3, h, w)}, or of one row or column fewer, got {tuple(level.shape)}"
            )
        if level.dtype != current.dtype or level.device != current.device:
            raise TypeError(
                f"expected details of {current.dtype} on {current.device}, as the approximation, got {level.dtype} on "
                f"{level.device}"
            )
        if mode != "periodization" and min(level.shape[3:]) < len(low) // 2:
            raise ValueError(
                f"expected at least {len(low) // 2} coefficients along each axis for {len(low)} taps, got "
                f"{tuple(level.shape[3:])}"
            )
        current = current[..., : level.shape[3], : level.shape[4]]
        current = _IDWT(current, level, *taps, mode, backend=backend)
    if shape is None:
        return current
    if any(have - want not in (0, 1) for have, want in zip(current.shape[2:], shape, strict=True)):
        raise ValueError(f"expected a `shape` of {tuple(current.shape[2:])} or one fewer, got {tuple(shape)}")
    return current[..., : shape[0], : shape[1]]


def _check(x: Tensor, name: str, low: Sequence[float], high: Sequence[float], mode: str) -> None:
    if x.ndim != 4 or 0 in x.shape[2:]:
        raise ValueError(f"expected `{name}` of shape (n, c, h, w), no side of it 0, got {tuple(x.shape)}")
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"expected `{name}` of float32 or float64, got {x.dtype}; use {name}.float()")
    if mode not in MODES:
        raise ValueError(f"expected `mode` to be one of {MODES}, got {mode!r}")
    if len(low) != len(high) or len(low) < 2 or len(low) % 2:
        raise ValueError(
            f"expected filters `low` and `high` of one even length, got {len(low)} and {len(high)} taps; put a 0 "
            f"beside an odd filter"
        )
    if not all(-math.inf < v < math.inf for v in (*low, *high)):
        raise ValueError("expected finite filters, got NaN or infinity in them")


def _check_mirrors(shape: Sequence[int], mode: str) -> None:
    if mode in ("reflect", "antireflect") and 1 in shape:
        raise ValueError(f"expected at least two samples along each axis for mode={mode!r}, got {tuple(shape)}")


def _fake_dwt(
    images: Tensor, low: Sequence[float], high: Sequence[float], mode: str, shrink: str, threshold: float
) -> Tensor:
    n, c, h, w = images.shape
    return images.new_empty((n, c, 4, length(h, len(low), mode), length(w, len(low), mode)))


def _fake_idwt(
    approximation: Tensor, details: Tensor, low: Sequence[float], high: Sequence[float], mode: str
) -> Tensor:
    n, c, _, h, w = details.shape
    return details.new_empty((n, c, restored(h, len(low), mode), restored(w, len(low), mode)))


_DWT = _dispatch.register(
    "dwt2",
    "(Tensor images, float[] low, float[] high, str mode, str shrink, float threshold) -> Tensor",
    reference=_reference.dwt2,
    cpu=_cpu.dwt2,
    fake=_fake_dwt,
)
_IDWT = _dispatch.register(
    "idwt2",
    "(Tensor approximation, Tensor details, float[] low, float[] high, str mode) -> Tensor",
    reference=_reference.idwt2,
    cpu=_cpu.idwt2,
    fake=_fake_idwt,
)
