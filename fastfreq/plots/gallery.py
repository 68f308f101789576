"""What the perturbations look like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fastfreq.vocabulary import conventions, fourier
from fastfreq.vocabulary.conventions import Convention

from . import _frame
from ._frame import FloatArray


def plot_basis_gallery(
    shape: tuple[int, int],
    *,
    convention: str | Convention,
    eps: float,
    frequencies: Sequence[tuple[int, int]] | None = None,
    image: Any = None,
) -> Figure:
    """A few basis images, and below each what an image becomes when `eps` times it is added.

    Args:
        shape: (h, w) of the images.
        convention: a preset's name or a Convention; its phase and clipping are used, the sign is +1.
        eps: L2 norm of the perturbation per channel, in pixels of [0, 1].
        frequencies: (ky, kx) to show; None for zero, low, diagonal, middle and highest.
        image: (c, h, w) in [0, 1] or uint8, with 1 or 3 channels.

    Raises:
        ValueError: an image of another shape, another number of channels or another range.
    """
    convention = conventions.resolve(convention)
    chosen = _defaults(shape) if frequencies is None else dict.fromkeys(frequencies, "")
    pixels = None if image is None else _pixels(image, shape)
    columns = len(chosen) + (pixels is not None)
    side = 2.0
    rows = 1 if pixels is None else 2
    figure = _frame.new_figure(side * columns + 0.4, (_frame.map_height(shape, side) + 0.7) * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.reshape(-1):
        axes.set_axis_off()
    offset = columns - len(chosen)
    if pixels is not None:
        _show(panels[1, 0], pixels)
        _frame.set_title(panels[1, 0], "unperturbed", width=24, size=9)
    for k, ((ky, kx), name) in enumerate(chosen.items(), start=offset):
        wave = convention.oriented(np.array((ky, kx)), shape)
        basis = fourier.basis_image((int(wave[0]), int(wave[1])), shape, convention.phase)
        _show(panels[0, k], 0.5 + 0.5 * basis[None] / np.sqrt(2 / basis.size))
        _frame.set_title(panels[0, k], f"{name}\n({ky}, {kx})".strip(), width=24, size=9)
        if pixels is not None:
            _show(panels[1, k], np.clip(pixels + eps * basis, 0, 1))
            _frame.set_title(
                panels[1, k], f"peak change\n{255 * eps * np.abs(basis).max():.0f} / 255", width=24, size=9
            )
    clipped = "" if convention.clip or pixels is None else " Clipped for display only."
    caption = f"(ky, kx) in cycles per image; eps {eps:g} per channel, {convention.name}.{clipped}"
    _frame.set_caption(figure, caption, width=16 * columns)
    return figure


def _defaults(shape: tuple[int, int]) -> dict[tuple[int, int], str]:
    """Frequency -> name, each distinct frequency once."""
    h, w = shape
    named = [
        ((0, 0), "zero"),
        ((0, min(2, w // 2)), "low"),
        ((h // 8, w // 8), "diagonal"),
        ((h // 4, 0), "middle"),
        ((h // 4, w // 4), "middle"),
        ((0, w // 2), "highest kx"),
        ((h // 2, w // 2), "highest"),
    ]
    chosen: dict[tuple[int, int], str] = {}
    seen = set()
    for frequency, name in named:
        key = tuple(fourier.canonical(np.array(frequency), shape).tolist())
        if key not in seen:
            seen.add(key)
            chosen[frequency] = name
    return chosen


def _pixels(image: Any, shape: tuple[int, int]) -> FloatArray:
    """The image as float64 (c, h, w) in [0, 1]."""
    if hasattr(image, "detach"):  # a tensor, wherever it lives
        image = image.detach().cpu()
    array = np.asarray(image)
    pixels = array.astype(np.float64) / (255 if array.dtype == np.uint8 else 1)
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or pixels.shape[1:] != tuple(shape):
        raise ValueError(f"expected `image` of shape (1 or 3, {shape[0]}, {shape[1]}), got {array.shape}")
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(f"expected `image` in [0, 1], got values from {pixels.min():.4g} to {pixels.max():.4g}")
    return pixels


def _show(axes: Axes, pixels: FloatArray) -> None:
    shown = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
