"""The filters of a network's layers as images, with the Gabor function and the wavelet that they are most like."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from fastfreq.engine import layer_names
from fastfreq.engine.network import fingerprint, network_name
from fastfreq.results.folds import same, text, union
from fastfreq.results.result import Result
from fastfreq.vocabulary import checks, numbers

from .layer_filters import LayerFilters, described
from .linear_parts import Compositions
from .nearest_wavelet import nearest_wavelets, usual, wavelet_names


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Filters(Result, kind="filters"):
    """Filters of the layers of a model. Shards by layers merge with ``+``.

    Attributes:
        model: name or class of the model.
        weights: fingerprint of the model.
        input_size: (c, h, w) of its images.
        units: most of each layer.
        largest: side of the largest filters.
        wavelets: that filters were compared with.
        layers: by name, in order of execution; one that runs again in a pass also as "name (use 2)" and so on.
        skipped: (name, reason) of what was left out.
        execution: names of all layers in order of execution, of each use.
    """

    model: str = same()
    weights: str = same()
    input_size: tuple[int, ...] = same()
    units: int = same()
    largest: int = same()
    wavelets: tuple[str, ...] = same()
    layers: dict[str, LayerFilters] = union()
    skipped: tuple[tuple[str, str], ...] = text(())
    execution: tuple[str, ...] = same()

    def _check_shapes(self) -> None:
        super()._check_shapes()
        for name, layer in self.layers.items():
            u, _, h, w = layer.filters.shape if layer.filters.ndim == 4 else (-1, 0, 0, 0)
            if layer.units.shape != (u,) or layer.patterns.shape != (u, h, w) or len(layer.wavelets) != u:
                raise ValueError(f"expected `filters` of layer {name!r} of shape (u, c, h, w), as many as `units`")
            of_units = [layer.pattern_share, layer.wavelet_residual]
            of_units += [getattr(layer.gabors, f.name) for f in dataclasses.fields(layer.gabors)]
            if any(len(np.atleast_1d(array)) != u for array in of_units):
                raise ValueError(f"expected {u} of everything in layer {name!r}, one per unit")

    def __getitem__(self, name: str) -> LayerFilters:
        """One layer.

        Raises:
            KeyError: it has no filters; the message says why, or lists near names.
        """
        if name in self.layers:
            return self.layers[name]
        for skipped, reason in self.skipped:
            if skipped == name:
                raise KeyError(f"expected a layer with filters, {name!r} was skipped: {reason}")
        raise KeyError(
            f"expected one of the {len(self.layers)} layers, got {name!r}; did you mean "
            f"{checks.near_names(name, self.layers)}?"
        )

    def __add__(self, other: Self) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride] (Self, as there)
        """Both shards' layers together, in order of execution."""
        both = super().__add__(other)
        names = sorted(both.layers, key=self.execution.index)
        skipped = tuple(dict.fromkeys(e for e in (*self.skipped, *other.skipped) if e[0] not in both.layers))
        return dataclasses.replace(both, layers={name: both.layers[name] for name in names}, skipped=skipped)

    def table(self) -> list[dict[str, Any]]:
        """One row per layer: statistics of its filters."""
        return [layer.row(name) for name, layer in self.layers.items()]

    def summary(self) -> list[dict[str, Any]]:
        """In short, the first 40 layers."""
        keys = ("layer", "units", "filter_size", "ignored", "peak_frequency", "colour", "gabor_residual", "gabor_like",
                "bandwidth", "wavelet")  # fmt: skip
        return [{key: row[key] for key in keys} for row in self.table()[:40]]

    def rows(self, name: str) -> list[dict[str, Any]]:
        """One row per unit of a layer: its Gabor function and its nearest wavelet."""
        layer = self[name]
        gabors, frequency, orientation = layer.gabors, *layer.peaks()
        columns = {
            "unit": layer.units.tolist(),
            "orientation": gabors.orientation.tolist(),
            "frequency": gabors.frequency.tolist(),
            "bandwidth": gabors.bandwidth.tolist(),
            "gabor_residual": layer.gabor_residual.tolist(),
            "wavelet": list(layer.wavelets),
            "wavelet_residual": layer.wavelet_residual.tolist(),
            "peak_frequency": frequency.tolist(),
            "peak_orientation": orientation.tolist(),
            "colour": layer.colour.tolist(),
            "pattern_share": layer.pattern_share.tolist(),
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def headline(self) -> str:
        """How Gabor-like the first layer is."""
        if not self.layers:
            return "no layers"
        name, layer = next(iter(self.layers.items()))
        row = layer.row(name)
        like = f"{row['gabor_like']:.0%} of {name}'s filters are Gabor functions to a quarter of their energy"
        return like if np.isfinite(row["gabor_like"]) else f"{name}'s filters are too small for Gabor functions"


def filters(
    model: nn.Module,
    *,
    input_size: Sequence[int],
    layers: Sequence[str] | None = None,
    units: int = 64,
    largest: int = 64,
    wavelets: Sequence[str] | None = None,
    progress: bool = False,
) -> Filters:
    """The filter of each unit of each convolution as an image, and what it is like.

    A first layer's filters are its weights. Those of a deeper layer are the exact composition of the linear parts
    before it: convolutions, batch norms, additions, average pooling, strides. **Activations before it are taken out,
    and maxima over windows replaced by the middle of each window**: no unit of the network computes this map, it is
    what the unit would look for if nothing in between were cut off. `ignored` of each layer says what was left out.

    The composition is the gradient of the copy's output at one place, in float64, where the copy runs without what is
    left out. It is checked to be linear, to be the same filter at the next place, and to see no padding; layers
    that fail are skipped with the reason, such as those behind a gate, a softmax or a norm over one image. A layer that
    runs again has the filters of each use, whose compositions differ: "conv", "conv (use 2)".

    Args:
        model: it is not changed.
        input_size: (c, h, w) of the images that it takes.
        layers: names of the convolutions to do, each in all its uses, or of single further uses; None for all.
        units: most of each layer, at even distances.
        largest: side of the largest filters in pixels; layers that see more are skipped.
        wavelets: names of orthogonal wavelets of PyWavelets to compare with; None for haar, db2, db4, sym4 and coif1
            where PyWavelets is installed, else haar; () for none.
        progress: show a progress bar.

    Returns:
        Filters: `[name]`, `.rows(name)`, `.table()`, `.plot()`; `a + b` merges shards of other layers.

    Raises:
        ValueError: a bad argument, a model that does not run on such images, an unknown layer, or one that was named
            and cannot be done.
        TypeError: a model that cannot be copied, or that takes more than images; arguments of another type.
        ImportError: a wavelet that needs PyWavelets without it.

    Source: Lee, Ekanadham, Ng 2007 and Lee et al. 2011 for second layers as combinations of first-layer filters;
        Papyan, Romano, Elad 2017, effective dictionaries D_1 D_2 ... D_i.
    """
    size = numbers.as_ints("input_size", input_size, of="(c, h, w)")
    if min(size) < 1:
        raise ValueError(f"expected `input_size` (c, h, w) of one image with positive sides, got {size}")
    units, largest = numbers.as_int("units", units), numbers.as_int("largest", largest)
    if units < 1 or largest < 1:
        raise ValueError(f"expected `units` and `largest` from 1, got {units} and {largest}")
    names, progress = usual() if wavelets is None else wavelet_names(wavelets), numbers.as_flag("progress", progress)
    nearest_wavelets(np.zeros((1, 1, 1)), wavelets=names)  # refuse before anything is computed
    if layers is not None and not layer_names.checked(layers):
        raise ValueError("expected at least one of `layers`, got none; leave it out for all")
    compositions = Compositions(model, size, largest=largest)
    chosen = _chosen(compositions, layers)
    compositions.prepare(chosen)
    found: dict[str, LayerFilters] = {}
    skipped = [] if layers is not None else list(compositions.unreached)
    with tqdm(total=len(chosen), unit="layer", desc="filters", disable=not progress) as bar:
        for name in chosen:
            bar.set_postfix_str(name)
            try:
                composed = compositions.of(name, units)
            except ValueError as error:
                if layers is not None and name in layers:
                    raise ValueError(f"layer {name!r}: {error}") from error
                skipped.append((name, str(error)))
            else:
                with torch.no_grad():
                    found[name] = described(composed, names)
            bar.update()
    name = network_name(model)
    return Filters(
        model=name,
        weights=fingerprint(model),
        input_size=size,
        units=units,
        largest=largest,
        wavelets=names,
        layers=found,
        skipped=tuple(skipped),
        execution=compositions.names,
        details={"model": name, "torch": str(torch.__version__)},
    )


def _chosen(compositions: Compositions, layers: Sequence[str] | None) -> tuple[str, ...]:
    if layers is None:
        return compositions.names
    reasons = dict(compositions.unreached)
    for name in layers:
        if name in reasons:
            raise ValueError(f"layer {name!r}: {reasons[name]}")
        if name not in compositions.names:
            raise ValueError(
                f"expected `layers` among the {len(compositions.names)} convolutions of the model, got {name!r}; "
                f"did you mean {checks.near_names(name, compositions.names)}?"
            )
    wanted = {use for name in layers for use in (name, *compositions.uses(name))}
    return tuple(name for name in compositions.names if name in wanted)
