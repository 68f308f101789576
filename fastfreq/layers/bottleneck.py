"""The convolution bottleneck of a model: what every layer keeps, by frequency, in one call."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastfreq.engine.contexts import undisturbed, warn_if_unsteady
from fastfreq.engine.copies import private_copy
from fastfreq.engine.network import fingerprint, network_name
from fastfreq.engine.uses import tensors_in
from fastfreq.engine.wrappers import plain

from ._latent import layer_symbols
from ._values import Accuracy
from ._weights import as_applied
from .activations import MomentLimits, Watched, measure_activations
from .bottleneck_result import Bottleneck, KeptValues
from .cyclic import CyclicConv, pooling_eigenvalues
from .discovery import find_convolutions
from .layer_singular_values import LayerSingularValues
from .ranks import FLOOR, SMALLEST_GAP, kept_values
from .residual import block_spectra, find_blocks
from .singular_values import SingularValues, singular_values
from .symbols import Symbols


def bottleneck(
    model: nn.Module,
    *,
    input_size: Sequence[int],
    images: Tensor | None = None,
    layers: Sequence[str] | None = None,
    residual: bool = False,
    accuracy: Accuracy = "high",
    floor: float = FLOOR,
    smallest_gap: float = SMALLEST_GAP,
    batch_size: int = 32,
    limits: MomentLimits | None = None,
    progress: bool = False,
    distributed: bool | None = None,
) -> Bottleneck:
    """Which frequencies and channels each layer of a network keeps: the convolution bottleneck of Wen and Jacot.

    Each layer is taken as the linear map that the network applies: with its stride, the batch norm that follows it
    folded in, and in a `CyclicNet` the pooling M before it. At every frequency w that map is a small matrix m_w W(w);
    its singular values above the gap of the layer's spectrum (`kept_values`) are what the layer keeps. Networks
    trained with weight decay keep few, near 1, at few frequencies, in most of their middle layers; those count as the
    rank of the network, sum_w m_w^-2 k_w.

    Args:
        model: any module with convolutions; a copy in evaluation mode is used.
        input_size: (c, height, width) of one image.
        images: (n, c, height, width) as the model takes them, to measure the second moments of the layers' inputs at
            each frequency and how they lie to what the layers keep (`LayerActivations`); None for weights alone.
        layers: names of the layers to do; None for all.
        residual: also the residual blocks, each as its branch and as the branch plus what it is added to, with
            element-wise functions taken as the identity and every layer as circular; entries of their own after the
            branch's last convolution, in `Bottleneck.blocks`. Sums that are no such block are in
            ``result.spectrum.skipped``.
        accuracy: of the singular values, as in `singular_values`.
        floor: see `kept_values`.
        smallest_gap: see `kept_values`.
        batch_size: images per forward pass.
        limits: of the memory that second moments take, see `MomentLimits`; None for its defaults.
        progress: show a progress bar.
        distributed: as in `singular_values`: processes share the layers' values, each takes the moments of all images.

    Raises:
        ValueError: a bad argument, with `residual` a model that torch.fx cannot trace, weights that are not finite,
            a model without convolutions; images of another size or not finite; a layer of which not one frequency
            fits into `limits.memory`.
        TypeError: a module without usable weights.

    Source: Wen and Jacot 2024, "Which Frequencies do CNNs Need? Emergent Bottleneck Structure in Feature Learning"
        (ICML), sections 3 to 5; definitions as read there, the rule for the gap is ours.
    """
    if images is not None:
        _check_images(images, tuple(input_size))
    model = plain(model)
    asked = network_name(model)
    with undisturbed(
        gradients=True
    ):  # hooks, modes and precision of the user's stay, whatever other threads do with it
        # activations of a float64 model and images are float64; all else is brought to float32
        wide = images is not None and images.dtype == torch.float64
        model = private_copy(model).to(torch.float64 if wide else torch.float32)
        cyclic = {name: module for name, module in model.named_modules() if isinstance(module, CyclicConv)}
        if cyclic:
            spectrum = _cyclic_spectra(model, cyclic, tuple(input_size), layers, accuracy)
        else:
            spectrum = singular_values(
                model, input_size=tuple(input_size), accuracy=accuracy, fold_batch_norm=True, layers=layers,
                progress=progress, distributed=distributed,
            )  # fmt: skip
            if isinstance(spectrum, LayerSingularValues):
                raise ValueError("expected a model, got one convolution; use singular_values for it")
        blocks: tuple[str, ...] = ()
        if residual and not cyclic:
            spectrum, blocks = _with_blocks(model, spectrum)
        if not spectrum:
            raise ValueError(f"expected a model with convolutions, {type(model).__name__} has none that could be taken")
        modules = dict(model.named_modules())
        kept = {
            name: kept_values(layer.distinct, floor=floor, smallest_gap=smallest_gap)
            for name, layer in spectrum.layers.items()
        }
        activations = {}
        if images is not None:
            _check_steady(model, asked, images if wide else images.float())
            activations = measure_activations(
                model,
                images if wide else images.float(),
                _watched(model, spectrum, kept),
                batch_size=batch_size,
                limits=limits or MomentLimits(),
            )
        return Bottleneck(
            details={**spectrum.details, "model": asked},
            spectrum=spectrum,
            kept=kept,
            pooling={name: _pooling(layer, cyclic.get(name)) for name, layer in spectrum.layers.items()},
            norms={name: _norms(modules[name]) for name in spectrum if name not in blocks},
            activations=activations,
            blocks=blocks,
        )


def _check_steady(model: nn.Module, name: str, images: Tensor) -> None:
    """Warn of a model that is random in evaluation mode."""
    few = [output for _ in range(2) for output in tensors_in(model(images[:2].clone()))]
    half = len(few) // 2
    for first, second in zip(few[:half], few[half:], strict=True):
        warn_if_unsteady(name, first, second, stacklevel=4)


def _with_blocks(model: nn.Module, spectrum: SingularValues) -> tuple[SingularValues, tuple[str, ...]]:
    """The spectrum with each residual block after the last layer of its branch, and the names of these entries."""
    blocks, skipped = find_blocks(model, spectrum.input_size)
    layers = dict(spectrum.layers)
    for block in blocks:
        if block.after not in spectrum:
            continue  # not among the layers asked for
        try:
            found = block_spectra(block)
        except (ValueError, TypeError) as error:
            skipped.append((block.name, "residual block", str(error)))
            continue
        order = list(layers)
        at = order.index(block.after) + 1
        entries = [*[(n, layers[n]) for n in order[:at]], *found.items(), *[(n, layers[n]) for n in order[at:]]]
        layers = dict(entries)
    names = tuple(name for name in layers if name not in spectrum)
    every = dataclasses.replace(spectrum, layers=layers, skipped=(*spectrum.skipped, *skipped))
    return every, names


def _check_images(images: Tensor, input_size: tuple[int, ...]) -> None:
    if tuple(images.shape[1:]) != tuple(input_size) or not images.dtype.is_floating_point:
        raise ValueError(
            f"expected `images` of shape (n, {', '.join(map(str, input_size))}) as floats, got {tuple(images.shape)} "
            f"of {images.dtype}"
        )


def _watched(model: nn.Module, spectrum: SingularValues, kept: dict[str, KeptValues]) -> dict[str, Watched]:
    """Layers with their symbols; one whose padding has only a bound's stand-in has no directions of its own."""
    modules = dict(model.named_modules())
    symbols: dict[str, Symbols] = {}
    if isinstance(modules[next(iter(spectrum))], CyclicConv):
        symbols = {name: layer_symbols(modules[name], ()) for name in spectrum}
    else:
        for layer in find_convolutions(model, spectrum.input_size)[0]:
            if layer.name in spectrum and getattr(layer.module, "stands_for", layer.module) is modules[layer.name]:
                symbols[layer.name] = layer_symbols(layer.module, layer.input_size, batch_norm=layer.batch_norm)
    return {
        name: Watched(modules[name], symbols[name], spectrum[name], kept[name].counts)
        for name in spectrum
        if name in symbols
    }


