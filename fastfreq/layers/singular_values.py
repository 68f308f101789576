"""Exact singular values of convolutions as linear maps, frequency by frequency."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, overload

import numpy as np
import torch
from fastfreq_kernels._threads import own_threads_only
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from fastfreq.engine.arithmetic import float32
from fastfreq.engine.network import fingerprint, network_name
from fastfreq.engine.ranks import joined
from fastfreq.engine.wrappers import plain
from fastfreq.results import codec
from fastfreq.results.folds import same, text, union
from fastfreq.results.result import Result
from fastfreq.vocabulary import checks

from ._together import together
from ._values import Accuracy, check_accuracy, distinct_values, values_of
from .discovery import FoundLayer, Skipped, find_convolutions, understood
from .layer_singular_values import LayerSingularValues, layer_row
from .symbols import Convolution, Symbols, conv_symbols_of


@codec.record
@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SingularValues(Result, Mapping[str, LayerSingularValues], kind="singular_values"):
    """The singular values of every convolution of a model; a mapping from layer names.

    Shards by layers merge with ``+``.

    Attributes:
        model: name or class of the model.
        weights: fingerprint of the model; "" where unknown (files of version 0.1).
        input_size: (c, ...) of the model's input.
        settings: padding, accuracy, batch norm: what the values depend on.
        layers: by name, in order of execution.
        skipped: (name, kind, reason) of what was left out.
        execution: names of all convolutions in order of execution, those of other shards among them; () where the
            order of `layers` is all there is.
    """

    model: str = same()
    weights: str = same("")
    input_size: tuple[int, ...] = same()
    settings: dict[str, str] = same({})
    layers: dict[str, LayerSingularValues] = union()
    skipped: tuple[tuple[str, str, str], ...] = text(())
    execution: tuple[str, ...] = same(())

    # ---------------------------------------------------------------- a mapping
    def __getitem__(self, name: str) -> LayerSingularValues:
        if name in self.layers:
            return self.layers[name]
        for skipped, kind, reason in self.skipped:
            if skipped == name:
                raise KeyError(f"expected a layer with singular values, {name!r} ({kind}) was skipped: {reason}")
        close = checks.near_names(name, self.layers)
        raise KeyError(f"expected one of the {len(self.layers)} layers, got {name!r}; did you mean {close}?")

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __contains__(self, name: object) -> bool:
        return name in self.layers

    # ---------------------------------------------------------------- figures
    @property
    def norms(self) -> dict[str, float]:
        """Spectral norm of each layer."""
        return {name: layer.norm for name, layer in self.layers.items()}

    @property
    def product_of_norms(self) -> float:
        """The product of all spectral norms.

        A Lipschitz bound only where the layers follow each other with 1-Lipschitz functions between them and
        `details` says that batch norm was folded in: branches that are added need their sum instead.
        """
        return math.prod(self.norms.values())

    def table(self) -> list[dict[str, Any]]:
        """One row per layer, in order of execution.

        Keys: layer, kind, weight_shape, input_size, norm, median, smallest, condition, condition_resolved,
        stable_rank, effective_rank, rank_share (of the number of singular values), count, accuracy, exact, note.
        """
        return [layer_row(layer) for layer in self.layers.values()]

    def summary(self) -> list[dict[str, Any]]:
        """In short: one row per layer, at most 40: the largest norms where there are more."""
        names = ("layer", "kind", "weight_shape", "norm", "condition", "effective_rank", "count")
        chosen = set(sorted(self.layers, key=lambda name: -self.layers[name].norm)[:40])
        return [{key: row[key] for key in names} for row in self.table() if row["layer"] in chosen]

    def headline(self) -> str:
        """Layers and norms."""
        if not self.layers:
            return "no layers"
        largest = max(self.layers.values(), key=lambda layer: layer.norm)
        counted = f"{len(self.layers)} layers, {len(self.skipped)} skipped"
        return f"{counted}, largest norm {largest.norm:.4g} ({largest.name})"

    def __add__(self, other: Self) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride] (Self against Mapping)
        """Both shards' layers together, in order of execution.

        Raises:
            TypeError: a result of another kind.
            ValueError: different models, input sizes or settings, or layers that are in both.
        """
        both = super().__add__(other)
        position = {name: i for i, name in enumerate(self.execution)}
        names = sorted(both.layers, key=lambda name: position.get(name, len(position)))
        skipped = dict.fromkeys(entry for entry in (*self.skipped, *other.skipped) if entry[0] not in both.layers)
        return dataclasses.replace(both, layers={name: both.layers[name] for name in names}, skipped=tuple(skipped))

    @classmethod
    def from_format_1(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> SingularValues:
        """What version 0.1 wrote."""
        layers = {}
        for i, name in enumerate(header["order"]):
            own = {key: arrays[f"{i}/{key}"] for key in ("frequencies", "cells", "multiplicity", "distinct")}
            layers[name] = LayerSingularValues.from_format_1({"layer": header["layers"][name]}, own)
        return cls(
            model=header["model"],
            input_size=tuple(header["input_size"]),
            settings={k: v for k, v in header["details"].items() if k != "torch"},
            layers=layers,
            skipped=tuple((name, kind, reason) for name, kind, reason in header["skipped"]),
            details=dict(header["details"]),
            execution=tuple(header["execution"]),
        )


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
    distributed: bool | None = ...,
) -> LayerSingularValues: ...
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
    distributed: bool | None = ...,
) -> SingularValues: ...
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
    distributed: bool | None = None,
) -> LayerSingularValues | SingularValues:
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

    On a GPU matrices of one side are one batch, whichever layers they belong to. "exact" values there are eigenvalues
    of [[0, A], [A^H, 0]]; those of more than 1,024 rows and columns together are the CPU's compiled code's, as are
    Gram matrices of larger sides.

    Args:
        model: any module, or one convolution.
        input_size: (c, height, width) of the images for a model; the spatial size alone for one layer.
        accuracy: "exact", "high" or "fast".
        padding: None for what each layer does, "circular" to treat every layer as circular.
        fold_batch_norm: scale each output channel by the batch norm that follows, gamma / sqrt(var + eps).
        linear: linear layers too, as 1 x 1 convolutions.
        layers: names of the layers to do; None for all.
        progress: show a progress bar.
        distributed: whether the processes of torch.distributed share the layers of a model, as in `RunOptions`.

    Returns:
        A LayerSingularValues for one convolution; for a model SingularValues, which map names to such and list
        what was skipped and why. A layer that is called on several input sizes, or before several batch norms, has
        the row of its first call; the others are listed as skipped.

    Raises:
        ValueError: a bad argument, weights that are not finite, or a size that a stride does not divide.
        TypeError: a module without usable weights (lazy, quantised).

    Source: Sedghi, Gupta, Long 2019, "The Singular Values of Convolutional Layers" (ICLR), Theorem 6; stride as in
        Senderovich et al. 2022, "Towards Practical Control of Singular Values of Convolutional Layers".
    """
    check_accuracy(accuracy)
    model = plain(model)
    if isinstance(model, Convolution):
        if layers is not None or linear:
            raise ValueError("expected `layers` and `linear` with a whole model only, got them with one convolution")
        taken, reason = understood(model, tuple(input_size))
        if reason:
            raise ValueError(f"expected a convolution whose weight is its map, got {type(model).__name__}: {reason}")
        with torch.no_grad(), own_threads_only():
            symbols = conv_symbols_of(taken, input_size=tuple(input_size), padding=padding)
        with torch.no_grad():
            return _spectrum("", type(model).__name__, symbols, accuracy, distinct_values(symbols, accuracy))
    found, skipped = find_convolutions(model, tuple(input_size), linear=linear)
    execution = tuple(layer.name for layer in found)
    if layers is not None:
        found, skipped = _chosen(found, list(layers))
    left_out = [row for layer in found for row in layer.left_out(fold_batch_norm)]
    name = network_name(model)
    settings = {"accuracy": accuracy, "padding": padding or "as the layers"}
    settings["batch_norm"] = "folded" if fold_batch_norm else "not folded"
    with joined(distributed, "singular values") as ranks, torch.no_grad():
        weights = fingerprint(model)
        ranks.same({"model": weights, "settings": [settings, execution, [layer.name for layer in found]]})
        mine = [found[i] for i in ranks.dealt([_cost(layer) for layer in found])]
        batch_norms = [layer.batch_norm if fold_batch_norm else None for layer in mine]
        failed: list[Skipped] = []
        spectra = _spectra(mine, batch_norms, padding, accuracy, failed, progress and ranks.first)
        part = SingularValues(
            model=name,
            weights=weights,
            input_size=tuple(int(n) for n in input_size),
            settings=settings,
            layers=spectra,
            skipped=tuple(failed),
            execution=execution,
            details={"model": name, **settings, "torch": str(torch.__version__)},
        )
        result = ranks.whole(part)
    place = {layer.name: i for i, layer in enumerate(found)}
    skipped += sorted(result.skipped, key=lambda row: place[row[0]])
    if layers is not None and skipped:
        name, _, reason = skipped[0]
        raise ValueError(f"layer {name!r}: {reason}")
    return dataclasses.replace(result, skipped=(*skipped, *left_out))


