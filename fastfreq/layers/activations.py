"""Second moments of hidden activations at each frequency, streamed over images, in memory that is checked first."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastfreq.engine.contexts import fitting

from ._alignment import Alignment
from ._latent import to_channels
from .layer_activations import LayerActivations
from .layer_singular_values import LayerSingularValues
from .symbols import Symbols

_BLOCK = 64 << 20  # bytes of what is held for a moment


@dataclasses.dataclass(frozen=True)
class MomentLimits:
    """What the second moments of a network's activations may take.

    Attributes:
        memory: bytes at a time. A layer of c input channels (those of its stride's phases counted) takes
            16 c min(c, n) at each frequency; where all of them do not fit, as many are measured as do, evenly spread
            from the lowest to the highest radius. Energies are measured at all frequencies.
        frequencies: at most so many of a layer get second moments, spread in the same way: 224 x 224 pixels have
            25,090 distinct ones.
    """

    memory: int = 1 << 30
    frequencies: int = 256


@dataclasses.dataclass(frozen=True)
class Watched:
    """A layer whose inputs are measured.

    Attributes:
        module: the layer in the model.
        symbols: its matrices.
        spectrum: its singular values.
        counts: (f,) how many of them it keeps at each distinct frequency of the spectrum.
    """

    module: nn.Module
    symbols: Symbols
    spectrum: LayerSingularValues
    counts: NDArray[np.int64]


def half_plane(grid: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(f, d) one of each pair k, -k, signed and by ascending radius, and (f,) 2, or 1 where k is its own conjugate."""
    sides = np.asarray(grid)
    every = np.argwhere(np.ones(grid, dtype=bool))
    twin = -every % sides
    code, twin_code = (np.ravel_multi_index(tuple(k.T), grid) for k in (every, twin))
    one = every[code <= twin_code]
    multiplicity = np.where(code < twin_code, 2, 1)[code <= twin_code]
    signed = (one + sides // 2) % sides - sides // 2
    order = np.argsort(np.square(signed / sides).sum(axis=1), kind="stable")
    return signed[order].astype(np.int64), multiplicity[order].astype(np.int64)


def measure_activations(
    model: nn.Module,
    images: Tensor,
    layers: dict[str, Watched],
    *,
    batch_size: int = 32,
    limits: MomentLimits,
) -> dict[str, LayerActivations]:
    """Second moments of the inputs of layers, and how they lie to what the layers keep.

    At one frequency a second moment takes 16 c min(c, n) bytes, for c channels (phases of the stride counted) and n
    inputs: as many inputs as there are, or their sum of outer products in complex128. A layer that has more distinct
    frequencies than the limits allow, or would take more memory at all of them, is measured at as many as may be,
    evenly spread over their ascending radii, 0 always among them; its energy is measured at all. Layers share one
    pass over the images as long as together they fit; then there is another pass.

    Args:
        model: in evaluation mode.
        images: (n, c, ...) as the model takes them.
        layers: by name.
        batch_size: images per forward pass; it changes no figure but in rounding.
        limits: of memory and frequencies; each second moment costs two decompositions.

    Raises:
        ValueError: a layer of which not one frequency fits, or which the forward pass calls with inputs of another
            size or never; images that are none or not finite.
    """
    memory, frequencies = limits.memory, limits.frequencies
    if batch_size < 1 or frequencies < 1:
        raise ValueError(f"expected `batch_size` and `frequencies` of at least 1, got {batch_size} and {frequencies}")
    if not len(images) or not torch.isfinite(images).all():
        raise ValueError(f"expected `images` of finite numbers, at least one image, got shape {tuple(images.shape)}")
    with torch.no_grad():  # a size that fits: what a layer has seen before memory ran out must not count twice
        batch_size = fitting(lambda size: model(images[:size].clone()), min(batch_size, len(images)))
    calls = _calls(model, images[:1], {name: layer.module for name, layer in layers.items()})
    moments = {
        name: _Moments(name, layer, calls[name] * len(images), memory, frequencies) for name, layer in layers.items()
    }
    found: dict[str, LayerActivations] = {}
    for names in _passes({name: m.bytes for name, m in moments.items()}, memory):
        part = {name: moments.pop(name) for name in names}
        _stream(model, images, {name: (layers[name].module, m.add) for name, m in part.items()}, batch_size)
        for name in list(part):
            found[name] = part.pop(name).result(layers[name])
    return {name: found[name] for name in layers}


def _calls(model: nn.Module, image: Tensor, modules: dict[str, nn.Module]) -> dict[str, int]:
    """How often one forward pass calls each layer: an input counts each time."""
    count = dict.fromkeys(modules, 0)

    def counted(name: str) -> Callable[[Tensor], None]:
        return lambda _x: count.update({name: count[name] + 1})

    _stream(model, image, {name: (module, counted(name)) for name, module in modules.items()}, 1)
    never = [name for name, number in count.items() if not number]
    if never:
        raise ValueError(f"expected layers that the forward pass calls, it does not call {never}")
    return count


def _passes(sizes: dict[str, int], memory: int) -> Iterator[list[str]]:
    """Names in order, as many at a time as fit."""
    names: list[str] = []
    for name, size in sizes.items():
        if names and sum(sizes[n] for n in names) + size > memory:
            yield names
            names = []
        names.append(name)
    yield names


def _stream(
    model: nn.Module,
    images: Tensor,
    watchers: dict[str, tuple[nn.Module, Callable[[Tensor], None]]],
    batch_size: int,
) -> None:
    """Call each watcher with each input of its module."""
    with contextlib.ExitStack() as stack, torch.no_grad():
        for module, watch in watchers.values():
            stack.callback(module.register_forward_pre_hook(_shown(watch)).remove)
        for start in range(0, len(images), batch_size):
            model(images[start : start + batch_size].clone())


def _shown(watch: Callable[[Tensor], None]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    return lambda _module, inputs: watch(inputs[0].detach())


class _Moments:
    """Energy at every frequency of a layer's input, and second moments at those that fit into memory."""

    def __init__(self, name: str, layer: Watched, inputs: int, memory: int, frequencies: int) -> None:
        self.name, self.symbols, self.inputs = name, layer.symbols, inputs
        grid = layer.symbols.grid
        self.frequencies, self.multiplicity = half_plane(grid)
        self.channels = layer.symbols.taps.shape[0] * layer.symbols.taps.shape[3]
        self.columns = min(self.channels, inputs)
        each = 16 * self.channels * self.columns
        room = memory // each
        if not room:
            raise ValueError(
                f"expected `memory` for the second moment of at least one frequency, layer {name!r} takes "
                f"{each / 2**20:.0f} MiB for {self.channels} channels and {inputs} inputs, allowed are "
                f"{memory / 2**20:.0f} MiB; allow more, or leave it out with `layers`"
            )
        count = len(self.frequencies)
        self.rows = np.unique(np.linspace(0, count - 1, min(room, frequencies, count)).round().astype(int))
        self.bytes = each * len(self.rows)
        self.cells = np.ravel_multi_index(tuple((self.frequencies % np.asarray(grid)).T), grid)
        self.energy = np.zeros(count)
        self.seen = 0
        self.data: Tensor | None = None

    def add(self, x: Tensor) -> None:
        """Add a batch of inputs."""
        expected = self.symbols.input_size
        if tuple(x.shape[2:]) != expected:
            raise ValueError(
                f"expected inputs of {expected} for layer {self.name!r}, got {tuple(x.shape[2:])}; all images must "
                "have the `input_size`, and a layer that is called again must see the same size"
            )
        step = max(1, _BLOCK // (16 * self.channels * math.prod(self.symbols.grid)))
        for part in x.split(step):
            self._add(to_channels(part.double(), self.symbols))

    def _add(self, channels: Tensor) -> None:
        grid = self.symbols.grid
        spectrum = torch.fft.fftn(channels, s=grid, dim=tuple(range(2, 2 + len(grid))), norm="ortho").flatten(2)
        half = spectrum[:, :, torch.from_numpy(self.cells).to(spectrum.device)]
        self.energy += (half.real.square() + half.imag.square()).sum(dim=(0, 1)).cpu().numpy()
        columns = half[:, :, torch.from_numpy(self.rows).to(half.device)].permute(2, 1, 0)  # (f, c, n)
        data = self.data
        if data is None:
            data = self.data = columns.new_zeros(len(self.rows), self.channels, self.columns)
        if self.columns == self.inputs:
            data[:, :, self.seen : self.seen + len(half)] = columns
        else:
            data.baddbmm_(columns, columns.mH)
        self.seen += len(half)

    def result(self, layer: Watched) -> LayerActivations:
        """What was seen, beside the layer's matrices."""
        assert self.data is not None
        at = tuple((self.frequencies % np.asarray(self.symbols.grid)).T)
        kept = layer.counts[layer.spectrum.cells[at]]
        names = ("kept_energy", "output_energy", "kept_output_energy")
        table = {name: np.full(len(kept), np.nan) for name in names}
        eigenvalues = np.full((len(kept), self.columns), np.nan)
        angles = np.full((len(kept), int(kept[self.rows].max(initial=0))), np.nan)
        aligned = Alignment(self.symbols)
        step = max(1, _BLOCK // (16 * max(self.channels * self.columns, self.symbols.taps[:, 0].numel())))
        for start in range(0, len(self.rows), step):
            rows = self.rows[start : start + step]
            data = self.data[start : start + step]
            found = aligned(data, self.frequencies[rows], kept[rows], factor=self.columns == self.inputs)
            eigenvalues[rows] = found.eigenvalues / self.inputs
            angles[rows, : found.angles.shape[1]] = found.angles
            for name in names:
                table[name][rows] = getattr(found, name) * self.multiplicity[rows] / self.inputs
        return LayerActivations(
            frequencies=self.frequencies,
            multiplicity=self.multiplicity,
            energy=self.energy * self.multiplicity / self.inputs,
            eigenvalues=eigenvalues,
            kept=kept,
            angles=angles,
            images=self.inputs,
            **table,
        )
