"""Networks whose last layer alone is trained: on a first layer learned elsewhere, on wavelets, on random filters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from fastfreq.engine.contexts import undisturbed
from fastfreq.engine.copies import private_copy
from fastfreq.results import codec
from fastfreq.results.folds import same, union
from fastfreq.vocabulary import numbers, statistics, streams

from . import _stems
from ._checkpoint import Checkpoint, check_folder, digest_of
from ._classified import Classified, accuracies, classified
from .spectral_bias.recipe import Training, check_seeds
from .spectral_bias.trained import TrainedResult

FloatArray = NDArray[np.float64]
Stem = Callable[[Tensor], Tensor]
_CHUNK = 512  # images through a stem at a time
_SHOWN = 64  # images by which a stem is known again
_DONE = "stems"  # in a checkpoint


@codec.record
@dataclasses.dataclass(frozen=True, eq=False)
class TransferRun:
    """One draw of filters, of the source's batches and of samples.

    Attributes:
        test_accuracy: (stems, samples).
        training_accuracy: (stems, samples) on the samples that were learned.
    """

    test_accuracy: FloatArray
    training_accuracy: FloatArray


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class TransferLearning(TrainedResult, kind="transfer_learning"):
    """Accuracy of a linear last layer on each stem. ``a + b`` merges runs of other seeds.

    Attributes:
        stems: names.
        features: of each stem, how many numbers an image becomes.
        samples: (m,) that the last layer learned from.
        tested: images that it was tested on.
        source: (images, classes) that the learned stem learned from.
        penalty: on the last layer.
        runs: seed -> accuracies.
    """

    SHAPES: ClassVar[dict[str, str]] = {"samples": "m"}

    stems: tuple[str, ...] = same()
    features: tuple[int, ...] = same()
    samples: NDArray[np.int64] = same()
    tested: int = same()
    source: tuple[int, int] = same()
    penalty: float = same()
    runs: dict[int, TransferRun] = union()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        shape = (len(self.stems), len(self.samples))
        return {"test_accuracy": shape, "training_accuracy": shape}

    @property
    def accuracy(self) -> FloatArray:
        """(seeds, stems, samples) on the images to test on."""
        return np.stack([run.test_accuracy for run in self._in_order()])

    def interval(self, *, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """(low, high) of the mean over seeds, (stems, samples): Student's, in [0, 1]; NaN for a single seed."""
        values = self.accuracy
        low, high = statistics.student_interval(
            values.sum(axis=0), np.square(values).sum(axis=0), len(values), confidence=confidence
        )
        return np.clip(low, 0, 1), np.clip(high, 0, 1)

    def table(self) -> list[dict[str, Any]]:
        """One row per stem and number of samples: mean accuracy over seeds, with its interval."""
        low, high = self.interval()
        trained = np.mean([run.training_accuracy for run in self._in_order()], axis=0)
        mean = self.accuracy.mean(axis=0)
        return [
            {
                "stem": stem,
                "features": self.features[i],
                "samples": int(count),
                "seeds": len(self.seeds),
                "accuracy": float(mean[i, j]),
                "accuracy_low": float(low[i, j]),
                "accuracy_high": float(high[i, j]),
                "training_accuracy": float(trained[i, j]),
            }
            for i, stem in enumerate(self.stems)
            for j, count in enumerate(self.samples)
        ]

    def headline(self) -> str:
        """Accuracies at the largest number of samples."""
        mean = self.accuracy.mean(axis=0)[:, -1]
        said = ", ".join(f"{stem} {value:.3f}" for stem, value in zip(self.stems, mean, strict=True))
        return f"accuracy with {self.samples[-1]:,} samples: {said}"


