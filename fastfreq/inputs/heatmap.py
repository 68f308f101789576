"""The Fourier heat map: the error of a classifier under a perturbation of every single frequency."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from tqdm import tqdm

from fastfreq.core.results import HeatmapResult
from fastfreq.results import store
from fastfreq.vocabulary import checks, conventions
from fastfreq.vocabulary.conventions import Convention

from . import _folding, _metrics
from ._accumulator import Accumulator
from ._compilation import compiled
from ._loop import Block, Loop, best_batch_size
from ._network import Network, Precision, fingerprint
from ._stem import SharedStem
from ._stream import Chunk, ImageStream

_SAVE_EVERY = 30  # seconds between two checkpoints
_STEM_BYTES = 256 << 20  # of first-layer responses kept at a time, for images that share a basis response
_EXAMPLE = 2  # images on which a changed network is compared with the original
_PEEK = 64  # images looked at before the loop starts


def heatmap(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    eps: float,
    size: int | tuple[int, int] | None = None,
    convention: str | Convention = "yin2019",
    clip: bool | None = None,
    seed: int = 0,
    metrics: Sequence[str] | Mapping[str, str | _metrics.Metric] = ("error",),
    layers: Sequence[str] = (),
    frequencies: ArrayLike | None = None,
    precision: Precision = "fp32",
    channels_last: bool = True,
    compile: bool = False,
    share_stem: bool = False,
    fold_batch_norm: bool = False,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    first_image: int = 0,
    shard: tuple[int, int] = (0, 1),
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> HeatmapResult:
    """Measure the Fourier heat map of an image classifier.

    For every distinct frequency k of the centred `size` map and every image x the model sees
    clip(x + s eps U_k), U_k the unit basis image and s a random sign (see `Convention`), in pixels of
    [0, 1] before normalisation. The map is the top-1 error as a function of k.

    Args:
        model: maps images (n, c, h, w) in [0, 1] to logits (n, classes), in evaluation mode. A network that
            expects normalised input is wrapped in `NormalizedModel`. Outputs with `logits`, and tuples whose
            first entry is the logits, are taken as they are. The model itself is not changed.
        images: (n, c, h, w) tensor or array, float in [0, 1] or uint8; or an iterable of (images, labels)
            batches, read once. Any size, odd, even or rectangular; any number of channels.
        labels: (n,) integers with tensors; None with an iterable.
        eps: L2 norm of the perturbation per channel; Yin et al. use 4.0 at 32 x 32 and 15.7 at 224 x 224.
        size: side, or (rows, columns), of the centred map; None for all h x w frequencies.
        convention: "yin2019", "fhmap", "rai", or a Convention.
        clip: overrides the convention's clipping.
        seed: key of the random signs. Signs belong to (seed, image, channel, frequency): the batch size, the
            order and the sharding do not change them.
        metrics: besides the top-1 error: "loss", "top5_error" (any k), or a mapping from names to functions of
            (logits, labels) that return one value per image, or their mean (which then has no interval: NaN).
        layers: names of submodules whose change is measured (see `HeatmapResult.layer`).
        frequencies: (f, 2) a subset of the map to evaluate, for sharding; None for all.
        precision: of weights and activations, "fp32", "bf16" or "fp16"; batch norm keeps its float32 statistics.
        channels_last: lay out convolutional networks channels last, nearly always the faster way.
        compile: run the network through torch.compile: the first call takes seconds, so for long runs. Where it cannot
            be used, or changes logits by more than rounding, one warning says so and the network runs as it is.
        share_stem: compute the first convolution's response to each basis image once for all images. Needs
            clip=False, and is refused with the reason unless a numeric check passes.
        fold_batch_norm: fold each batch norm that directly follows a convolution or linear layer into it, on the copy
            of the model that is run. The same function up to rounding, some per cent faster; refused with the reason
            unless the float32 logits of real images agree. Outputs of `layers` stay what they are.
        batch_size: perturbed images in one forward pass; None times a few and takes the fastest. Halved when
            memory runs out, without losing a count.
        device: where to run; None for where the model is.
        first_image: id of the first image, for shards that are split by hand.
        shard: (i, n) evaluates the images whose id is i modulo n; results of all shards merge with ``+``.
        checkpoint: an .npz file to which finished images are saved about every half minute, and from which an
            interrupted run goes on.
        progress: show a progress bar.

    Returns:
        A HeatmapResult: `.error`, `.low`, `.high`, `.clean_error`, `.count` and more.

    Raises:
        ValueError: a bad argument; the message says what was expected, what came and the way out.
        TypeError: an argument of the wrong type, or a model whose output holds no logits.
        FloatingPointError: logits that are NaN or infinite.

    Source: Yin, Gontijo Lopes, Shlens, Cubuk, Gilmer 2019, "A Fourier Perspective on Model Robustness in
        Computer Vision", section 3 and Figures 3 and 4.
    """
    eps = checks.check_eps(eps)
    chosen = conventions.resolve(convention).replace(clip=clip)
    if not 0 <= seed < 2**64:
        raise ValueError(f"expected a `seed` from 0 to 2**64 - 1, got {seed}")
    if share_stem and chosen.clip:
        raise ValueError("expected clip=False with share_stem=True: clipping is not linear, got a clipping convention")
    if share_stem and (compile or layers):
        raise ValueError("expected share_stem=True on its own, it does not combine with `compile` or `layers`")
    if compile and layers:
        raise ValueError("expected compile=False with `layers`: compiled networks may skip the hooks that record them")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"expected a positive `batch_size`, got {batch_size}")
    named = _metrics.resolve(metrics)
    network = Network(
        model,
        precision=precision,
        channels_last=channels_last,
        device=None if device is None else torch.device(device),
    )
    weights = fingerprint(model)
    before = _resume(checkpoint)
    done = frozenset() if before is None else frozenset(before.image_ids.tolist())
    stream = ImageStream(images, labels, first_image=first_image, shard=shard, skip=done)

    first = stream.peek(_PEEK)
    if first is None:
        if before is not None:
            return before
        raise ValueError("expected at least one image, got none")
    shape = (int(first.images.shape[1]), int(first.images.shape[2]), int(first.images.shape[3]))
    map_size = checks.check_size(size, shape[1:])
    wanted = checks.check_frequencies(frequencies, shape[1:], map_size)

    with torch.inference_mode():
        network.net.eval()
        stem, folded = None, None
        example = network.clean_batch(first.images[:_EXAMPLE].to(network.device))
        if fold_batch_norm:
            folded = _folding.fold_batch_norms(network, example, layers=layers)
        if share_stem:
            stem = SharedStem(network, example)
        network.cast()
        if stem is not None:
            stem.cast(network.dtype)
        loop = Loop(
            network,
            convention=chosen,
            eps=eps,
            seed=seed,
            metrics=named,
            layers=tuple(layers),
            stem=stem,
            forward=network,
            batch_size=batch_size or 1,
        )
        try:
            tensor = torch.from_numpy(wanted).to(network.device)
            if batch_size is None:
                loop.batch_size = _choose_batch_size(loop, first, tensor, stream.total)
            if compile:
                example = network.clean_batch(first.images[:_EXAMPLE].to(network.device))
                loop.forward = compiled(network, example, loop.batch_size)
            details = _details(loop, weights, precision, folded)
            accumulator = Accumulator(chosen, eps, seed, shape, map_size, wanted, tuple(named), tuple(layers), details)
            if before is not None:
                accumulator.resume(before)
            pairs = None if stream.total is None else stream.total * len(wanted)
            bar = tqdm(total=pairs, unit="img", unit_scale=True, desc="heat map", disable=not progress)
            chunk_size = loop.batch_size if stem is None else max(loop.batch_size, _STEM_BYTES // stem.bytes_per_image)
            saved = time.monotonic()
            try:
                with bar:
                    for chunk in stream.chunks(chunk_size):
                        here = _on_device(chunk, network.device)
                        accumulator.add(chunk, *_evaluate(loop, here, tensor, bar.update), loop.means())
                        if checkpoint is not None and time.monotonic() - saved > _SAVE_EVERY:
                            accumulator.result().save(checkpoint)
                            saved = time.monotonic()
            finally:  # also when interrupted: what is finished is kept
                if checkpoint is not None and accumulator.n_images:
                    accumulator.result().save(checkpoint)
        finally:
            loop.close()
    result = accumulator.result()
    _warn_if_flat(result)
    return result


def _on_device(chunk: Chunk, device: torch.device) -> Chunk:
    """The chunk where the loop runs; on a CPU as channels-last floats, which every frequency reads again."""
    images, labels, ids = (t.to(device, non_blocking=True) for t in chunk)
    if device.type == "cpu":
        images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        images = images.contiguous(memory_format=torch.channels_last)
    return Chunk(images, labels, ids)


def _evaluate(
    loop: Loop, chunk: Chunk, frequencies: Tensor, progress: Callable[[int], object]
) -> tuple[NDArray[np.bool_], Tensor, list[Block]]:
    """(clean wrong, clean metric values, blocks) of one chunk."""
    logits, values, activations, responses = loop.clean(chunk)
    checks.check_classes(chunk.labels, logits)
    if not torch.isfinite(logits).all():
        raise FloatingPointError(
            "expected finite logits, got NaN or infinity for unperturbed images; check the weights"
        )
    blocks = list(loop.blocks(chunk, frequencies, activations, responses, progress))
    return (logits.argmax(dim=1) != chunk.labels).cpu().numpy(), values.cpu(), blocks


def _choose_batch_size(loop: Loop, first: Chunk, frequencies: Tensor, total: int | None) -> int:
    """Time a few batch sizes on the first images; small jobs are not worth it."""
    device = loop.network.device
    pairs = len(frequencies) * (total or 10_000)
    if loop.stem is not None:
        return _choose_stem_batch(pairs, first)
    candidates = [8, 32, 128, 512] if first.images[0].numel() <= 3 * 64 * 64 else [4, 8, 16, 64]
    if device.type == "cuda":
        candidates = [64, 128, 256, 512, 1024] if candidates[0] == 8 else [16, 32, 64, 128, 256]
    candidates = [c for c in candidates if c * 200 <= pairs] or [min(candidates[0], pairs)]
    if len(candidates) == 1:
        return candidates[0]
    chunk = _on_device(first, device)

    def run(size: int) -> Tensor:
        m = min(size, len(chunk.ids))
        k = min(max(1, size // m), len(frequencies))
        signs = torch.ones(k, m, chunk.images.shape[1], dtype=torch.int8, device=device)
        return loop.forward(loop.perturbed(chunk.images[:m], frequencies[:k], signs))

    return best_batch_size(run, candidates, device)


def _choose_stem_batch(pairs: int, first: Chunk) -> int:
    wanted = 128 if first.images[0].numel() <= 3 * 64 * 64 else 8
    return max(1, min(wanted, pairs, len(first.ids)))


def _details(loop: Loop, weights: str, precision: str, folded: _folding.Folded | None) -> dict[str, str]:
    network = loop.network
    return {
        "model": network.name,
        "model_fingerprint": weights,
        "precision": precision,
        "layout": "channels_last" if network.channels_last else "contiguous",
        "compile": str(loop.forward is not network),
        "share_stem": str(loop.stem is not None),
        "fold_batch_norm": "False" if folded is None else str(folded),
        "device": torch.cuda.get_device_name(network.device) if network.device.type == "cuda" else platform.machine(),
        "torch": torch.__version__,
    }


def _resume(checkpoint: str | Path | None) -> HeatmapResult | None:
    if checkpoint is None or not Path(checkpoint).exists():
        return None
    kind, header, arrays = store.read_arrays(checkpoint)
    if kind != "heatmap":
        raise ValueError(f"expected a heat map as checkpoint, {checkpoint} holds a {kind}")
    return HeatmapResult.from_arrays(header, arrays)


def _warn_if_flat(result: HeatmapResult) -> None:
    counts = result.wrong_counts
    if len(counts) > 1 and counts.min() == counts.max():
        warnings.warn(
            f"the map is flat: every frequency gave {counts[0]} errors on {result.n_images} images. Either `eps` is "
            f"too small or too large for this model, there are too few images, or the perturbation does not reach the "
            f"network (a model that rescales or quantises its input?)",
            stacklevel=3,
        )
