"""Images under many masks -> one curve: decoded once, kept on the device, read back once at the end."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from tqdm import tqdm

from fastfreq.core.curves import BandCurve, Question
from fastfreq.vocabulary import checks, masks

from . import _metrics
from ._conditions import prepare
from ._loop import best_batch_size, is_out_of_memory
from ._network import Network, Precision
from ._stream import Chunk, ImageStream

# of network input made in one call: all bands of an image together, as they share its transform. On two cores a curve
# of ResNet-18 at 224 x 224 took 3 % longer with 24 MiB (median of four pairs)
_AHEAD_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30}
_SAMPLE = 32  # the distance to the original is measured on images whose id is a multiple of this
_PEEK = 64  # images on which batch sizes are timed


class Alter(Protocol):
    """What is done to images."""

    def __call__(self, chunk: Chunk, masks: Tensor, **layout: Any) -> Tensor:
        """(b, n, c, h, w): every image of `chunk` under every mask (b, h, w); `layout` as for `filter_bands`."""
        ...


@dataclasses.dataclass(frozen=True)
class Run:
    """How a curve is measured; none of it changes what is measured.

    Attributes:
        metrics: besides the top-1 error.
        precision: of weights and activations.
        channels_last: lay out convolutional networks channels last.
        batch_size: altered images in one forward pass, or None to time a few.
        device: where to run, or None for where the model is.
        first_image: id of the first image.
        shard: (i, n) evaluates the images whose id is i modulo n.
        progress: show a progress bar.
    """

    metrics: Sequence[str] | Mapping[str, str | _metrics.Metric]
    precision: Precision
    channels_last: bool
    batch_size: int | None
    device: torch.device | str | None
    first_image: int
    shard: tuple[int, int]
    progress: bool


@dataclasses.dataclass(frozen=True)
class Alteration:
    """What is done to the images, as it stands in the result.

    Attributes:
        question: "filter" or "noise".
        kind: name of a family of masks, or masks (b, h, w).
        bandwidths: of the family; None for its usual ones.
        norm: of noise.
        clip: to [0, 1].
        normalise_contrast: of filtered images.
        seed: of noise.
        alter: does it.
    """

    question: Question
    kind: str | ArrayLike
    bandwidths: Sequence[float] | None
    norm: float | None
    clip: bool
    normalise_contrast: bool
    seed: int
    alter: Alter

    def masks(self, shape: tuple[int, int]) -> tuple[str, NDArray[np.float64], NDArray[np.bool_]]:
        """(name, bandwidths (b,) ascending, masks (b, h, w)) for images of `shape`."""
        if not isinstance(self.kind, str):
            given = masks.check_symmetric(self.kind, shape)
            wanted = np.arange(len(given)) if self.bandwidths is None else np.asarray(self.bandwidths, np.float64)
            if wanted.shape != (len(given),):
                raise ValueError(f"expected one bandwidth per mask ({len(given)}), got {len(wanted)}")
            order = _ascending(wanted)
            digest = hashlib.sha256(np.packbits(given).tobytes()).hexdigest()[:8]
            return f"custom-{digest}", wanted[order].astype(np.float64), given[order]
        family = masks.named(self.kind)
        chosen = masks.default_bandwidths(family.name, shape) if self.bandwidths is None else self.bandwidths
        wanted = np.asarray(chosen, np.float64)
        if wanted.ndim != 1 or not wanted.size or not np.isfinite(wanted).all():
            raise ValueError(f"expected a list of `bandwidths`, at least one, got {chosen!r}")
        wanted = wanted[_ascending(wanted)]
        return family.name, wanted, masks.stack(family.name, shape, wanted.tolist())


def _ascending(wanted: NDArray[Any]) -> NDArray[np.int64]:
    if len(np.unique(wanted)) != len(wanted):
        raise ValueError(f"expected different `bandwidths`, got some twice in {wanted.tolist()}")
    return np.argsort(wanted)


def measure(model: nn.Module, images: Any, labels: Any, alteration: Alteration, run: Run) -> BandCurve:
    """The curve of one model; arguments and errors as for `filter_curve`."""
    if run.batch_size is not None and run.batch_size < 1:
        raise ValueError(f"expected a positive `batch_size`, got {run.batch_size}")
    metrics = _metrics.resolve(run.metrics)
    network, stream, shape, details = prepare(
        model,
        images,
        labels,
        precision=run.precision,
        channels_last=run.channels_last,
        device=run.device,
        first_image=run.first_image,
        shard=run.shard,
    )
    name, bandwidths, kept = alteration.masks(shape[1:])
    with torch.inference_mode():
        loop = _Loop(network, alteration, torch.from_numpy(kept).to(network.device), metrics)
        loop.batch_size = run.batch_size or loop.fastest(stream)
        total = None if stream.total is None else stream.total * (len(kept) + 1)
        with tqdm(total=total, unit="img", unit_scale=True, desc="curve", disable=not run.progress) as bar:
            for chunk in stream.chunks(loop.batch_size):
                loop.add(chunk, bar.update)
        outcomes = loop.read_back()
    return BandCurve(
        question=alteration.question,
        mask=name,
        bandwidths=bandwidths,
        norm=alteration.norm,
        clip=alteration.clip,
        normalise_contrast=alteration.normalise_contrast,
        seed=alteration.seed,
        shape=shape,
        details={**details, "layout": "channels_last" if network.channels_last else "contiguous"},
        **outcomes,
    )


class _Loop:
    """Evaluates every mask on chunks of images; what it finds stays on the device until `read_back`."""

    def __init__(
        self, network: Network, alteration: Alteration, kept: Tensor, metrics: dict[str, _metrics.Metric]
    ) -> None:
        self.network, self.alteration, self.kept, self.metrics = network, alteration, kept, metrics
        self.batch_size = 1
        self._ids: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._wrong: list[Tensor] = []  # (1 + b, n): the images as they are, then every mask
        self._finite: list[Tensor] = []  # (1 + b, n)
        self._values: list[Tensor] = []  # (metrics, 1 + b, n)
        self._distances = torch.zeros(len(kept), 2, dtype=torch.float64, device=network.device)

    def batch(self, chunk: Chunk, bands: slice) -> Tensor:
        """The network's input (b n, c, h, w), band-major."""
        network = self.network
        altered = self.alteration.alter(
            chunk,
            self.kept[bands],
            clip=self.alteration.clip,
            mean=network.mean,
            std=network.std,
            dtype=network.dtype,
            channels_last=network.channels_last,
        )
        return altered.flatten(0, 1)

    def fastest(self, stream: ImageStream) -> int:
        """Time a few batch sizes on the first images; small jobs are not worth it."""
        first = stream.peek(_PEEK)
        if first is None:
            raise ValueError("expected at least one image, got none")
        device, b = self.network.device, len(self.kept)
        small = first.images[0].numel() <= 3 * 64 * 64
        candidates = [8, 32, 128, 512] if small else [4, 16, 64]
        if device.type == "cuda":
            candidates = [64, 128, 256, 512, 1024] if small else [16, 32, 64, 128, 256]
        pairs = b * (stream.total or 10_000)
        candidates = [c for c in candidates if c * 200 <= pairs] or [min(candidates[0], pairs)]
        if len(candidates) == 1:
            return candidates[0]
        chunk = Chunk(*(t.to(device) for t in first))

        def run(size: int) -> Tensor:
            m = min(size, len(chunk.ids))
            part = Chunk(*(t[:m] for t in chunk))
            return self.network(self.batch(part, slice(0, max(1, size // m))))

        return best_batch_size(run, candidates, device)

    def add(self, chunk: Chunk, progress: Callable[[int], object]) -> None:
        """Evaluate one chunk. When memory runs out, the batch size is halved and the part done again."""
        here = Chunk(*(t.to(self.network.device, non_blocking=True) for t in chunk))
        at = 0
        while at < len(chunk.ids):
            part = Chunk(*(t[at : at + self.batch_size] for t in here))
            try:
                logits = self._logits(part)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(error)
                continue
            if not self._wrong:
                checks.check_classes(chunk.labels, logits[0])
            self._keep(part, logits)
            at += len(part.ids)
            progress(logits.shape[0] * logits.shape[1])

    def _halve(self, error: Exception) -> None:
        if self.batch_size == 1:
            raise RuntimeError("expected one image to fit in memory, it does not; use a smaller precision") from error
        self.batch_size = -(-self.batch_size // 2)
        if self.network.device.type == "cuda":
            torch.cuda.empty_cache()

    def _logits(self, part: Chunk) -> Tensor:
        """(1 + b, m, classes) of the images as they are and under every mask."""
        network, m = self.network, len(part.ids)
        bytes_each = part.images.numel() * network.dtype.itemsize
        passes = max(1, self.batch_size // m)  # masks in one forward pass
        ahead = passes * max(1, _AHEAD_BYTES.get(network.device.type, 64 << 20) // (bytes_each * passes))
        found = [network(network.clean_batch(part.images))]
        for start in range(0, len(self.kept), ahead):
            found += [network(batch) for batch in self.batch(part, slice(start, start + ahead)).split(passes * m)]
        return torch.cat(found).float().view(1 + len(self.kept), m, -1)

    def _keep(self, part: Chunk, logits: Tensor) -> None:
        rows = len(logits)
        self._ids.append(part.ids)
        self._labels.append(part.labels)
        self._wrong.append(logits.argmax(dim=-1) != part.labels)
        self._finite.append(torch.isfinite(logits).all(dim=-1))
        flat = logits.flatten(0, 1)
        values = [_metrics.per_image(metric, flat, part.labels, rows).double() for metric in self.metrics.values()]
        self._values.append(torch.stack(values) if values else flat.new_empty((0, rows, len(part.ids))).double())
        self._measure_distances(part)

    def _measure_distances(self, part: Chunk) -> None:
        """||altered - image|| of a sample, over channels, before normalisation."""
        sample = part.ids % _SAMPLE == 0
        if part.ids.device.type == "cpu" and not sample.any():
            return
        some = Chunk(*(t[sample] for t in part))
        pixels = some.images.float() / 255 if some.images.dtype == torch.uint8 else some.images.float()
        for row, mask in enumerate(self.kept.split(1)):
            altered = self.alteration.alter(some, mask, clip=self.alteration.clip)[0]
            lengths = torch.linalg.vector_norm(altered - pixels, dim=(-2, -1)).double()
            self._distances[row, 0] += lengths.sum()
            self._distances[row, 1] += lengths.numel()

    def read_back(self) -> dict[str, Any]:
        """Everything found, as `BandCurve` has it, images in the order of their ids."""
        ids = torch.cat(self._ids).cpu().numpy()
        order = np.argsort(ids)
        wrong, finite = (torch.cat(found, dim=1).cpu().numpy()[:, order] for found in (self._wrong, self._finite))
        if not finite.all():
            row, column = (int(v) for v in np.argwhere(~finite)[0])
            where = "as they are" if row == 0 else f"under mask {row - 1}"
            raise FloatingPointError(
                f"expected finite logits, got NaN or infinity for images {where} (the first: image "
                f"{ids[order][column]}); check the weights, or try precision='fp32' or 'bf16'"
            )
        values = torch.cat(self._values, dim=2)
        sums = torch.stack([values.sum(dim=2), values.square().sum(dim=2)], dim=2).cpu().numpy()  # (metrics, 1 + b, 2)
        for found, metric in zip(sums, self.metrics.values(), strict=True):
            if isinstance(metric, _metrics.GivenMetric) and metric.is_mean:  # whose spread over images nobody knows
                found[:, 1] = np.nan
        return {
            "image_ids": ids[order],
            "labels": torch.cat(self._labels).cpu().numpy()[order],
            "wrong": np.packbits(wrong[1:], axis=1),
            "clean_wrong": wrong[0],
            "sums": {name: found[1:] for name, found in zip(self.metrics, sums, strict=True)},
            "clean_sums": {name: found[0] for name, found in zip(self.metrics, sums, strict=True)},
            "distances": self._distances.cpu().numpy(),
        }