@undisturbed(gradients=True)  # whatever the caller is in
def transfer_learning(
    images: Any,
    labels: Any,
    *,
    test: tuple[Any, Any],
    source: tuple[Any, Any],
    stems: Mapping[str, Stem] | None = None,
    samples: Sequence[int] = (50, 200, 1000),
    seeds: Sequence[int] = (0, 1, 2),
    channels: int = 16,
    epochs: int = 8,
    penalty: float = 1e-2,
    progress: bool = False,
    checkpoint: str | Path | None = None,
) -> TransferLearning:
    """Train the last layer alone, on fixed first layers of several kinds, with few samples of a new task.

    Stems, beside those of yours: "pixels", the image; "random", `channels` filters of 5 x 5, ReLU, means over a grid
    of 7 x 7; "learned", the same after training with a last layer of its own on `source`; "wavelet", magnitudes of the
    db4 coefficients of two levels, means over at most 7 x 7. The last layer is the minimum of

        mean cross-entropy + penalty / 2 sum of squared weights

    on features of mean 0 and deviation 1, by L-BFGS in float64: it does not depend on chance. Samples are drawn anew
    for each seed, the same for all stems.

    Args:
        images: (n, c, h, w) or (n, h, w) of the new task; uint8 is divided by 255.
        labels: (n,) integers.
        test: (images, labels) of others.
        source: (images, labels) that "learned" learns from first, of the same shape; classes may be others.
        stems: name -> function of images (n, c, h, w) in [0, 1], float32, such as `ff.features` has or a frozen part
            of a network; a module is copied and runs in evaluation mode.
        samples: how many the last layer learns from, ascending.
        seeds: of filters, of batches, of samples.
        channels: filters of "random" and "learned".
        epochs: over `source`, batches of 100, Adam at 1e-3.
        penalty: on the last layer, above 0.
        progress: show a progress bar.
        checkpoint: folder in which each seed keeps which stems are done, and the "learned" one where its training
            stands, every 30 seconds and where it is interrupted. The same call goes on from there, bit for bit on one
            thread, and one of more seeds takes over those that are there. A stem of yours is the same by its name, its
            weights and what it makes of the first 64 images.

    Raises:
        ValueError: arguments out of range or of shapes that do not belong together; a stem that gives other than one
            row of finite numbers for each image.
        TypeError: an argument of another type.
        ImportError: PyWavelets is not installed.

    Source: the lecture of Tanner on fixed first layers and transfer learning; all settings are ours.
    """
    check_folder(checkpoint)
    own, other, classes = classified(images, labels, test, device="cpu", shaped=True)
    if not isinstance(source, (tuple, list)) or len(source) != 2:
        raise TypeError(f"expected `source` as (images, labels), got {type(source).__name__}")
    first, _, source_classes = classified(*source, (source[0], source[1]), device="cpu", shaped=True)
    if first.samples.shape[1:] != own.samples.shape[1:]:
        a, b = (tuple(each.samples.shape[1:]) for each in (own, first))
        raise ValueError(f"expected `source` of images of shape {a}, as those of the new task, got {b}")
    counts = numbers.ascending("samples", samples, numbers.as_int)
    channels, epochs, seeds = numbers.as_int("channels", channels), numbers.as_int("epochs", epochs), check_seeds(seeds)
    penalty = numbers.as_float("penalty", penalty)
    if not classes <= counts[0] <= counts[-1] <= len(own.samples):
        raise ValueError(
            f"expected `samples` from the {classes} classes to the {len(own.samples)} images, got {counts}"
        )
    if min(channels, epochs) < 1 or penalty <= 0:
        raise ValueError(
            f"expected `channels` and `epochs` from 1 and a `penalty` above 0, got {channels}, {epochs} and {penalty}"
        )
    given = _given(stems or {})
    task, runs, sizes = _Task(own, other, classes, counts, penalty), dict[int, TransferRun](), dict[str, int]()
    request: list[Any] = [channels, epochs, source_classes]
    request += [] if checkpoint is None else [digest_of([*first])]
    whole = [*request, classes, counts, penalty]
    whole += [] if checkpoint is None else [digest_of([*own, *other]), _known(given, own.samples)]
    with tqdm(total=len(seeds), unit="seed", desc="transfer", disable=not progress) as bar:
        for seed in seeds:
            kept = Checkpoint(checkpoint, ["learned stem", *request, seed], parts=_stems.PARTS)
            random = _stems.filters(own.samples.shape[1], channels, seed)
            every: dict[str, Stem] = {
                "pixels": nn.Flatten(),
                "random": random,
                "learned": _stems.learned(random, first, source_classes, epochs, seed, kept),
                "wavelet": _stems.wavelet_magnitudes,
                **given,
            }
            kept = Checkpoint(checkpoint, ["transfer", *whole, seed], parts=(_DONE,))
            found = task.run(every, seed, kept)
            sizes = {name: size for name, (size, _) in found.items()}
            both = np.stack([accuracy for _, accuracy in found.values()])
            runs[seed] = TransferRun(both[:, :, 0], both[:, :, 1])
            bar.update()
    return TransferLearning(
        details={"model": "last layer", "torch": str(torch.__version__)},
        training=Training(
            f"linear, {classes} classes, on features of mean 0 and deviation 1",
            classes * (max(sizes.values()) + 1),
            f"L-BFGS to the minimum, penalty {penalty:g}; the learned stem by Adam(lr=0.001), {epochs} epochs",
            "none",
            _stems.STEPS,
        ),
        steps=np.array([_stems.STEPS], dtype=np.int64),
        stems=tuple(sizes),
        features=tuple(sizes.values()),
        samples=np.array(counts, dtype=np.int64),
        tested=len(other.samples),
        source=(len(first.samples), source_classes),
        penalty=penalty,
        runs=runs,
    )


