"""Start a network's first convolution from wavelets: for transfer learning with few images."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastfreq.vocabulary import checks, numbers

from .frames import analysis_filters

__all__ = ["init_stem"]

Model = TypeVar("Model", bound=nn.Module)


def init_stem(
    model: Model, kind: str = "wavelet", *, wavelet: str = "haar", layer: str | None = None, scale: float | None = None
) -> Model:
    """Set the filters of a network's first convolution to wavelets, in place.

    A filter is a colour times a pattern at a place of the kernel. Patterns are those of the separable wavelet
    transform: details of level 1, of level 2 and so on as far as they fit into the kernel, horizontal, vertical and
    diagonal, then the approximation of the last level; colours the orthonormal cosines over input channels, the first
    of which is grey; places all that are centred first, then others a pixel apart, outwards. Filters are dealt in this
    order of places, then colours, then patterns; those that remain where all have been dealt stay as they were, and so
    does a bias. Flipped as convolutions of torch need it: a 2 x 2 convolution of stride 2 with haar gives what
    `kernels.dwt2` gives, up to order and scale.

    Args:
        model: whose first convolution is changed; it is returned.
        kind: "wavelet".
        wavelet: name of a discrete wavelet of PyWavelets whose filters fit into the kernel.
        layer: name of the convolution; None for the first.
        scale: L2 norm of each new filter; None for the root mean square of those that the filters had, so that the
            output is about as large as before.

    Raises:
        ValueError: another kind, no convolution, one without weights yet, a kernel that is too small for the wavelet,
            filters that are all 0 without a `scale`, or a weight that is computed from others (parametrized).
        KeyError: a layer that the model does not have.
        TypeError: a layer that is no two-dimensional convolution.
        ImportError: PyWavelets is not installed.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected `model` to be a torch.nn.Module, got {type(model).__name__}")
    checks.check_choice("kind", kind, ("wavelet",))
    name, convolution = _convolution(model, layer)
    weight = convolution.weight
    if not isinstance(weight, nn.Parameter) or nn.utils.parametrize.is_parametrized(convolution, "weight"):
        raise ValueError(
            f"expected the weight of layer {name!r} to be a parameter, it is computed from others; remove the "
            f"parametrization first, or set what it is computed from"
        )
    if isinstance(weight, nn.parameter.UninitializedParameter):
        raise ValueError(f"expected layer {name!r} to know its input channels; run the model once before")
    outputs, channels, rows, columns = weight.shape
    if scale is None:
        scale = float(weight.detach().double().square().sum(dim=(1, 2, 3)).mean().sqrt())
    scale = numbers.as_float("scale", scale)
    if scale <= 0:
        raise ValueError(f"expected a `scale` above 0, got {scale:g}; the filters are all 0: give one")
    new = _filters(wavelet, channels, (rows, columns), outputs, name)
    with torch.no_grad():
        weight[: len(new)] = torch.from_numpy(scale * new).to(weight)
    return model


def _convolution(model: nn.Module, layer: str | None) -> tuple[str, Any]:
    modules = dict(model.named_modules())
    if layer is None:
        found = next(((name, m) for name, m in modules.items() if isinstance(m, nn.Conv2d)), None)
        if found is None:
            raise ValueError(f"expected a model with a two-dimensional convolution, {type(model).__name__} has none")
        return found
    if not isinstance(layer, str) or layer not in modules:
        known = ", ".join([name for name, m in modules.items() if isinstance(m, nn.Conv2d)][:12])
        raise KeyError(f"expected a layer named as in model.named_modules(), such as {known}; got {layer!r}")
    if not isinstance(modules[layer], nn.Conv2d):
        raise TypeError(f"expected layer {layer!r} to be a Conv2d, it is a {type(modules[layer]).__name__}")
    return layer, modules[layer]


def _filters(wavelet: str, channels: int, kernel: tuple[int, int], most: int, layer: str) -> NDArray[np.float64]:
    """(at most `most`, channels, rows, columns) of norm 1, each other than the rest."""
    patterns = _patterns(wavelet, min(kernel))
    if not patterns:
        raise ValueError(
            f"expected a kernel of at least the {len(analysis_filters(wavelet)[0])} taps of {wavelet}, layer {layer!r} "
            f"has {kernel[0]} x {kernel[1]}; take a shorter wavelet, such as 'haar'"
        )
    t = (np.arange(channels) + 0.5) / channels
    colours = [np.cos(np.pi * k * t) for k in range(channels)]
    found = []
    for distance in range(max(kernel)):
        for colour in colours:
            for pattern in patterns:
                free = [side - taps for side, taps in zip(kernel, pattern.shape, strict=True)]
                for top in range(free[0] + 1):
                    for left in range(free[1] + 1):
                        if max(abs(top - free[0] // 2), abs(left - free[1] // 2)) != distance:
                            continue
                        placed = np.zeros(kernel)
                        placed[top : top + pattern.shape[0], left : left + pattern.shape[1]] = pattern
                        whole = colour[:, None, None] * placed
                        found.append(whole / math.sqrt((whole**2).sum()))
                        if len(found) == most:
                            return np.stack(found)
    return np.stack(found)


def _patterns(wavelet: str, side: int) -> list[NDArray[np.float64]]:
    """Two-dimensional filters of every level whose filters are at most `side` long, as correlations."""
    low, high = (np.array(taps) for taps in analysis_filters(wavelet))
    found, smooth, step = [], np.ones(1), 1
    while True:
        taps = [np.convolve(smooth, _spread(f, step)) for f in (low, high)]
        if len(taps[0]) > side:
            break
        a, d = (f[::-1] for f in taps)
        found += [np.outer(d, a), np.outer(a, d), np.outer(d, d)]
        smooth, step = taps[0], 2 * step
    return [*found, np.outer(smooth[::-1], smooth[::-1])] if found else []


def _spread(taps: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    """Zeros between the taps of a filter that works on every `step`-th sample."""
    out = np.zeros((len(taps) - 1) * step + 1)
    out[::step] = taps
    return out
