"""What raises units in real images: the images that each answers to most, and the patch that it sees of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastfreq.engine.images import Chunk, ImageStream
from fastfreq.engine.measure import measure
from fastfreq.engine.measurement import Measurement
from fastfreq.engine.network import Network
from fastfreq.engine.run import RunOptions, device_of
from fastfreq.engine.session import Session
from fastfreq.results.folds import by_image, condition, same
from fastfreq.results.result import ModelResult
from fastfreq.vocabulary import numbers

from ._layer_view import LayerView
from .receptive_field import ReceptiveField, receptive_field

_SHOWN = 9  # patches of a unit in tables and pictures


@dataclasses.dataclass(frozen=True)
class Patch:
    """Where a unit answers most in one image.

    Attributes:
        image: its id.
        activation: the largest of the unit over all places.
        box: (top, bottom, left, right), ends excluded: the pixels that this place sees.
    """

    image: int
    activation: float
    box: tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class TopPatches(ModelResult, kind="top_patches"):
    """The largest activation of units in each image, and where.

    Attributes:
        layer: its name.
        size: (rows, columns) of its maps.
        field: the pixels that a place depends on.
        units: (u,) ascending.
        activations: (u, n) float32, the largest over places, image by image.
        places: (u, n) int64 row times columns + column of the largest.
    """

    SHAPES: ClassVar[dict[str, str]] = {"units": "u", "activations": "u n", "places": "u n"}

    layer: str = same()
    size: tuple[int, int] = same()
    field: ReceptiveField = same()
    units: NDArray[np.int64] = condition()
    activations: NDArray[np.float32] = by_image(conditions=0)
    places: NDArray[np.int64] = by_image(conditions=0)

    def top(self, unit: int, *, count: int = _SHOWN) -> list[Patch]:
        """The patches that raise a unit most, at most one of an image, the first the largest.

        Raises:
            KeyError: a unit that was not measured.
        """
        where = np.flatnonzero(self.units == unit)
        if not len(where):
            raise KeyError(f"expected one of the {len(self.units)} units measured, got {unit!r}")
        values, places = self.activations[where[0]], self.places[where[0]]
        found = []
        for i in np.argsort(-values.astype(np.float64), kind="stable")[:count]:
            row, column = divmod(int(places[i]), self.size[1])
            box = self.field.box(row, column, self.shape[1:])
            found.append(Patch(int(self.image_ids[i]), float(values[i]), box))
        return found

    def patches(self, images: Any, *, count: int = _SHOWN) -> dict[int, list[NDArray[np.float32]]]:
        """By unit, its top patches (c, height, width), pixels in [0, 1], cut from the images that were measured.

        Args:
            images: all of them, in the same order; ids count from 0.
            count: of each unit.

        Raises:
            ValueError: an image that is not there, or is another one.
        """
        wanted = {int(unit): self.top(int(unit), count=count) for unit in self.units}
        needed = {patch.image for patches in wanted.values() for patch in patches}
        known = dict(zip(self.image_ids.tolist(), self.image_hashes.tolist(), strict=True))
        kept: dict[int, NDArray[np.float32]] = {}
        stream = ImageStream(images, None, first_image=0, shard=(0, 1), needs_labels=False)
        for chunk in stream.chunks(256):
            hashes = chunk.hashes.numpy().view(np.uint64).tolist()
            for i, image in enumerate(chunk.ids.tolist()):
                if image not in needed:
                    continue
                if hashes[i] != known[image]:
                    raise ValueError(f"expected the images that were measured, image {image} is another one")
                pixels = chunk.images[i]
                kept[image] = (pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()).cpu().numpy()
        missing = sorted(needed - kept.keys())
        if missing:
            raise ValueError(f"expected all images that were measured, image {missing[0]} is not among these")
        return {
            unit: [kept[p.image][:, p.box[0] : p.box[1], p.box[2] : p.box[3]] for p in patches]
            for unit, patches in wanted.items()
        }

    def table(self) -> list[dict[str, Any]]:
        """One row per unit and rank, at most nine of a unit."""
        names = ("top", "bottom", "left", "right")
        return [
            {"layer": self.layer, "unit": int(unit), "rank": rank, "image": patch.image, "activation": patch.activation}
            | dict(zip(names, patch.box, strict=True))
            for unit in self.units
            for rank, patch in enumerate(self.top(int(unit)), start=1)
        ]

    def summary(self) -> list[dict[str, Any]]:
        """The first patch of each unit, at most 32 of them."""
        return [row for row in self.table() if row["rank"] == 1][:32]

    def headline(self) -> str:
        """What a place of the layer sees."""
        field = f"{self.field.height} x {self.field.width} pixels"
        return f"{len(self.units)} units of {self.layer}, each place of {self.size[0]} x {self.size[1]} sees {field}"


def top_patches(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    layer: str,
    units: Sequence[int] | None = None,
    **run: Unpack[RunOptions],
) -> TopPatches:
    """Find the images that units of a layer answer to most, and the patch of each that the unit sees.

    The network runs as far as the layer. The receptive field is measured: the pixels on which the gradient of a place
    is not 0, joined over noise images.

    Args:
        model: as for `heatmap`.
        images: as for `heatmap`.
        labels: not used; may be left out.
        layer: as in model.named_modules(), which runs once in a forward pass: maps, tokens (their grid, class tokens
            left out) or rows.
        units: channels of maps, features of tokens, places of rows, ascending; None for all.
        **run: `RunOptions`; `compile` is refused: compiled networks may skip the hook that reads the layer.

    Returns:
        TopPatches: `.top(unit)`, `.patches(images)`, `.plot(images=images)`; `a + b` merges shards, and other units.

    Raises:
        KeyError: a layer that there is not; the message lists near names.
        ValueError: units out of range, a layer that runs not once, or a bad argument.
        TypeError: a layer that returns no tensor.
        FloatingPointError: activations that are NaN or infinite.

    Source: Zeiler, Fergus 2014, section 4; Zhou et al. 2015.
    """
    if run.get("compile"):
        raise ValueError("expected compile=False: compiled networks may skip the hook that reads the layer, got True")
    return measure(_TopPatches(model, layer, units, run.get("device")), model, images, None, run)


class _TopPatches(Measurement):
    """One pass as far as the layer."""

    result, label, needs_labels = TopPatches, "patches", False

    def __init__(self, model: nn.Module, layer: str, units: Sequence[int] | None, device: Any) -> None:
        self._model, self._layer, self._asked, self.watched = model, layer, units, (layer,)
        self._device = device_of(device)

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """As in `Measurement`; the field is that of float32, whatever precision images are run in."""
        with torch.inference_mode(False), torch.no_grad():
            network = Network(self._model, precision="fp32", channels_last=False, device=self._device)
            view = LayerView(network, self._layer, shape)
            _, count, rows, columns = view.maps(view.sample).shape
            self._units = _ascending(self._asked, count, self._layer)
            field = receptive_field(network, view, shape)
        return {"layer": self._layer, "size": (rows, columns), "field": field, "units": self._units}

    def passes(self, shape: tuple[int, int, int]) -> float:
        """As in `Measurement`."""
        return 1

    def attach(self, session: Session) -> None:
        """As in `Measurement`."""
        self._view = LayerView(session.network, self._layer, session.shape)

    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        """As in `Measurement`."""
        units = torch.from_numpy(self._units).to(session.device)

        def read(part: Chunk) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            flat = self._view.maps(self._view(part.images))[:, units].float().flatten(2)
            session.advance(len(part))
            values, places = flat.max(dim=2)
            return values.T.cpu().numpy(), places.T.cpu().numpy()

        found = session.in_batches(chunk, read)
        activations, places = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
        if not np.isfinite(activations).all():
            unit, image = np.argwhere(~np.isfinite(activations))[0]
            raise FloatingPointError(
                f"expected finite activations, got NaN or infinity in unit {self._units[unit]} of layer "
                f"{self._layer!r} for image {int(chunk.ids[image])}; check the weights, or try precision='fp32'"
            )
        return {"activations": activations, "places": places}


def _ascending(units: Sequence[int] | None, count: int, layer: str) -> NDArray[np.int64]:
    if units is None:
        return np.arange(count)
    asked = numbers.ascending("units", units, numbers.as_int)
    if asked[0] < 0 or asked[-1] >= count:
        raise ValueError(f"expected `units` from 0 to {count - 1} of layer {layer!r}, got {[*asked]}")
    return np.array(asked, np.int64)
