"""Spectra of feature maps: what each layer of a convolutional network or a transformer holds, by frequency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from fastfreq.engine import layer_names, maps
from fastfreq.engine.images import Chunk
from fastfreq.engine.layer_rows import check_rows
from fastfreq.engine.map_layouts import channels_last
from fastfreq.engine.measure import measure
from fastfreq.engine.measurement import Measurement
from fastfreq.engine.model_checks import check_eval
from fastfreq.engine.pixels import split_normalization
from fastfreq.engine.run import RunOptions
from fastfreq.engine.session import Session
from fastfreq.vocabulary import numbers
from fastfreq.vocabulary.sums import ExactSum

from .result import Facts, FeatureSpectra, image_rings

_FLOOR = 1e-6  # added to amplitudes before the logarithm, as in the authors' code


def feature_spectra(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    layers: Sequence[str] | None = None,
    token_grid: tuple[int, int] | None = None,
    skip_dead: bool = False,
    **run: Unpack[RunOptions],
) -> FeatureSpectra:
    """Measure the log amplitude of feature maps by frequency, relative to zero frequency.

    For every image and layer, log(|F_c(k)| + 1e-6) of the maps' 2-D DFT is averaged over channels c and over the
    frequencies k of each ring, and its value at zero frequency subtracted. Rings are counted in cycles per image, so
    layers of different size share one axis; maps are taken to cover the whole image.

    Tokens (n, t, c) of a transformer are laid out on their grid: that of the patch embedding (the first convolution,
    where its kernel equals its stride), halved for merged stages, or without one a grid with the image's aspect ratio.
    Tokens in excess, at most 16, stand before the grid (class token, registers) and are dropped. 4-D outputs are
    (n, c, h, w), or (n, h, w, c) by the kind of layer, the image's aspect ratio, or where as many channels as rows and
    columns have that, too, a grey image of twice the size.

    Args:
        model: as for `heatmap`.
        images: as for `heatmap`.
        labels: not used; may be left out.
        layers: names of submodules, each of which runs once in a forward pass; None for the innermost blocks (items
            with parts of their own in a Sequential or ModuleList), or all convolutions where there are none. "input",
            the network's input, always comes first.
        token_grid: (rows, columns) of the tokens, where it cannot be found as above.
        skip_dead: leave maps that are zero everywhere out of the mean over channels; otherwise they count as flat,
            as in the authors' code.
        **run: `RunOptions`: precision (Fourier transforms are float32), batch_size, device, shard, checkpoint,
            progress and more. `compile` is refused: compiled networks may skip the hooks that record layers.

    Returns:
        FeatureSpectra: `.radial(name)`, `.high_frequency()`, `.plot()`.

    Raises:
        ValueError: a bad argument, an output that is no map and whose tokens fit no grid, maps of which it is not known
            which axis holds channels, or a layer that runs more than once, not at all, or on other images than those
            of the batch.
        KeyError: a layer that the model does not have.
        TypeError: a layer that does not return a tensor.
        FloatingPointError: features that are NaN or infinite.

    Source: Park, Kim 2022, "How Do Vision Transformers Work?" (ICLR), Figures 2 and 8; they show the half diagonal
        of the plane, this its rings.
    """
    if run.get("compile"):
        raise ValueError("expected compile=False: compiled networks may skip the hooks that record layers, got True")
    check_eval(model)
    names = layer_names.blocks(split_normalization(model)[0]) if layers is None else layer_names.checked(layers)
    if "input" in names:
        raise ValueError(
            "expected `layers` other than 'input', which stands for what the network sees; name the others, or call "
            "the module otherwise"
        )
    what = _FeatureMeasurement(names, _grid_of(token_grid), numbers.as_flag("skip_dead", skip_dead))
    return measure(what, model, images, None, run)


def _grid_of(token_grid: tuple[int, int] | None) -> tuple[int, int] | None:
    if token_grid is None:
        return None
    rows, columns = numbers.as_ints("token_grid", token_grid, of="(rows, columns)")
    if rows < 1 or columns < 1:
        raise ValueError(f"expected a positive `token_grid`, got {rows} x {columns}")
    return rows, columns


class _FeatureMeasurement(Measurement):
    """One forward pass, in which every layer is read."""

    result, label, needs_labels = FeatureSpectra, "features", False

    def __init__(self, names: tuple[str, ...], token_grid: tuple[int, int] | None, skip_dead: bool) -> None:
        self.watched, self._token_grid, self._skip_dead = names, token_grid, skip_dead
        self._hooks: list[Any] = []

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """As in `Measurement`."""
        return {"asked": self.watched, "skip_dead": self._skip_dead, "token_grid": self._token_grid}

    def passes(self, shape: tuple[int, int, int]) -> float:
        """As in `Measurement`."""
        return 1

    def attach(self, session: Session) -> None:
        """As in `Measurement`."""
        network, shape = session.network, session.shape[1:]
        check_rows(network, self.watched, session.shape)
        grids = maps.patch_grids(network.net, shape) if self._token_grid is None else [self._token_grid]
        last = channels_last(network, self.watched, session.shape)
        self._reader = _Reader(shape, grids, last, self._skip_dead, session.device)
        for name in self.watched:
            self._hooks.append(network.module(name).register_forward_hook(self._reader.hook(name)))

    def close(self) -> None:
        """As in `Measurement`."""
        for hook in self._hooks:
            hook.remove()

    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        """As in `Measurement`."""

        def read(part: Chunk) -> dict[str, tuple[Facts, Tensor]]:
            batch = session.network.clean_batch(part.images)
            found = self._reader.pass_over(session.network.net, batch, self.watched)
            session.advance(len(part))
            return found

        parts = session.in_batches(chunk, read)
        facts = {name: each[0] for name, each in parts[0].items()}
        for part in parts[1:]:
            for name, (other, _) in part.items():
                if other != facts[name]:
                    raise ValueError(f"expected layer {name!r} of one size, got {facts[name][1]} and {other[1]}")
        sums = {}
        for name in facts:
            values = torch.cat([part[name][1] for part in parts])
            sums[name] = ExactSum.stack([ExactSum.of(values, axis=0), ExactSum.of(values.square(), axis=0)])
        return {
            "facts": facts,
            "delta": {name: each[1:] for name, each in sums.items()},
            "zero": {name: each[0] for name, each in sums.items()},
        }


class _Rings(NamedTuple):
    """Rings of maps of one size."""

    ring: Tensor  # (rows * (columns // 2 + 1),) of each bin of the half plane
    weight: Tensor  # bins of the whole plane that it stands for
    cells: Tensor  # (r,)


class _Reader:
    """Profiles of every layer in one forward pass."""

    def __init__(
        self,
        shape: tuple[int, int],
        grids: list[tuple[int, int]],
        last: frozenset[str],
        skip_dead: bool,
        device: torch.device,
    ) -> None:
        self._shape, self._skip_dead, self._device, self._grids, self._last = shape, skip_dead, device, grids, last
        self._rings: dict[tuple[int, int], _Rings] = {}
        self._seen: dict[str, tuple[Facts, Tensor]] = {}
        self._images = 0  # in the pass that is read; 0 while a network is only timed or checked

    def hook(self, name: str) -> Callable[..., None]:
        """A forward hook that reads the layer's output at once: the network may go on in place."""

        def read(module: nn.Module, _args: Any, output: Any) -> None:
            if not self._images:
                return
            value = output[0] if isinstance(output, (tuple, list)) and output else output
            if not isinstance(value, Tensor):
                raise TypeError(f"expected layer {name!r} to return a tensor, got {type(output).__name__}")
            self._read(name, type(module).__name__, value)

        return read

    def pass_over(self, net: nn.Module, batch: Tensor, watched: Sequence[str]) -> dict[str, tuple[Facts, Tensor]]:
        """(facts, log amplitudes by ring (n, 1 + r), zero frequency alone first) of every layer.

        Raises:
            ValueError: a layer that did not run.
        """
        self._seen, self._images = {}, len(batch)
        try:
            self._read("input", "input", batch)
            net(batch)
        finally:
            self._images = 0
        missing = [name for name in watched if name not in self._seen]
        if missing:
            raise ValueError(f"expected every layer to run, {missing} did not")
        return self._seen

    def _read(self, name: str, kind: str, output: Tensor) -> None:
        if name in self._seen:
            raise ValueError(
                f"expected layer {name!r} to run once in a forward pass, it runs again; leave it out of `layers`"
            )
        laid_out, dropped = maps.as_maps(name, output, self._shape, last=name in self._last, grids=self._grids)
        n, channels, rows, columns = laid_out.shape
        if n != self._images:
            raise ValueError(
                f"expected layer {name!r} to return maps of {self._images} images, got {n} (windows, or parts of a "
                f"batch); leave it out of `layers`"
            )
        amplitude = torch.fft.rfft2(laid_out.float(), norm="ortho").abs()
        if not torch.isfinite(amplitude).all():
            raise FloatingPointError(f"expected finite features, got NaN or infinity in layer {name!r}")
        # the floor is that of the plain DFT, whose amplitudes are sqrt(rows columns) times these
        logs = (amplitude + _FLOOR / (rows * columns) ** 0.5).log_()
        if self._skip_dead:
            alive = (amplitude.amax(dim=(-2, -1), keepdim=True) > 0).to(logs.dtype)
            mean = (logs * alive).sum(dim=1) / alive.sum(dim=1).clamp_min(1)
        else:
            mean = logs.mean(dim=1)
        ring, weight, cells = self._rings_of((rows, columns))
        flat = mean.reshape(n, -1).double()
        by_ring = flat.new_zeros(n, len(cells)).index_add_(1, ring, flat * weight) / cells.clamp_min(1)
        values = torch.cat([flat[:, :1], (by_ring - flat[:, :1]) * (cells > 0)], dim=1)
        self._seen[name] = ((kind, (rows, columns), channels, dropped), values)

    def _rings_of(self, size: tuple[int, int]) -> _Rings:
        if size not in self._rings:
            ring, twice = image_rings(size, self._shape)
            ring, twice = ring.reshape(-1), twice.reshape(-1).copy()
            cells = np.bincount(ring, weights=twice)
            self._rings[size] = _Rings(*(torch.from_numpy(a).to(self._device) for a in (ring, twice, cells)))
        return self._rings[size]
