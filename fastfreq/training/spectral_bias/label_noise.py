"""Labels of images with a wave added to them: what noise of which frequency does to the loss on clean images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastfreq.engine.contexts import undisturbed
from fastfreq.results import codec
from fastfreq.results.folds import same, union
from fastfreq.vocabulary import numbers

from ._ensemble import Ensemble
from ._samples import binary_targets, check_rows, flat
from ._training import Fit, Records
from .recipe import Recipe, check_seeds, filled, make_network
from .trained import TrainedResult, details

FloatArray = NDArray[np.float64]
Noise = Callable[[FloatArray, float], Any]


@codec.record
@dataclasses.dataclass(frozen=True, eq=False)
class NoiseRun:
    """One network for each frequency of the noise, from the same weights.

    Attributes:
        training_loss: (f, t) mean square against the noisy labels.
        validation_loss: (f, t) mean square against clean labels of other images.
    """

    training_loss: FloatArray
    validation_loss: FloatArray


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LabelNoise(TrainedResult, kind="label_noise"):
    """Losses under label noise of one frequency each, by step. ``a + b`` merges runs of other seeds.

    Attributes:
        frequencies: (f,) k of the noise; 0 is none.
        amplitude: of the noise, beside labels of -1 and 1.
        norms: (mean, standard deviation) of the norm of the training samples: the noise repeats every 1 / k of it.
        samples: (training, validation).
        runs: seed -> what became of its networks.
    """

    SHAPES: ClassVar[dict[str, str]] = {"frequencies": "f"}

    frequencies: FloatArray = same()
    amplitude: float = same()
    norms: tuple[float, float] = same()
    samples: tuple[int, int] = same()
    runs: dict[int, NoiseRun] = union()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        shape = (len(self.frequencies), len(self.steps))
        return {"training_loss": shape, "validation_loss": shape}

    @property
    def mean_validation_loss(self) -> FloatArray:
        """(f, t) mean over networks."""
        return np.mean([run.validation_loss for run in self._in_order()], axis=0)

    @property
    def mean_training_loss(self) -> FloatArray:
        """(f, t) mean over networks."""
        return np.mean([run.training_loss for run in self._in_order()], axis=0)

    @property
    def least(self) -> FloatArray:
        """(seeds, f) smallest validation loss of all recorded steps."""
        return np.stack([run.validation_loss.min(axis=1) for run in self._in_order()])

    @property
    def last(self) -> FloatArray:
        """(seeds, f) validation loss after the last step."""
        return np.stack([run.validation_loss[:, -1] for run in self._in_order()])

    def table(self) -> list[dict[str, Any]]:
        """One row per seed and frequency: the least validation loss, where it was, and the last."""
        rows = []
        for seed, run in zip(self.seeds, self._in_order(), strict=True):
            for index, k in enumerate(self.frequencies):
                losses = run.validation_loss[index]
                rows.append(
                    {
                        "seed": seed,
                        "frequency": float(k),
                        "least_validation_loss": float(losses.min()),
                        "least_at": int(self.steps[losses.argmin()]),
                        "last_validation_loss": float(losses[-1]),
                        "last_training_loss": float(run.training_loss[index, -1]),
                    }
                )
        return rows

    def headline(self) -> str:
        """The least and the last validation loss by frequency."""
        least, last = self.least.mean(axis=0), self.last.mean(axis=0)
        parts = [f"k = {k:g}: {a:.2g}, {b:.2g}" for k, a, b in zip(self.frequencies, least, last, strict=True)]
        return f"least and last validation loss: {'; '.join(parts)}"


def radial_wave(samples: FloatArray, frequency: float) -> FloatArray:
    """(n,) sin(2 pi k |x|) of samples (n, d).

    Raises:
        ValueError: samples of another shape, or that are not finite.

    Source: Rahaman et al. 2019, radial label noise.
    """
    k = numbers.as_float("frequency", frequency)
    return np.sin(2 * np.pi * k * np.linalg.norm(check_rows(samples), axis=1))


@undisturbed(gradients=True)  # whatever the caller is in
def label_noise(
    images: Any,
    labels: Any,
    *,
    validation: tuple[Any, Any],
    frequencies: Sequence[float] = (0.0, 0.05, 0.2, 1.0),
    amplitude: float = 1.0,
    noise: Noise = radial_wave,
    seeds: Sequence[int] = (0,),
    recipe: Recipe | None = None,
) -> LabelNoise:
    """Train networks on labels y + beta sin(2 pi k |x|) and follow the loss on other images with clean labels.

    Noise of a low frequency is learnt before or with the labels, so that the loss on clean ones is high from the start;
    noise of a high frequency is learnt after them: the loss falls to nearly that without noise, then rises.

    Args:
        images: (n, ...) training samples, flattened; uint8 is divided by 255.
        labels: (n,) of two classes, which become -1 and 1 in their order.
        validation: (images, labels) of others, of the same two classes.
        frequencies: k, ascending, in cycles per unit of the norm |x| = (sum of squares)^(1/2) of a sample; 0 for none.
            What is low depends on how much |x| varies: `norms` of the result says.
        amplitude: beta.
        noise: samples (n, d), k -> (n,); another kind of wave.
        seeds: one network each, for each k from the same weights.
        recipe: by default the paper's: depth 6, width 256, Adam at 1e-4, 5,000 steps.

    Raises:
        ValueError: arguments out of range or of shapes that do not belong together.
        TypeError: an argument of another type.

    Source: Rahaman et al. 2019, experiment with label noise on MNIST.
    """
    x, seeds = flat("images", images), check_seeds(seeds)
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        raise TypeError(f"expected `validation` as (images, labels), got {type(validation).__name__}")
    if not callable(noise):
        raise TypeError(f"expected `noise` as a function of samples and a frequency, got {type(noise).__name__}")
    held_out = flat("validation", validation[0])
    y, clean = binary_targets(labels, len(x)), binary_targets(validation[1], len(held_out), like=labels)
    if held_out.shape[1] != x.shape[1]:
        raise ValueError(f"expected validation images of {x.shape[1]} numbers each, got {held_out.shape[1]}")
    k = numbers.ascending("frequencies", frequencies, numbers.as_float)
    if k[0] < 0:
        raise ValueError(f"expected `frequencies` from 0, got {k[0]:g}")
    beta = numbers.as_float("amplitude", amplitude)
    recipe = filled(recipe, rate=1e-4, steps=5000, record_every=20)
    targets = np.stack([y + beta * _wave(noise, x, each) for each in k])
    fit = Fit(
        recipe,
        [make_network(recipe, x.shape[1], seed) for seed in seeds for _ in k],
        x,
        np.tile(targets, (len(seeds), 1)),
        names=[f"seed {seed} and k = {each:g}" for seed in seeds for each in k],
        seeds=[seed for seed in seeds for _ in k],
        recorded=("label_noise", held_out, clean),
    )

    def record(_: Ensemble, __: FloatArray) -> Records:
        return {"validation": np.square(fit.predict(held_out) - clean).mean(axis=1)}

    losses, found = fit.run(record)
    losses, validated = (each.reshape(len(seeds), len(k), -1) for each in (losses, found["validation"].T))
    norms = np.linalg.norm(x, axis=1)
    return LabelNoise(
        details=details(fit.networks.modules()[0]),
        training=fit.training,
        steps=fit.steps,
        frequencies=np.array(k),
        amplitude=beta,
        norms=(float(norms.mean()), float(norms.std())),
        samples=(len(x), len(held_out)),
        runs={seed: NoiseRun(losses[i], validated[i]) for i, seed in enumerate(seeds)},
    )


def _wave(noise: Noise, x: FloatArray, frequency: float) -> FloatArray:
    values = numbers.as_array("noise", noise(x.copy(), frequency))
    if values.shape != (len(x),) or not np.isfinite(values).all():
        raise ValueError(f"expected `noise` to give {len(x)} finite values, got shape {values.shape}")
    return values