def _given(stems: Mapping[str, Stem]) -> dict[str, Stem]:
    clash = {"pixels", "random", "learned", "wavelet"} & set(stems)
    if clash:
        raise ValueError(f"expected `stems` under other names than {sorted(clash)}, which are there already")
    return {name: private_copy(stem) if isinstance(stem, nn.Module) else stem for name, stem in stems.items()}


def _drawn(classes: Tensor, counts: Sequence[int], seed: int) -> list[Tensor]:
    """Rows of the samples: of each number the first of one order, in which one of each class comes first."""
    order = streams.generator("training_data", seed).permutation(len(classes))
    _, first = np.unique(classes.numpy()[order], return_index=True)
    order = np.concatenate([order[np.sort(first)], np.delete(order, first)])
    return [torch.from_numpy(order[:count].copy()) for count in counts]


def _known(stems: Mapping[str, Stem], images: Tensor) -> dict[str, Any]:
    """By what stems are told from others of their names."""
    return {
        name: [
            _features(name, stem, images[:_SHOWN]),
            [str(stem), stem.state_dict()] if isinstance(stem, nn.Module) else type(stem).__name__,
        ]
        for name, stem in stems.items()
    }


class _Task(NamedTuple):
    """What last layers are to learn, from how many samples, with which penalty."""

    own: Classified
    other: Classified
    classes: int
    counts: Sequence[int]
    penalty: float

    def run(self, stems: Mapping[str, Stem], seed: int, checkpoint: Checkpoint) -> dict[str, tuple[int, FloatArray]]:
        """By stem, (features, accuracies (samples, 2) on the images to test on and on those learned)."""
        rows = _drawn(self.own.classes, self.counts, seed)
        with checkpoint.guarded():
            before = checkpoint.before() or {_DONE: {}}
            found = {name: (size, accuracies.numpy()) for name, (size, accuracies) in before[_DONE].items()}

            def state() -> dict[str, Any]:
                return {_DONE: {name: (size, torch.from_numpy(each)) for name, (size, each) in found.items()}}

            def keep() -> None:
                at = f"what seed {seed} makes of {', '.join(found) or 'no stem yet'}"
                checkpoint.keep(state, at=at, last=len(found) == len(stems))

            keep()
            for name in [name for name in stems if name not in found]:
                found[name] = self._on(name, stems[name], rows)
                keep()
        return {name: found[name] for name in stems}

    def _on(self, name: str, stem: Stem, rows: list[Tensor]) -> tuple[int, FloatArray]:
        own, other = self.own, self.other
        x, held_out = _features(name, stem, own.samples[rows[-1]]), _features(name, stem, other.samples)
        if x.shape[1] != held_out.shape[1]:
            raise ValueError(
                f"expected stem {name!r} to give as many numbers for each image, got {x.shape}, {held_out.shape}"
            )
        found = []
        for chosen in rows:
            part, target = x[: len(chosen)], own.classes[chosen]
            mean, deviation = part.mean(dim=0), part.std(dim=0, correction=0)
            deviation = torch.where(deviation > 1e-9 * (1 + mean.abs()), deviation, torch.inf)  # constant: says nothing
            weight, bias = _stems.last_layer((part - mean) / deviation, target, self.classes, self.penalty)
            pairs = ((held_out, other.classes), (part, target))
            found.append([float(accuracies(((f - mean) / deviation) @ weight.T + bias, c)) for f, c in pairs])
        return x.shape[1], np.array(found)


@torch.no_grad()
def _features(name: str, stem: Stem, images: Tensor) -> Tensor:
    """(n, k) float64."""
    parts = []
    for chunk in images.split(_CHUNK):
        out = stem(chunk.clone())
        if not isinstance(out, Tensor) or out.ndim < 2 or len(out) != len(chunk):
            got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise ValueError(f"expected stem {name!r} to give {len(chunk)} rows for as many images, got {got}")
        parts.append(out.flatten(1).double().cpu())
    found = torch.cat(parts)
    if not torch.isfinite(found).all():
        raise ValueError(f"expected finite numbers from stem {name!r}, got NaN or infinity")
    return found