def _cyclic_spectra(
    model: nn.Module,
    cyclic: dict[str, CyclicConv],
    input_size: tuple[int, ...],
    layers: Sequence[str] | None,
    accuracy: Accuracy,
) -> SingularValues:
    first = next(iter(cyclic.values()))
    if input_size != (first.weight.shape[1], *first.size):
        raise ValueError(
            f"expected `input_size` {(first.weight.shape[1], *first.size)} of the network, got {input_size}"
        )
    missing = [name for name in layers or [] if name not in cyclic]
    if missing:
        raise ValueError(f"expected `layers` among {', '.join(cyclic)}, got {missing}")
    spectra = {}
    for name, layer in cyclic.items():
        if layers is not None and name not in layers:
            continue
        found = singular_values(
            layer.effective_convolution(), input_size=layer.size, accuracy=accuracy, padding="circular"
        )
        assert isinstance(found, LayerSingularValues)
        note = f"with its pooling, beta = {layer.beta:g}"
        spectra[name] = dataclasses.replace(found, name=name, layer_type=type(layer).__name__, note=note, exact=True)
    name = network_name(model)
    settings = {"accuracy": accuracy, "padding": "cyclic", "batch_norm": "none"}
    return SingularValues(
        model=name,
        weights=fingerprint(model),
        input_size=input_size,
        settings=settings,
        layers=spectra,
        details={"model": name, **settings, "torch": str(torch.__version__)},
    )


def _pooling(spectrum: LayerSingularValues, layer: CyclicConv | None) -> NDArray[np.float64]:
    """m_w at each distinct frequency; of a layer with stride at the lowest of the frequencies that fold together."""
    if layer is None:
        return np.ones(len(spectrum.frequencies))
    grid = np.asarray(spectrum.grid)
    lowest = (spectrum.frequencies + grid // 2) % grid - grid // 2
    return pooling_eigenvalues(lowest, layer.size, layer.beta)


def _norms(layer: nn.Module) -> tuple[float, float]:
    plain = as_applied(layer)
    weight, bias = (getattr(plain, name, None) for name in ("weight", "bias"))
    return _squares(weight), _squares(bias)


def _squares(parameter: object) -> float:
    return float(parameter.detach().double().square().sum()) if isinstance(parameter, Tensor) else 0.0