def _cost(layer: FoundLayer) -> float:
    """Multiplications, up to a factor: those of one decomposition at every frequency."""
    names = ("in_features", "out_features") if isinstance(layer.module, nn.Linear) else ("in_channels", "out_channels")
    sides = [getattr(layer.module, name) for name in names]
    return math.prod(layer.input_size) * math.prod(sides) * min(sides)


def _spectra(
    found: list[Any],
    batch_norms: list[nn.Module | None],
    padding: str | None,
    accuracy: Accuracy,
    skipped: list[tuple[str, str, str]],
    progress: bool,
) -> dict[str, LayerSingularValues]:
    """By name; layers that cannot be done are added to `skipped`. Layers on a GPU are done together."""
    spectra: dict[str, LayerSingularValues] = {}
    pairs = list(zip(found, batch_norms, strict=True))
    # of parameters: a weight that is made when it is read may be another each time
    on_gpu = all(parameter.is_cuda for layer in found for parameter in layer.module.parameters())
    with tqdm(total=len(found), unit="layer", desc="singular values", disable=not progress) as bar:
        for some in [pairs] if on_gpu else [[pair] for pair in pairs]:
            taken: list[tuple[str, str, Symbols]] = []
            for layer, norm in some:
                bar.set_postfix_str(layer.name)
                kind, size = type(layer.module).__name__, layer.input_size
                try:
                    with own_threads_only():
                        symbols = conv_symbols_of(layer.module, input_size=size, batch_norm=norm, padding=padding)
                except (ValueError, TypeError) as error:  # one layer that cannot be done does not lose the others
                    skipped.append((layer.name, kind, str(error)))
                    bar.update()
                else:
                    taken.append((layer.name, kind, symbols))
            values = _values_of([symbols for _, _, symbols in taken], accuracy, bar)
            for (name, kind, symbols), own in zip(taken, values, strict=True):
                spectra[name] = _spectrum(name, kind, symbols, accuracy, own)
    return spectra


def _values_of(every: list[Symbols], accuracy: Accuracy, bar: tqdm[Any]) -> list[NDArray[np.float64]]:
    """`distinct_values` of some layers, together if they are on a GPU; the bar moves by one for each."""
    if every and all(symbols.taps.is_cuda for symbols in every):
        with own_threads_only(), float32("ieee"):
            return together([values_of(symbols, accuracy) for symbols in every], lambda _i: bar.update())
    values = []
    for symbols in every:
        before = bar.n
        values.append(distinct_values(symbols, accuracy, bar.update))
        bar.update(before + 1 - bar.n)
    return values


def _chosen(found: list[Any], names: list[str]) -> tuple[list[Any], list[tuple[str, str, str]]]:
    known = {layer.name: layer for layer in found}
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(
            f"expected `layers` among the convolutions of the model ({', '.join(list(known)[:8])}, ...), got {missing}"
        )
    return [known[name] for name in names], []


def _spectrum(name: str, kind: str, symbols: Symbols, accuracy: Accuracy, values: np.ndarray) -> LayerSingularValues:
    return LayerSingularValues(
        name=name,
        layer_type=kind,
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
