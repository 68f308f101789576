"""Exact singular values of convolutions as linear maps, frequency by frequency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import torch
from fastfreq_kernels._threads import own_threads_only
from torch import nn
from tqdm import tqdm

from fastfreq.core.spectrum import LayerSpectrum, ModelSpectrum

from ._values import Accuracy, check_accuracy, distinct_values
from .discovery import find_convolutions
from .symbols import Convolution, Symbols, conv_symbols_of


@overload
def singular_values(  # pyright: ignore[reportOverlappingOverload]
    model: Convolution,
    *,
    input_size: Sequence[int],
    accuracy: Accuracy = ...,
    padding: str | None = ...,
    fold_batch_norm: bool = ...,
    linear: bool = ...,
    layers: Sequence[str] | None = ...,
    progress: bool = ...,
) -> LayerSpectrum: ...
@overload
def singular_values(
    model: nn.Module,
    *,
    input_size: Sequence[int],
    accuracy: Accuracy = ...,
    padding: str | None = ...,
    fold_batch_norm: bool = ...,
    linear: bool = ...,
    layers: Sequence[str] | None = ...,
    progress: bool = ...,
) -> ModelSpectrum: ...
def singular_values(
    model: nn.Module,
    *,
    input_size: Sequence[int],
    accuracy: Accuracy = "high",
    padding: str | None = None,
    fold_batch_norm: bool = False,
    linear: bool = False,
    layers: Sequence[str] | None = None,
    progress: bool = False,
) -> LayerSpectrum | ModelSpectrum:
    """Singular values of every convolution of a model, or of one layer, as linear maps on periodic images.

    A convolution y[i] = sum_j W_j x[s i + d j] on an n-periodic grid is block diagonal in the Fourier basis: at
    frequency k it is the matrix A(k) = sum_j W_j exp(2 pi i <k, d j> / n), and its singular values are those of all
    A(k). With stride s the s^d frequencies that alias fold into one matrix of c_out x s^d c_in. Real weights have
    A(-k) = conj A(k): only the distinct frequencies are computed.

    Circular padding is exact. A zero-padded layer is a part of the circular map on the grid enlarged by the
    padding, so that its i-th value is at most the i-th value given here: the result then says ``exact=False``;
    `zero_padded_norm` gives the exact norm. ``padding="circular"`` asks for the circular map on the input's own size
    whatever the layer pads with, as Sedghi et al. do.

    Accuracies, as errors relative to the layer's largest value:

    - "exact": each matrix in complex128 by unitary transformations alone, as LAPACK's SVD and to its accuracy: small
      values too, to a few roundings of the largest (1e-13). Compiled where numba is there, else LAPACK's own.
    - "high": at most 1e-7, by the Gram matrix in float64; values below that are not told from zero.
    - "fast": at most 3.5e-4, typically 1e-6 for the largest, by the matrix or its Gram matrix in float32.

    Args:
        model: any module, or one convolution.
        input_size: (c, height, width) of the images for a model; the spatial size alone for one layer.
        accuracy: "exact", "high" or "fast".
        padding: None for what each layer does, "circular" to treat every layer as circular.
        fold_batch_norm: scale each output channel by the batch norm that follows, gamma / sqrt(var + eps).
        linear: linear layers too, as 1 x 1 convolutions.
        layers: names of the layers to do; None for all.
        progress: show a progress bar.

    Returns:
        A LayerSpectrum for one convolution; for a model a ModelSpectrum, which maps names to LayerSpectrum and lists
        what was skipped and why.

    Raises:
        ValueError: a bad argument, weights that are not finite, or a size that a stride does not divide.
        TypeError: a module without usable weights (lazy, quantised).

    Source: Sedghi, Gupta, Long 2019, "The Singular Values of Convolutional Layers" (ICLR), Theorem 6; stride as in
        Senderovich et al. 2022, "Towards Practical Control of Singular Values of Convolutional Layers".
    """
    check_accuracy(accuracy)
    if isinstance(model, Convolution):
        if layers is not None or linear:
            raise ValueError("expected `layers` and `linear` with a whole model only, got them with one convolution")
        with torch.no_grad(), own_threads_only():
            symbols = conv_symbols_of(model, input_size=tuple(input_size), padding=padding)
        with torch.no_grad():
            return _spectrum("", type(model).__name__, symbols, accuracy, distinct_values(symbols, accuracy))
    found, skipped = find_convolutions(model, tuple(input_size), linear=linear)
    if layers is not None:
        found, skipped = _chosen(found, list(layers))
    skipped = list(skipped)
    spectra: dict[str, LayerSpectrum] = {}
    with torch.no_grad(), tqdm(total=len(found), unit="layer", desc="singular values", disable=not progress) as bar:
        for layer in found:
            bar.set_postfix_str(layer.name)
            before = bar.n
            try:
                with own_threads_only():
                    symbols = conv_symbols_of(
                        layer.module,
                        input_size=layer.input_size,
                        batch_norm=layer.batch_norm if fold_batch_norm else None,
                        padding=padding,
                    )
            except (ValueError, TypeError) as error:  # one layer that cannot be done does not lose the others
                skipped.append((layer.name, type(layer.module).__name__, str(error)))
            else:
                values = distinct_values(symbols, accuracy, bar.update)
                kind = type(layer.module).__name__
                spectra[layer.name] = _spectrum(layer.name, kind, symbols, accuracy, values)
            bar.update(before + 1 - bar.n)
    if layers is not None and skipped:
        name, _, reason = skipped[0]
        raise ValueError(f"layer {name!r}: {reason}")
    details = {"accuracy": accuracy, "padding": padding or "as the layers", "torch": torch.__version__}
    details["batch_norm"] = "folded" if fold_batch_norm else "not folded"
    return ModelSpectrum(
        model=type(model).__name__,
        input_size=tuple(int(n) for n in input_size),
        layers=spectra,
        skipped=tuple(skipped),
        details=details,
    )


def _chosen(found: list[Any], names: list[str]) -> tuple[list[Any], list[tuple[str, str, str]]]:
    known = {layer.name: layer for layer in found}
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(
            f"expected `layers` among the convolutions of the model ({', '.join(list(known)[:8])}, ...), got {missing}"
        )
    return [known[name] for name in names], []


def _spectrum(name: str, kind: str, symbols: Symbols, accuracy: Accuracy, values: np.ndarray) -> LayerSpectrum:
    return LayerSpectrum(
        name=name,
        kind=kind,
        weight_shape=tuple(symbols.weight_shape),
        input_size=tuple(symbols.input_size),
        grid=tuple(symbols.grid),
        frequencies=symbols.frequencies.cpu().numpy(),
        cells=symbols.cells.cpu().numpy(),
        multiplicity=symbols.multiplicity.cpu().numpy(),
        distinct=values,
        accuracy=accuracy,
        exact=symbols.exact,
        note=symbols.note,
    )
