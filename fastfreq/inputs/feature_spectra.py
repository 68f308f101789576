"""Spectra of feature maps: what each layer of a convolutional network or a transformer holds, by frequency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from fastfreq.core.feature_profiles import FeatureProfile, FeatureSpectra, image_rings

from ._conditions import ConditionLoop, on_device, prepare
from ._network import Network, Precision

_FLOOR = 1e-6  # added to amplitudes before the logarithm, as in the authors' code
_MOST_PREFIX = 16  # tokens that may stand before the grid: one class token and registers
_MERGES = 5  # halvings of the grid in a hierarchical transformer


def feature_spectra(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    layers: Sequence[str] | None = None,
    token_grid: tuple[int, int] | None = None,
    skip_dead: bool = False,
    precision: Precision = "fp32",
    channels_last: bool = True,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    first_image: int = 0,
    shard: tuple[int, int] = (0, 1),
    progress: bool = False,
) -> FeatureSpectra:
    """Measure the log amplitude of feature maps by frequency, relative to zero frequency.

    For every image and layer, log(|F_c(k)| + 1e-6) of the maps' 2-D DFT is averaged over channels c and over the
    frequencies k of each ring, and its value at zero frequency subtracted. Rings are counted in cycles per image, so
    layers of different size share one axis; maps are taken to cover the whole image.

    Tokens (n, t, c) of a transformer are laid out on their grid: that of the patch embedding (the first convolution,
    where its kernel equals its stride), halved for merged stages, or without one a grid with the image's aspect ratio.
    Tokens in excess, at most 16, stand before the grid (class token, registers) and are dropped. 4-D outputs are
    (n, c, h, w), or (n, h, w, c) where only that has the image's aspect ratio.

    Args:
        model: as for `heatmap`.
        images: as for `heatmap`.
        labels: not used; may be left out with a tensor.
        layers: names of submodules; None for the innermost blocks (items with parts of their own in a Sequential or
            ModuleList), or all convolutions where there are none. "input", the network's input, always comes first.
        token_grid: (rows, columns) of the tokens, where it cannot be found as above.
        skip_dead: leave maps that are zero everywhere out of the mean over channels; otherwise they count as flat,
            as in the authors' code.
        precision: as for `heatmap`; Fourier transforms are float32.
        channels_last: as for `heatmap`.
        batch_size: images in one forward pass.
        device: where to run; None for where the model is.
        first_image: id of the first image.
        shard: (i, n) takes the images whose id is i modulo n.
        progress: show a progress bar.

    Returns:
        FeatureSpectra: `.radial(name)`, `.high_frequency()`, `.plot()`.

    Raises:
        ValueError: a bad argument, or an output that is no map and whose tokens fit no grid.
        KeyError: a layer that the model does not have.
        TypeError: a layer that does not return a tensor.
        FloatingPointError: features that are NaN or infinite.

    Source: Park, Kim 2022, "How Do Vision Transformers Work?" (ICLR), Figures 2 and 8; they show the half diagonal
        of the plane, this its rings.
    """
    if labels is None and isinstance(images, (Tensor, np.ndarray)):
        labels = np.zeros(len(images), dtype=np.int64)
    network, stream, shape, details = prepare(
        model,
        images,
        labels,
        precision=precision,
        channels_last=channels_last,
        device=device,
        first_image=first_image,
        shard=shard,
    )
    size = ConditionLoop(network, batch_size=batch_size, shape=shape).batch_size
    watched = _blocks(network.net) if layers is None else list(layers)
    reader = _Reader(network, shape[1:], token_grid, skip_dead)
    hooks = [network.module(name).register_forward_hook(reader.hook(name)) for name in watched]
    ids = []
    try:
        with torch.inference_mode(), tqdm(total=stream.total, unit="img", desc="features", disable=not progress) as bar:
            for chunk in stream.chunks(size):
                batch = network.clean_batch(on_device(chunk, network.device).images)
                reader.read("input", "input", batch)
                network.net(batch)
                reader.finish(watched)
                ids.append(chunk.ids.numpy())
                bar.update(len(chunk.ids))
    finally:
        for hook in hooks:
            hook.remove()
    return FeatureSpectra(shape, np.sort(np.concatenate(ids)), reader.profiles(), skip_dead, details)


def _blocks(net: nn.Module) -> list[str]:
    """Innermost items of Sequentials and ModuleLists that have parts of their own; convolutions if there are none."""
    inside = [
        f"{prefix}.{name}" if prefix else name
        for prefix, holder in net.named_modules()
        if isinstance(holder, (nn.Sequential, nn.ModuleList))
        for name, item in holder.named_children()
        if any(True for _ in item.children()) and any(True for _ in item.parameters())
    ]
    innermost = [name for name in inside if not any(other.startswith(f"{name}.") for other in inside)]
    found = innermost or [name for name, m in net.named_modules() if name and isinstance(m, nn.Conv2d)]
    if not found:
        raise ValueError("expected a model with blocks or convolutions, found neither; name the `layers`")
    return found


class _Plain(NamedTuple):
    """What every batch says about a layer alike."""

    kind: str
    size: tuple[int, int]
    channels: int
    dropped: int


class _Rings(NamedTuple):
    """Rings of maps of one size."""

    ring: Tensor  # (rows * (columns // 2 + 1),) of each bin of the half plane
    weight: Tensor  # bins of the whole plane that it stands for
    cells: Tensor  # (r,)


class _Reader:
    """Sums of every layer's profile over images."""

    def __init__(
        self, network: Network, shape: tuple[int, int], token_grid: tuple[int, int] | None, skip_dead: bool
    ) -> None:
        self._shape, self._skip_dead, self._device = shape, skip_dead, network.device
        self._grids = [token_grid] if token_grid is not None else _patch_grids(network.net, shape)
        self._rings: dict[tuple[int, int], _Rings] = {}
        self._batch: dict[str, tuple[_Plain, Tensor]] = {}
        self._sums: dict[str, tuple[_Plain, Tensor]] = {}

    def hook(self, name: str) -> Callable[..., None]:
        """A forward hook that reads the layer's output; of several calls in one pass the last one counts."""

        def read(module: nn.Module, _args: Any, output: Any) -> None:
            value = output[0] if isinstance(output, (tuple, list)) and output else output
            if not isinstance(value, Tensor):
                raise TypeError(f"expected layer {name!r} to return a tensor, got {type(output).__name__}")
            self.read(name, type(module).__name__, value)

        return read

    def read(self, name: str, kind: str, output: Tensor) -> None:
        """Take the layer's log amplitudes by ring, (n, 1 + r), zero frequency alone first."""
        maps, dropped = self._maps(name, output)
        n, channels, rows, columns = maps.shape
        amplitude = torch.fft.rfft2(maps.float(), norm="ortho").abs()
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
        flat = mean.view(n, -1).double()
        by_ring = flat.new_zeros(n, len(cells)).index_add_(1, ring, flat * weight) / cells.clamp_min(1)
        values = torch.cat([flat[:, :1], (by_ring - flat[:, :1]) * (cells > 0)], dim=1)
        self._batch[name] = (_Plain(kind, (rows, columns), channels, dropped), values)

    def finish(self, watched: list[str]) -> None:
        """Add the batch to the sums.

        Raises:
            ValueError: a layer that did not run, or changed its size between batches.
        """
        missing = [name for name in watched if name not in self._batch]
        if missing:
            raise ValueError(f"expected every layer to run, {missing} did not")
        for name, (plain, values) in self._batch.items():
            sums = torch.stack([values.sum(dim=0), values.square().sum(dim=0)], dim=1).cpu()
            before, total = self._sums.get(name, (plain, 0))
            if before != plain:
                raise ValueError(f"expected layer {name!r} of one size, got {before.size} and {plain.size}")
            self._sums[name] = (plain, sums + total)
        self._batch = {}

    def profiles(self) -> dict[str, FeatureProfile]:
        """Everything so far, by layer."""
        found = {}
        for name, (plain, sums) in self._sums.items():
            cells = self._rings_of(plain.size).cells.cpu().numpy().astype(np.int64)
            values = sums.numpy()
            found[name] = FeatureProfile(*plain, cells, values[1:], values[0])
        return found

    def _rings_of(self, size: tuple[int, int]) -> _Rings:
        if size not in self._rings:
            ring, twice = image_rings(size, self._shape)
            ring, twice = ring.reshape(-1), twice.reshape(-1).copy()
            cells = np.bincount(ring, weights=twice)
            self._rings[size] = _Rings(*(torch.from_numpy(a).to(self._device) for a in (ring, twice, cells)))
        return self._rings[size]

    def _maps(self, name: str, output: Tensor) -> tuple[Tensor, int]:
        """(maps (n, c, h, w), tokens dropped) of a layer's output."""
        h, w = self._shape
        if output.ndim == 4:
            _, a, b, c = output.shape

            def fits(rows: int, columns: int) -> bool:  # the image's aspect ratio to within a pixel
                return abs(rows * w - columns * h) <= max(h, w)

            return (output.permute(0, 3, 1, 2) if fits(a, b) and not fits(b, c) else output), 0
        if output.ndim != 3:
            raise ValueError(
                f"expected layer {name!r} to return maps (n, c, h, w) or tokens (n, t, c), got {tuple(output.shape)}; "
                f"leave it out of `layers`"
            )
        rows, columns = self._grid(name, output.shape[1])
        dropped = output.shape[1] - rows * columns
        return output[:, dropped:].transpose(1, 2).unflatten(2, (rows, columns)), dropped

    def _grid(self, name: str, tokens: int) -> tuple[int, int]:
        """(rows, columns) of the largest grid that leaves at most 16 tokens before it."""
        grids = self._grids
        if not grids:  # no patch embedding was found: any grid of the image's aspect ratio
            h, w = self._shape
            sides = ((rows, round(rows * w / h)) for rows in range(int(tokens**0.5 * max(1, h / w)) + 1, 0, -1))
            grids = [(rows, columns) for rows, columns in sides if columns and rows * w == columns * h]
        for rows, columns in grids:
            if 0 <= tokens - rows * columns <= min(_MOST_PREFIX, rows * columns - 1):
                return rows, columns
        tried = ", ".join(f"{rows} x {columns}" for rows, columns in grids[:4]) or "none"
        raise ValueError(
            f"expected the {tokens} tokens of layer {name!r} to be a grid after at most {_MOST_PREFIX} others, tried "
            f"{tried}; give `token_grid=(rows, columns)`"
        )


def _patch_grids(net: nn.Module, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Grids of the patch embedding and its halvings; none if the first convolution does not cut into patches."""
    first = next((m for m in net.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None or first.kernel_size != first.stride or first.stride == (1, 1):
        return []
    rows, columns = (
        (n + 2 * p - k) // s + 1
        for n, p, k, s in zip(shape, _padding(first), first.kernel_size, first.stride, strict=True)
    )
    return [(-(-rows // 2**i), -(-columns // 2**i)) for i in range(_MERGES)]


def _padding(conv: nn.Conv2d) -> tuple[int, int]:
    return (0, 0) if isinstance(conv.padding, str) else (int(conv.padding[0]), int(conv.padding[1]))
