"""Common corruptions: what they cost a model, and at which frequencies they change an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from fastfreq.core.corruption_report import CorruptionReport, high_frequency_mask

from ._conditions import on_device, prepare
from ._corruption_sources import (
    COMMON_CORRUPTIONS,
    EXTRA_CORRUPTIONS,
    ArrayCorruption,
    FolderSource,
    FunctionSource,
    Source,
    package_source,
)
from ._network import Network, fingerprint
from ._predictions import predicted_classes
from ._stream import Chunk

__all__ = [
    "COMMON_CORRUPTIONS",
    "EXTRA_CORRUPTIONS",
    "ArrayCorruption",
    "common_corruption",
    "corruption_report",
    "high_frequency_fraction",
    "high_frequency_mask",
]

_CHUNK = 128  # images held at a time, each under one corruption after the other


def corruption_report(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    corruptions: Sequence[str] | Mapping[str, Callable[[Tensor, int], Tensor]] | str | Path = COMMON_CORRUPTIONS,
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    baseline: nn.Module | None = None,
    seed: int = 0,
    batch_size: int = 128,
    device: torch.device | str | None = None,
    first_image: int = 0,
    shard: tuple[int, int] = (0, 1),
    progress: bool = False,
) -> CorruptionReport:
    """Accuracy under corruptions C, against a baseline model, and the frequencies that C(X) - X is made of.

    Args:
        model: maps images (n, c, h, w) in [0, 1] to logits, in evaluation mode.
        images: (n, c, h, w) tensor or array, float in [0, 1] or uint8; or an iterable of (images, labels) batches.
        labels: (n,) integers with tensors; None with an iterable.
        corruptions: names (the 15 of `COMMON_CORRUPTIONS` by default; the 4 of `EXTRA_CORRUPTIONS`), computed by the
            package imagecorruptions-imaug with ImageNet-C's constants at any size (those of CIFAR-10-C are milder);
            or a mapping from names to functions of (images float (1, c, h, w) in [0, 1], severity) that return
            images of that shape, or to `ArrayCorruption` for functions of uint8 (h, w, c) arrays; or a folder of
            corrupted images: ``NAME.npy`` as in CIFAR-10-C, ``NAME/SEVERITY/CLASS/*`` as in ImageNet-C, image i
            the clean image with id i.
        severities: of each corruption, ascending; the package and CIFAR-10-C have 1 to 5.
        baseline: a second model on the same corrupted images; for Yin et al. the naturally trained one.
        seed: of random corruptions. Functions are called image by image with NumPy's, Python's and torch's random
            states set from (seed, name, severity, image): batches, order and shards change nothing.
        batch_size: images in one forward pass.
        device: where to run; None for where the model is.
        first_image: id of the first image.
        shard: (i, n) takes the images whose id is i modulo n; results of all shards merge with ``+``.
        progress: show a progress bar.

    Where corruptions work on 8 bits (the package, arrays, files), float images are rounded to 8 bits first, for the
    clean accuracy and for the difference too.

    Returns:
        A CorruptionReport: `.accuracy`, `.high_fraction`, `.gain`, `.fit()` and more.

    Raises:
        ValueError: a bad argument, or a corruption that returns images of another size, NaN or pixels outside [0, 1].
        ImportError: names without the package.

    Source: Hendrycks, Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and
        Perturbations"; Yin et al. 2019, section 3 and Figure 6.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"expected a `seed` from 0 to 2**64 - 1, got {seed}")
    if batch_size < 1:
        raise ValueError(f"expected a positive `batch_size`, got {batch_size}")
    severities = tuple(int(severity) for severity in severities)
    if not severities or list(severities) != sorted(set(severities)):
        raise ValueError(f"expected `severities` ascending, each once, got {severities}")
    source = _source(corruptions, seed)
    network, stream, shape, details = prepare(
        model,
        images,
        labels,
        precision="fp32",
        channels_last=True,
        device=device,
        first_image=first_image,
        shard=shard,
    )
    networks = [network]
    if baseline is not None:
        networks.append(Network(baseline, precision="fp32", channels_last=True, device=network.device))
        details |= {"baseline": networks[1].name, "baseline_fingerprint": fingerprint(baseline)}
    parts: list[CorruptionReport] = []
    passes = None if stream.total is None else stream.total * len(source.names) * len(severities)
    with torch.inference_mode(), tqdm(total=passes, unit="img", desc="corruptions", disable=not progress) as bar:
        for chunk in stream.chunks(_CHUNK):
            here = on_device(chunk, network.device)
            if source.eight_bit:
                here = here._replace(images=(here.images * 255).round() / 255)
            fractions, wrong = _evaluate(here, source, severities, networks, batch_size, bar.update)
            clean = [predicted_classes(net, here, here.images, batch_size) != chunk.labels.numpy() for net in networks]
            parts.append(
                CorruptionReport(
                    corruptions=source.names,
                    severities=severities,
                    source=source.label,
                    seed=seed,
                    shape=shape,
                    image_ids=chunk.ids.numpy(),
                    labels=chunk.labels.cpu().numpy(),
                    wrong=np.packbits(wrong, axis=-1),
                    clean_wrong=np.stack(clean),
                    fractions=fractions,
                    details=details,
                )
            )
    return _joined(parts)


def common_corruption(name: str, severity: int, *, seed: int = 0) -> Callable[[Tensor], Tensor]:
    """One corruption of ImageNet-C, as a function of images for `difference_spectrum` or for training.

    Images are taken as 8 bits, as the package takes them. Calls are counted: image i of all images that the function
    was given draws from (seed, name, severity, i), so the first pass over images is what `corruption_report` makes of
    them.

    Args:
        name: one of `COMMON_CORRUPTIONS` or `EXTRA_CORRUPTIONS`.
        severity: 1 to 5.
        seed: of random corruptions.

    Returns:
        A function of float images (n, c, h, w) in [0, 1] that returns the corrupted ones.

    Raises:
        ImportError: the package imagecorruptions-imaug is missing.
        ValueError: a name or a severity that it does not have.

    Source: Hendrycks, Dietterich 2019.
    """
    if severity not in range(1, 6):
        raise ValueError(f"expected a `severity` from 1 to 5, got {severity}")
    source = package_source([name], seed=seed)
    seen = 0

    def corrupt(images: Tensor) -> Tensor:
        nonlocal seen
        ids = torch.arange(seen, seen + len(images))
        seen += len(images)
        pixels = (images * 255).round() / 255
        return source.corrupted(Chunk(pixels, torch.zeros_like(ids), ids), name, severity).to(images)

    corrupt.__name__ = f"{name} of severity {severity}"
    return corrupt


def _joined(parts: list[CorruptionReport]) -> CorruptionReport:
    """All parts together, halves first: every array is copied a few times only."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return _joined(parts[:middle]) + _joined(parts[middle:])


def _source(corruptions: Any, seed: int) -> Source:
    if isinstance(corruptions, (str, Path)):
        return FolderSource(corruptions)
    if not len(corruptions):
        raise ValueError("expected at least one corruption, got none")
    if isinstance(corruptions, Mapping):
        for name, function in corruptions.items():
            if not callable(function):
                raise TypeError(f"expected a function for the corruption {name!r}, got {type(function).__name__}")
        return FunctionSource(corruptions, seed=seed)
    names = tuple(corruptions)
    if len(set(names)) != len(names):
        raise ValueError(f"expected each corruption once, got {names}")
    return package_source(names, seed=seed)


def _evaluate(
    chunk: Chunk,
    source: Source,
    severities: tuple[int, ...],
    networks: list[Network],
    batch_size: int,
    progress: Callable[[int], object],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(fractions (k, s, n), wrong (m, k, s, n)) of one chunk."""
    labels = chunk.labels.cpu().numpy()
    size = (len(source.names), len(severities), len(labels))
    fractions = np.empty(size, dtype=np.float32)
    wrong = np.empty((len(networks), *size), dtype=np.bool_)
    for k, name in enumerate(source.names):
        for s, severity in enumerate(severities):
            images = source.corrupted(chunk, name, severity).to(chunk.images)
            _check_corrupted(images, name, severity)
            fractions[k, s] = high_frequency_fraction(images - chunk.images).cpu().numpy()
            for m, network in enumerate(networks):
                wrong[m, k, s] = predicted_classes(network, chunk, images, batch_size) != labels
            progress(len(labels))
    return fractions, wrong


def _check_corrupted(images: Tensor, name: str, severity: int) -> None:
    low, high = (float(v) for v in images.aminmax())
    if not (low >= 0 and high <= 1):  # also where they are NaN
        came = "NaN" if np.isnan(low) or np.isnan(high) else f"values from {low:.4g} to {high:.4g}"
        raise ValueError(
            f"expected the corruption {name!r} to return pixels in [0, 1] (0 .. 255 for arrays), got {came} at "
            f"severity {severity}; clip them in the function"
        )


def high_frequency_fraction(differences: Tensor) -> Tensor:
    """(n,) ||H(d)||^2 / ||d||^2 of differences d (n, c, h, w), H the `high_frequency_mask`; NaN where d = 0."""
    h, w = differences.shape[-2:]
    half = w // 2 + 1
    twins = np.full(half, 2.0)  # a real FFT keeps one of k and -k
    twins[0] = 1
    if w % 2 == 0:
        twins[-1] = 1
    mask = torch.from_numpy(high_frequency_mask((h, w))[:, :half] * twins).to(differences)
    power = torch.fft.rfft2(differences, norm="ortho").abs().square().sum(dim=1)
    every = torch.from_numpy(twins).to(differences)
    return (power * mask).sum(dim=(1, 2)) / (power * every).sum(dim=(1, 2))
