"""Networks of which exactly one layer is trained: what each depth can make of the rest, which stays random."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from fastfreq.engine.contexts import callers_level, undisturbed
from fastfreq.results import codec
from fastfreq.results.folds import same, union
from fastfreq.vocabulary import numbers, streams

from ._checkpoint import Checkpoint, check_folder, digest_of
from ._classified import Classified, accuracies, classified
from .spectral_bias.recipe import Training, check_seeds
from .spectral_bias.trained import TrainedResult

FloatArray = NDArray[np.float64]
History = list[tuple[FloatArray, FloatArray]]  # (layers,) accuracies on both sets, by epoch
_PARTS = ("epoch", "batch", "weights", "optimizer", "accuracies")


@codec.record
@dataclasses.dataclass(frozen=True, eq=False)
class SingleLayerRun:
    """One random network for each variance, and one training of each of its layers.

    Attributes:
        training_accuracy: (v, layers, t).
        test_accuracy: (v, layers, t).
    """

    training_accuracy: FloatArray
    test_accuracy: FloatArray


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SingleLayerTraining(TrainedResult, kind="single_layer_training"):
    """Accuracy by the layer that was trained. ``a + b`` merges runs of other seeds.

    Attributes:
        variances: (v,) sigma_w^2: weights are normal with variance sigma_w^2 / inputs of the layer.
        layers: (l,) which layer was trained; 0 is the first, which never is: it has another number of weights.
        width: units of a layer.
        samples: (training, test).
        runs: seed -> accuracies.
    """

    SHAPES: ClassVar[dict[str, str]] = {"variances": "v", "layers": "l"}

    variances: FloatArray = same()
    layers: NDArray[np.int64] = same()
    width: int = same()
    samples: tuple[int, int] = same()
    runs: dict[int, SingleLayerRun] = union()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        shape = (len(self.variances), len(self.layers), len(self.steps))
        return {"training_accuracy": shape, "test_accuracy": shape}

    def accuracy(self, *, test: bool = False) -> FloatArray:
        """(seeds, v, layers) at the end."""
        runs = self._in_order()
        return np.stack([(run.test_accuracy if test else run.training_accuracy)[..., -1] for run in runs])

    def rank_correlation(self, *, test: bool = False) -> FloatArray:
        """(seeds, v) Spearman's rank correlation of accuracy with the layer: -1 where each is worse than the last.

        Equal accuracies have their mean rank; NaN where all are equal.
        """
        values = self.accuracy(test=test)
        ranks = np.stack([_ranks(row) for row in values.reshape(-1, values.shape[-1])]).reshape(values.shape)
        ranks -= ranks.mean(axis=-1, keepdims=True)
        place = np.arange(len(self.layers)) - (len(self.layers) - 1) / 2
        with np.errstate(invalid="ignore"):
            return (ranks @ place) / np.sqrt(np.square(ranks).sum(axis=-1) * np.square(place).sum())

    def gap(self, *, test: bool = False) -> FloatArray:
        """(seeds, v) accuracy with the earliest layer trained less that with the last."""
        values = self.accuracy(test=test)
        return values[..., 0] - values[..., -1]

    def table(self) -> list[dict[str, Any]]:
        """One row per seed, variance and layer."""
        own, other = self.accuracy(), self.accuracy(test=True)
        return [
            {
                "seed": seed,
                "variance": float(variance),
                "layer": int(layer),
                "training_accuracy": float(own[i, j, k]),
                "test_accuracy": float(other[i, j, k]),
            }
            for i, seed in enumerate(self.seeds)
            for j, variance in enumerate(self.variances)
            for k, layer in enumerate(self.layers)
        ]

    def summary(self) -> list[dict[str, Any]]:
        """One row per variance: rank correlations and gaps, the least favourable seed's."""
        return [
            {
                "variance": float(variance),
                "seeds": len(self.seeds),
                "largest_rank_correlation": float(rank.max()),
                "smallest_gap": float(gap.min()),
                "accuracy": float(accuracy.max()),
            }
            for variance, rank, gap, accuracy in zip(
                self.variances, self.rank_correlation().T, self.gap().T, self.accuracy().mean(axis=0), strict=True
            )
        ]

    def headline(self) -> str:
        """Rank correlations."""
        ranks = self.rank_correlation().mean(axis=0)
        said = ", ".join(f"{r:+.2f} at variance {v:g}" for v, r in zip(self.variances, ranks, strict=True))
        return f"rank correlation of accuracy with the layer trained: {said}"


def _ranks(values: FloatArray) -> FloatArray:
    below, equal = values[:, None] > values, values[:, None] == values
    return below.sum(axis=1) + (equal.sum(axis=1) - 1) / 2


