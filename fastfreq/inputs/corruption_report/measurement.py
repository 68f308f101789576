"""Common corruptions: what they cost a model, and at which frequencies they change an image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastfreq.engine import folding
from fastfreq.engine.images import Chunk
from fastfreq.engine.measure import measure
from fastfreq.engine.measurement import Measurement
from fastfreq.engine.network import Network
from fastfreq.engine.run import Run, RunOptions
from fastfreq.engine.session import Session
from fastfreq.inputs.corruption_sources import COMMON_CORRUPTIONS, FolderSource, FunctionSource, Source, package_source
from fastfreq.results.folds import Outcomes
from fastfreq.results.identity import Identity
from fastfreq.vocabulary import checks, numbers

from .result import BASELINE, CorruptionReport, high_frequency_mask


def corruption_report(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    corruptions: Sequence[str] | Mapping[str, Callable[[Tensor, int], Tensor]] | str | Path = COMMON_CORRUPTIONS,
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    baseline: nn.Module | None = None,
    seed: int = 0,
    **run: Unpack[RunOptions],
) -> CorruptionReport:
    """Accuracy under corruptions C, against a baseline model, and the frequencies that C(X) - X is made of.

    Args:
        model: as for `heatmap`.
        images: as for `heatmap`.
        labels: as for `heatmap`.
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
        **run: `RunOptions`: precision, batch_size, device, shard, checkpoint, progress and more.

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
    asked = numbers.ascending("severities", severities, numbers.as_int)
    seed = checks.check_seed(seed)
    source = _source(corruptions, seed, check_labels=not isinstance(labels, str))
    what = _Corrupted(source, asked, seed, None if baseline is None else _Baseline(baseline, model, Run.of(run)))
    return measure(what, model, images, labels, run)


def _source(corruptions: Any, seed: int, *, check_labels: bool) -> Source:
    if isinstance(corruptions, (str, Path)):
        return FolderSource(corruptions, check_labels=check_labels)
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


class _Baseline:
    """A second network, run as the first one is."""

    def __init__(self, model: nn.Module, beside: nn.Module, run: Run) -> None:
        self._model, self._beside, self._run = model, beside, run

    def prepare(self, shape: tuple[int, int, int]) -> Identity:
        """Copy it to where the model is, and say which it is."""
        run = self._run
        weight = next(iter([*self._beside.parameters(), *self._beside.buffers()]), None)
        device = run.torch_device or (torch.device("cpu") if weight is None else weight.device)
        self.network = Network(self._model, precision=run.precision, channels_last=False, device=device)
        numerics = {"precision": run.precision, "fold_batch_norm": run.fold_batch_norm}
        return self.network.identity(shape, numerics)

    def start(self, session: Session) -> None:
        """Fold, cast and lay out as the model was."""
        if self._run.fold_batch_norm:
            noise = torch.rand(2, *session.shape, generator=torch.Generator().manual_seed(0))
            folding.fold_batch_norms(self.network, self.network.clean_batch(noise.to(session.device)))
        self.network.cast()
        self.network.lay_out(session.network.channels_last)
        self.forward = session.graphed(self.network)


class _Corrupted(Measurement):
    """Every corruption and severity on every image, by one or two networks."""

    result, label = CorruptionReport, "corruptions"

    def __init__(self, source: Source, severities: tuple[int, ...], seed: int, baseline: _Baseline | None) -> None:
        self._source, self._severities, self._seed, self._baseline = source, severities, seed, baseline

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """As in `Measurement`."""
        identity = None if self._baseline is None else self._baseline.prepare(shape)
        return {
            "corruptions": self._source.names,
            "severities": self._severities,
            "source": self._source.label,
            "eight_bit": self._source.eight_bit,
            "seed": self._seed,
            "baseline": identity,
            "baseline_name": "" if self._baseline is None else self._baseline.network.name,
        }

    def passes(self, shape: tuple[int, int, int]) -> float:
        """As in `Measurement`."""
        networks = 1 if self._baseline is None else 2
        return networks * (1 + len(self._source.names) * len(self._severities))

    def start(self, session: Session) -> None:
        """As in `Measurement`."""
        if self._baseline is not None:
            self._baseline.start(session)

    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        """As in `Measurement`."""
        if self._source.eight_bit:
            chunk = dataclasses.replace(chunk, images=(chunk.images * 255).round() / 255)
        size = (len(self._source.names), len(self._severities), len(chunk))
        fractions, wrong = np.empty(size, dtype=np.float32), np.empty((2, *size), dtype=np.bool_)
        for k, name in enumerate(self._source.names):
            for s, severity in enumerate(self._severities):
                images = self._source.corrupted(chunk, name, severity).to(chunk.images)
                _check_corrupted(images, name, severity)
                part = session.in_batches(
                    dataclasses.replace(chunk, images=images - chunk.images),
                    lambda some: high_frequency_fraction(some.images),
                )
                fractions[k, s] = torch.cat(part).cpu().numpy()
                wrong[:, k, s] = self._wrong(session, chunk, images, f"{name!r} at severity {severity}")
        clean = self._wrong(session, chunk, chunk.images, "no change at all")
        seconds = [] if self._baseline is None else [BASELINE]
        return {
            "wrong": Outcomes.of(wrong[0]),
            "clean_wrong": clean[0],
            "baseline_wrong": {each: Outcomes.of(wrong[1]) for each in seconds},
            "baseline_clean_wrong": dict.fromkeys(seconds, clean[1]),
            "fractions": fractions,
        }

    def _wrong(self, session: Session, chunk: Chunk, images: Tensor, under: str) -> NDArray[np.bool_]:
        """(2, n) where the model, and the baseline, misclassify `images`; False without a baseline."""
        found = np.zeros((2, len(chunk)), dtype=np.bool_)
        networks = [(session.network, session.forward)]
        if self._baseline is not None:
            networks.append((self._baseline.network, self._baseline.forward))
        for row, (network, forward) in enumerate(networks):

            def make(part: slice, _rows: slice, _each: int, network: Network = network) -> list[Tensor]:
                return [network.clean_batch(images[part])]

            def check(part: slice, _rows: slice, logits: Tensor) -> None:
                checks.check_classes(chunk.labels[part], logits[0])

            seen = session.outcomes(chunk, 1, make, also=check, forward=forward, describe=lambda _: under)
            found[row] = seen.wrong(chunk.labels)[0]
        return found


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
