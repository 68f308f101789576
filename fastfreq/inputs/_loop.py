"""The frequency loop: every frequency on one chunk of images, without touching the host."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import fastfreq_kernels as kernels
import torch
from torch import Tensor

from fastfreq.vocabulary.conventions import Convention

from ._metrics import GivenMetric, Metric, per_image
from ._network import Network
from ._stem import SharedStem
from ._stream import Chunk

BLOCK = 512  # frequencies between two read-backs: bounds every buffer, whatever the map's size
_AHEAD_BYTES = 4 << 20  # of network input made in one call on a CPU: it stays in the last-level cache
_NORM_SAMPLE = 32  # the norm left after clipping is measured on images whose id is a multiple of this


@dataclasses.dataclass
class Block:
    """Per-image values of a block of frequencies, on the host."""

    wrong: Tensor  # (f, n) bool
    values: Tensor  # (metrics, f, n) float64
    layers: Tensor  # (layers, 3, f, n) float64
    norms: Tensor  # (f, 2) float64


class Loop:
    """Evaluates frequencies on chunks of images.

    Args:
        network: what to evaluate.
        convention: what a perturbation is.
        eps: L2 norm per channel.
        seed: key of the signs.
        metrics: beyond the top-1 error.
        layers: hidden layers whose change is measured.
        stem: the shared first layer, or None.
        forward: batch -> logits; the network itself, or compiled.
        batch_size: perturbed images in one forward pass; halved when memory runs out.
    """

    def __init__(
        self,
        network: Network,
        *,
        convention: Convention,
        eps: float,
        seed: int,
        metrics: dict[str, Metric],
        layers: tuple[str, ...],
        stem: SharedStem | None,
        forward: Callable[[Tensor], Tensor],
        batch_size: int,
    ) -> None:
        self.network, self.convention, self.eps, self.seed = network, convention, eps, seed
        self.metrics, self.stem, self.forward, self.batch_size = metrics, stem, forward, batch_size
        self._activations: dict[str, Tensor] = {}
        self._layers = layers
        self._hooks = [network.module(name).register_forward_hook(self._keeper(name)) for name in layers]
        self._graphs: dict[tuple[int, ...], Any] = {}

    def close(self) -> None:
        """Take the hooks off again and let captured graphs go."""
        for hook in self._hooks:
            hook.remove()
        self._graphs.clear()

    def means(self) -> frozenset[str]:
        """Metrics seen to return a mean over images."""
        return frozenset(k for k, v in self.metrics.items() if isinstance(v, GivenMetric) and v.is_mean)

    def _keeper(self, name: str) -> Callable[..., None]:
        def keep(_module: Any, _args: Any, output: Any) -> None:
            value = output[0] if isinstance(output, (tuple, list)) else output
            if not isinstance(value, Tensor):
                raise TypeError(f"expected layer {name!r} to return a tensor, got {type(output).__name__}")
            self._activations[name] = value

        return keep

    # ---------------------------------------------------------------- batches
    def perturbed(self, images: Tensor, frequencies: Tensor, signs: Tensor) -> Tensor:
        """The batch (f n, c, h, w) that the network sees."""
        return kernels.fourier_perturb(
            images,
            frequencies,
            signs,
            eps=self.eps,
            phase=self.convention.phase,
            clip=self.convention.clip,
            mean=self.network.mean,
            std=self.network.std,
            dtype=self.network.dtype,
            channels_last=self.network.channels_last,
        )

    def _steps(self, images: int) -> tuple[int, int]:
        """(frequencies, images) in one forward pass: whole chunks of images first, then several frequencies."""
        m = min(images, self.batch_size)
        return (max(1, self.batch_size // m) if m == images and self.stem is None else 1), m

    def _ahead(self, images: Tensor, batch: int) -> int:
        """Forward passes whose input is made in one call: on a CPU a small batch costs less than the call itself."""
        if self.network.device.type != "cpu":
            return 1
        each = images[0].numel() * batch * self.network.dtype.itemsize
        if self.stem is not None:  # one response in each channel serves all images
            each = images.shape[1] * self.stem.bytes_per_image
        return max(1, _AHEAD_BYTES // each)

    def _halve(self, error: Exception) -> None:
        if self.batch_size == 1:
            raise RuntimeError("expected one image to fit in memory, it does not; use a smaller precision") from error
        self.batch_size = -(-self.batch_size // 2)
        self._graphs.clear()
        if self.network.device.type == "cuda":
            torch.cuda.empty_cache()

    # ---------------------------------------------------------------- one chunk
    def clean(self, chunk: Chunk) -> tuple[Tensor, Tensor, list[Tensor], Tensor | None]:
        """(logits, metric values (metrics, n), activations, stem responses) of unperturbed images."""
        start, logits, activations, responses = 0, [], [], []
        while start < len(chunk.ids):
            part = chunk.images[start : start + self.batch_size]
            try:
                batch = self.network.clean_batch(part)
                if self.stem is None:
                    logits.append(self.network(batch).float())
                else:
                    responses.append(self.stem.clean(batch))
                    logits.append(self.stem(responses[-1]).float())
                activations.append([self._activations[name].float() for name in self._layers])
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(error)
                del logits[len(activations) :], responses[len(activations) :]
                continue
            start += len(part)
        joined = torch.cat(logits)
        rows = [per_image(metric, joined, chunk.labels, 1)[0].double() for metric in self.metrics.values()]
        values = torch.stack(rows) if rows else joined.new_empty((0, len(joined)), dtype=torch.float64)
        kept = [torch.cat(parts) for parts in zip(*activations, strict=True)]
        return joined, values, kept, torch.cat(responses) if responses else None

    def blocks(
        self,
        chunk: Chunk,
        frequencies: Tensor,
        activations: list[Tensor],
        responses: Tensor | None,
        progress: Callable[[int], object],
    ) -> Iterator[Block]:
        """Every frequency on the images of `chunk`, a block at a time; one read-back per block."""
        device, n = self.network.device, len(chunk.ids)
        channels, h, w = chunk.images.shape[1:]
        for begin in range(0, len(frequencies), BLOCK):
            block = frequencies[begin : begin + BLOCK]
            signs = kernels.fourier_signs(
                chunk.ids, block, (channels, h, w), seed=self.seed, signs=self.convention.signs
            )
            wrong = torch.zeros(len(block), n, dtype=torch.bool, device=device)
            finite = torch.zeros_like(wrong)
            values = torch.zeros(len(self.metrics), len(block), n, device=device)
            layers = torch.zeros(len(self._layers), 3, len(block), n, device=device)
            at = 0
            while at < len(block):
                k, m = self._steps(n)
                rows = slice(at, at + k * self._ahead(chunk.images, k * m))
                try:
                    basis = None if self.stem is None else self._stem_basis(chunk.images, block[rows])
                    for i in range(0, n, m):
                        part = slice(i, i + m)
                        labels, drawn, changes = chunk.labels[part], signs[rows, part], None
                        if self.stem is not None and basis is not None and responses is not None:
                            pairs = zip(basis, self.stem.select(drawn), strict=True)
                            logits = torch.cat([self.stem(self.stem.moved(responses[part], *pair)) for pair in pairs])
                        else:
                            before = [a[part] for a in activations]
                            logits, changes = self._logits(chunk.images[part], block[rows], drawn, k, before)
                        shaped = logits.view(-1, len(labels), logits.shape[-1])
                        wrong[rows, part] = shaped.argmax(dim=-1) != labels
                        finite[rows, part] = torch.isfinite(shaped).all(dim=-1)
                        for j, metric in enumerate(self.metrics.values()):
                            values[j, rows, part] = per_image(metric, logits.float(), labels, len(shaped)).float()
                        if changes is not None:
                            layers[:, :, rows, part] = changes
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                    # values are assigned, not accumulated: doing a batch again changes nothing
                    self._halve(error)
                    continue
                at += len(block[rows])
                if device.type == "cpu":
                    progress(n * len(block[rows]))
            norms = self._norms_left(chunk, block, signs)
            self._check_finite(finite.cpu(), block, chunk)
            if device.type != "cpu":
                progress(n * len(block))
            yield Block(wrong.cpu(), values.double().cpu(), layers.double().cpu(), norms.cpu())

    def _stem_basis(self, images: Tensor, frequencies: Tensor) -> Tensor:
        """What `SharedStem.moved` adds: the first layer's response to each frequency."""
        assert self.stem is not None
        c, h, w = images.shape[1:]
        std = self.network.std
        waves = kernels.fourier_perturb(
            images.new_zeros((1, c, h, w), dtype=torch.float32),
            frequencies,
            torch.ones(len(frequencies), 1, c, dtype=torch.int8, device=images.device),
            eps=self.eps,
            phase=self.convention.phase,
            clip=False,
            mean=None if std is None else torch.zeros_like(std),
            std=std,
        )
        each = torch.diag_embed(waves.permute(0, 2, 3, 1)).permute(0, 3, 4, 1, 2).reshape(-1, c, h, w)
        layout = torch.channels_last if self.network.channels_last else torch.contiguous_format
        return self.stem.basis(each.to(self.network.dtype).contiguous(memory_format=layout))

    def _logits(
        self, images: Tensor, frequencies: Tensor, signs: Tensor, each: int, before: list[Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Logits (f n, classes), frequency-major, from passes of `each` frequencies; (layers, 3, f, n) changes."""
        if self.network.device.type == "cuda" and not self._layers:
            return self._graphed(images, frequencies, signs), None
        batches = self.perturbed(images, frequencies, signs).split(each * len(images))
        if len(batches) == 1 and not self._layers:
            return self.forward(batches[0]), None
        logits, changes = [], []
        for batch in batches:
            logits.append(self.forward(batch))
            changes.append(self._changes(before, len(batch) // len(images)))
        return torch.cat(logits), torch.cat(changes, dim=2) if self._layers else None

    def _changes(self, before: list[Tensor], frequencies: int) -> Tensor:
        """(layers, 3, f, n) of the activations that the last pass left."""
        pairs = zip(self._layers, before, strict=True)
        found = [_change(self._activations[name], clean, frequencies) for name, clean in pairs]
        return torch.stack(found) if found else torch.empty(0)

    def _graphed(self, images: Tensor, frequencies: Tensor, signs: Tensor) -> Tensor:
        """`forward(perturbed(...))` replayed from a CUDA graph, captured once per shape."""
        key = (*images.shape, len(frequencies))
        if key not in self._graphs:
            self._graphs[key] = _capture(lambda *a: self.forward(self.perturbed(*a)), (images, frequencies, signs))
        graph = self._graphs[key]
        if graph is None:  # this network cannot be captured
            return self.forward(self.perturbed(images, frequencies, signs))
        replay, inputs, output = graph
        for static, value in zip(inputs, (images, frequencies, signs), strict=True):
            static.copy_(value)
        replay()
        return output

    def _norms_left(self, chunk: Chunk, frequencies: Tensor, signs: Tensor) -> Tensor:
        """(f, 2): sum of ||clip(x + d) - x|| / eps over sampled images and channels, and how many."""
        sample = chunk.ids % _NORM_SAMPLE == 0
        norms = torch.zeros(len(frequencies), 2, dtype=torch.float64, device=frequencies.device)
        images = chunk.images[sample]
        images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        norms[:, 1] = len(images) * images.shape[1]
        if not self.convention.clip:
            norms[:, 0] = norms[:, 1]
            return norms
        step = max(1, 64 * 224 * 224 // (images[0].numel() * len(images) or 1)) if len(images) else len(frequencies)
        for i in range(0, len(frequencies) if len(images) else 0, step):
            rows = slice(i, i + step)
            moved = kernels.fourier_perturb(
                images,
                frequencies[rows],
                signs[rows][:, sample],
                eps=self.eps,
                phase=self.convention.phase,
                clip=True,
            )
            delta = moved.view(-1, *images.shape) - images
            norms[rows, 0] = torch.linalg.vector_norm(delta, dim=(-2, -1)).double().sum(dim=(1, 2)) / self.eps
        return norms

    def _check_finite(self, finite: Tensor, frequencies: Tensor, chunk: Chunk) -> None:
        if not finite.all():
            row, column = (int(v) for v in (~finite).nonzero()[0])
            raise FloatingPointError(
                f"expected finite logits, got NaN or infinity at frequency {tuple(frequencies[row].tolist())} for "
                f"image {int(chunk.ids[column])}; try precision='fp32' or 'bf16', or a smaller eps"
            )


def _change(after: Tensor, before: Tensor, frequencies: int) -> Tensor:
    """(3, f, n): absolute and relative L2 change and cosine of activations, image by image."""
    n = len(before)
    a, b = after.float().reshape(frequencies, n, -1), before.float().reshape(1, n, -1)
    absolute = torch.linalg.vector_norm(a - b, dim=-1)
    norm = torch.linalg.vector_norm(b, dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
    return torch.stack([absolute, absolute / norm, torch.cosine_similarity(a, b, dim=-1)])


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or the CPU allocator, ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _capture(function: Callable[..., Tensor], arguments: tuple[Tensor, ...]) -> Any:
    """(replay, static inputs, static output) of `function`, or None if it cannot be captured."""
    inputs = tuple(a.clone() for a in arguments)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # lazy initialisation and autotuning happen outside the capture
            function(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            output = function(*inputs)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        torch.cuda.synchronize()
        return None
    return graph.replay, inputs, output


def best_batch_size(run: Callable[[int], object], candidates: list[int], device: torch.device) -> int:
    """The candidate with the fewest seconds per image; stops at the first that is 5 % slower or does not fit."""
    best, fastest = candidates[0], float("inf")
    for candidate in candidates:
        seconds = []
        try:
            for _ in range(3):
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                start = time.perf_counter()
                run(candidate)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                seconds.append(time.perf_counter() - start)
        except RuntimeError as error:
            if not is_out_of_memory(error) or candidate == candidates[0]:
                raise
            break
        each = min(seconds[1:]) / candidate
        if each > 1.05 * fastest:
            break
        if each < 0.98 * fastest:  # a tie goes to the smaller batch
            best, fastest = candidate, each
    return best