@undisturbed(gradients=True)  # whatever the caller is in
def single_layer_training(
    images: Any,
    labels: Any,
    *,
    test: tuple[Any, Any],
    variances: Sequence[float] = (1.0, 2.0),
    depth: int = 8,
    width: int = 100,
    seeds: Sequence[int] = (0,),
    epochs: int = 8,
    batch_size: int = 100,
    rate: float = 1e-3,
    progress: bool = False,
    checkpoint: str | Path | None = None,
) -> SingleLayerTraining:
    """Train one hidden layer of a random fully connected network, for each hidden layer but the first, from new.

    The network is x -> phi(W_0 x) -> phi(W_1 .) ... -> W_out, phi = hard tanh, without biases, weights normal with
    variance sigma_w^2 / inputs. For each d >= 1 only W_d is trained, by cross-entropy and Adam, from the same network:
    all have the same number of parameters and see batches in the same order. An early layer has more of the network
    after it: what it does to the input is expanded by all layers behind it.

    Args:
        images: (n, ...) training samples, flattened; uint8 is divided by 255. Training runs where they are.
        labels: (n,) integers.
        test: (images, labels) of others.
        variances: sigma_w^2, ascending.
        depth: hidden layers, from 3.
        width: of each.
        seeds: one network each, for all variances of the same normal numbers.
        epochs: over the samples.
        batch_size: samples of a step of Adam.
        rate: Adam's.
        progress: show a progress bar.
        checkpoint: folder in which the training of each seed and variance keeps where it stands, every 30 seconds and
            where it is interrupted. The same call goes on from there, bit for bit on one thread, and one of more seeds
            takes over those that are there.

    Raises:
        ValueError: arguments out of range or of shapes that do not belong together.
        TypeError: an argument of another type.

    Warns where outputs are no numbers any more.

    Source: Raghu, Poole, Kleinberg, Ganguli, Sohl-Dickstein 2017, "On the expressive power of deep neural networks",
        figure on training single layers (MNIST, width 100); optimiser, epochs and absent biases are ours.
    """
    check_folder(checkpoint)
    device = images.device if isinstance(images, Tensor) else "cpu"
    own, other, classes = classified(images, labels, test, device=device)
    given = numbers.ascending("variances", variances, numbers.as_float)
    counts = {"depth": depth, "width": width, "epochs": epochs, "batch_size": batch_size}
    depth, width, epochs, batch_size = (numbers.as_int(*pair) for pair in counts.items())
    rate, seeds = numbers.as_float("rate", rate), check_seeds(seeds)
    if given[0] <= 0 or depth < 3 or min(width, epochs, batch_size) < 1 or rate <= 0:
        raise ValueError(
            f"expected `variances` and a `rate` above 0, a `depth` from 3 and the others from 1, got {given}, {rate} "
            f"and {counts}"
        )
    runs: dict[int, SingleLayerRun] = {}
    plan = _Plan((own.samples.shape[1], *[width] * depth, classes), epochs, batch_size, rate)
    request = ["one layer", plan, str(device)]
    request += [] if checkpoint is None else [digest_of([*own, *other])]
    with tqdm(total=len(seeds) * len(given) * epochs, unit="epoch", desc="training", disable=not progress) as bar:
        for seed in seeds:
            found = []
            for variance in given:
                kept = Checkpoint(checkpoint, [*request, seed, variance], parts=_PARTS)
                nets = _SingleLayers(_weights(seed, plan.sizes, variance, own.samples), own, other)
                found.append(
                    nets.train(plan, kept, bar.update, seed=seed, name=f"seed {seed} at variance {variance:g}")
                )
                _warn_of_divergence(found[-1][0], f"seed {seed} at variance {variance:g}")
            runs[seed] = SingleLayerRun(*(np.stack(each) for each in zip(*found, strict=True)))
    steps = -(-len(own.samples) // batch_size) * np.arange(epochs + 1)
    sizes = " - ".join(map(str, plan.sizes))
    return SingleLayerTraining(
        details={"model": sizes, "torch": str(torch.__version__)},
        training=Training(
            f"{sizes}, hard tanh, without biases; one layer trained",
            width * width,
            f"Adam(lr={rate:g}), batches of {batch_size}",
            "none",
            int(steps[-1]),
        ),
        steps=steps.astype(np.int64),
        variances=np.array(given),
        layers=np.arange(1, depth, dtype=np.int64),
        width=width,
        samples=(len(own.samples), len(other.samples)),
        runs=runs,
    )


def _warn_of_divergence(accuracy: FloatArray, name: str) -> None:
    bad = np.flatnonzero(np.isnan(accuracy).any(axis=0))
    if len(bad):
        warnings.warn(
            f"outputs of the networks of {name} are no numbers from epoch {bad[0]} on, accuracies there are NaN; try a "
            f"smaller `rate`",
            RuntimeWarning,
            stacklevel=callers_level(),
        )


def _weights(seed: int, sizes: tuple[int, ...], variance: float, like: Tensor) -> list[Tensor]:
    """(out, in) of each layer."""
    generator = streams.generator("training", seed)
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    drawn = [generator.standard_normal((after, before)) * np.sqrt(variance / before) for before, after in pairs]
    return [torch.from_numpy(each).to(like) for each in drawn]


class _Plan(NamedTuple):
    """Sizes of layers from the input to the logits, and how they are trained."""

    sizes: tuple[int, ...]
    epochs: int
    batch_size: int
    rate: float


class _SingleLayers:
    """Copies of one network beside each other; in each another layer is trained.

    Layers before the trained one see the same numbers all the time: they are computed once.
    """

    def __init__(self, weights: list[Tensor], own: Classified, other: Classified) -> None:
        self._frozen, self._own, self._other = weights, own, other
        self._trained = [weight.clone().requires_grad_() for weight in weights[1:-1]]
        self._before = [self._inputs(own.samples), self._inputs(other.samples)]

    def _inputs(self, samples: Tensor) -> list[Tensor]:
        """Of each trained layer, in the network as it was drawn."""
        found, hidden = [], samples
        for weight in self._frozen[:-2]:
            hidden = F.hardtanh(hidden @ weight.T)
            found.append(hidden)
        return found

    def _logits(self, inputs: Sequence[Tensor]) -> Tensor:
        """(layers, n, classes)."""
        hidden: Tensor | None = None
        for x, weight, frozen in zip(inputs, self._trained, self._frozen[1:-1], strict=True):
            new = (x @ weight.T)[None]
            hidden = F.hardtanh(new if hidden is None else torch.cat([hidden @ frozen.T, new]))
        assert hidden is not None
        return hidden @ self._frozen[-1].T

    def train(
        self, plan: _Plan, checkpoint: Checkpoint, advance: Callable[[], object], *, seed: int, name: str
    ) -> tuple[FloatArray, FloatArray]:
        """Accuracies (layers, epochs + 1) on both sets; `name` is what messages call the training."""
        adam = torch.optim.Adam(self._trained, lr=plan.rate)
        generator = streams.generator("training_data", seed)
        with torch.enable_grad(), torch.autocast(self._own.classes.device.type, enabled=False), checkpoint.guarded():
            first, done, history = self._go_on(checkpoint.before(), adam)

            def keep(epoch: int, done: int) -> None:
                at = f"epoch {epoch} of {plan.epochs}, batch {done} of {name}"
                checkpoint.keep(lambda: self._state(epoch, done, adam, history), at=at, last=epoch == plan.epochs)

            for epoch in range(plan.epochs):
                order = torch.from_numpy(generator.permutation(len(self._own.classes)))
                batches = order.to(self._own.classes.device).split(plan.batch_size)
                if epoch >= first:
                    for place in range(done, len(batches)):
                        keep(epoch, place)
                        self._step(adam, batches[place])
                    done = 0
                    history.append(self._accuracies())
                    keep(epoch + 1, 0)
                advance()
        own, other = (np.stack(each, axis=1) for each in zip(*history, strict=True))
        return own, other

    def _step(self, adam: torch.optim.Optimizer, batch: Tensor) -> None:
        logits = self._logits([x[batch] for x in self._before[0]])
        target = self._own.classes[batch].expand(len(logits), -1)
        # the sum over networks of each one's mean
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten()) * len(logits)
        adam.zero_grad()
        loss.backward()
        adam.step()

    def _state(self, epoch: int, done: int, adam: torch.optim.Optimizer, history: History) -> dict[str, Any]:
        """Where the training stands: epochs, batches of the next one, weights, and accuracies so far."""
        accuracies = [torch.from_numpy(np.stack(each)) for each in zip(*history, strict=True)]
        weights = [weight.detach() for weight in self._trained]
        return dict(zip(_PARTS, (epoch, done, weights, adam.state_dict(), accuracies), strict=True))

    @torch.no_grad()
    def _go_on(self, before: dict[str, Any] | None, adam: torch.optim.Optimizer) -> tuple[int, int, History]:
        """Epochs and batches of the next that are done, and accuracies; weights are put where they stood."""
        if before is None:
            return 0, 0, [self._accuracies()]
        epoch, done, weights, settings, accuracies = (before[name] for name in _PARTS)
        for weight, kept in zip(self._trained, weights, strict=True):
            weight.copy_(kept)
        adam.load_state_dict(settings)
        return epoch, done, [*zip(*(each.numpy() for each in accuracies), strict=True)]

    @torch.no_grad()
    def _accuracies(self) -> tuple[FloatArray, FloatArray]:
        found = []
        for inputs, data in zip(self._before, (self._own, self._other), strict=True):
            found.append(accuracies(self._logits(inputs), data.classes).cpu().numpy())
        return found[0], found[1]
