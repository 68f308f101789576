"""Does averaging a model over points around its input defend it? Accuracy, clean and attacked, by radius."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Unpack, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastfreq.attacks import AnyAttack, InPixels, resolve_attack
from fastfreq.engine.images import Chunk
from fastfreq.engine.measure import measure
from fastfreq.engine.measurement import Measurement
from fastfreq.engine.network import Network
from fastfreq.engine.run import RunOptions
from fastfreq.engine.session import Session
from fastfreq.results import tables
from fastfreq.results.folds import by_image, condition, same, text
from fastfreq.results.result import ModelResult
from fastfreq.vocabulary import checks, numbers, statistics

from .post_averaging import Average, Points, PostAveraging, Sampling

FloatArray = NDArray[np.float64]
SHARES = ("clean", "attacked", "recovered")


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PostAveragingCurve(ModelResult, kind="post_averaging_curve"):
    """Predictions for images and for attacked images, by a model and by its averages over radii R.

    ``a + b`` merges shards: other images at the same radii, or other radii on the same images.

    Attributes:
        radii: (r) R, L2 length over all channels, ascending.
        normalised: whether R is in units of the network's normalised input, or in pixels of [0, 1].
        points: the directions and their sampling, for people.
        forwards: forward passes per averaged prediction.
        attack: all that the attack says of itself.
        attack_name: its name and radius, for people.
        adaptive: whether each average was attacked itself, or the model without averaging.
        labels: (n,) true classes.
        predicted: (n,) class of each image, without averaging.
        predicted_attacked: (n,) the same of images attacked without averaging.
        averaged: (r, n) class of each image by the average.
        averaged_attacked: (r, n) class of each attacked image by the average.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "radii": "r", "labels": "n", "predicted": "n", "predicted_attacked": "n", "averaged": "r n",
        "averaged_attacked": "r n",
    }  # fmt: skip

    radii: FloatArray = condition()
    normalised: bool = same()
    points: str = same()
    forwards: int = same()
    attack: str = same()
    attack_name: str = text("")
    adaptive: bool = same()
    labels: NDArray[np.int64] = by_image()
    predicted: NDArray[np.int64] = by_image()
    predicted_attacked: NDArray[np.int64] = by_image()
    averaged: NDArray[np.int64] = by_image(conditions=0)
    averaged_attacked: NDArray[np.int64] = by_image(conditions=0)

    # ---------------------------------------------------------------- figures
    @property
    def accuracy(self) -> float:
        """Top-1 accuracy on the images as they are, without averaging."""
        return float((self.predicted == self.labels).mean())

    @property
    def attacked_accuracy(self) -> float:
        """Top-1 accuracy on attacked images, attack and prediction without averaging."""
        return float((self.predicted_attacked == self.labels).mean())

    @property
    def fooled(self) -> NDArray[np.bool_]:
        """(n,) right as they are and wrong when attacked, without averaging."""
        return (self.predicted == self.labels) & (self.predicted_attacked != self.labels)

    def curve(self, share: str) -> FloatArray:
        """(r,) share of images that the average gets right, by radius.

        "clean": of the images as they are; "attacked": of attacked images; "recovered": of those attacked images that
        fooled the model without averaging (the paper's defence rate), NaN where there are none.

        Raises:
            ValueError: no such share.
        """
        hits, count = self._counts(share)
        return hits / count if count else np.full(len(self.radii), np.nan)

    def interval(self, share: str) -> tuple[FloatArray, FloatArray]:
        """(low, high) 95 % Wilson intervals of `curve`."""
        hits, count = self._counts(share)
        return statistics.wilson(hits, count)

    def _counts(self, share: str) -> tuple[NDArray[np.int64], int]:
        if share not in SHARES:
            raise ValueError(f"expected a share of {list(SHARES)}, got {share!r}")
        right = (self.averaged if share == "clean" else self.averaged_attacked) == self.labels
        of = self.fooled if share == "recovered" else np.ones(self.n_images, dtype=np.bool_)
        return right[:, of].sum(axis=1), int(of.sum())

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per radius: every share with its 95 % interval and the images it is taken of."""
        columns: dict[str, Any] = {"radius": self.radii}
        for share in SHARES:
            columns[share] = self.curve(share)
            columns[f"{share}_from"], columns[f"{share}_to"] = self.interval(share)
            columns[f"{share}_count"] = self._counts(share)[1]
        return tables.from_columns(columns)

    def headline(self) -> str:
        """What averaging costs on clean images and gains on attacked ones, at most."""
        clean, attacked = self.curve("clean"), self.curve("attacked")
        best = int(attacked.argmax())
        return (
            f"attacked {self.attacked_accuracy:.3f} without averaging, {attacked[best]:.3f} at R = "
            f"{self.radii[best]:g}, where clean is {clean[best]:.3f} for {self.accuracy:.3f}"
        )

    @classmethod
    def from_format_1(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> PostAveragingCurve:
        """What version 0.1 wrote."""
        names = ("labels", "predicted", "predicted_attacked", "averaged", "averaged_attacked")
        by_name: dict[str, Any] = {name: arrays[name] for name in names}
        return cls(
            **cls._of_format_1(header, arrays["image_ids"]),
            radii=np.array(header["radii"], dtype=np.float64),
            normalised=bool(header["normalised"]),
            points=header["points"],
            forwards=int(header["forwards"]),
            attack=header["attack"],
            attack_name=header["attack"],
            adaptive=bool(header["adaptive"]),
            **by_name,
        )


def post_averaging_curve(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    radii: Sequence[float],
    attack: Any,
    adaptive: bool = False,
    normalised: bool = False,
    directions: int = 15,
    sampling: Sampling = "shells",
    include_original: bool = True,
    average: Average = "probabilities",
    seed: int = 0,
    **run: Unpack[RunOptions],
) -> PostAveragingCurve:
    """Accuracy of `PostAveraging` of a model, on images and on attacked images, as the radius grows.

    By default the attack sees the model without averaging, as in the paper: a defence that the attacker does not know
    of, whose figures say nothing about one who does. With `adaptive` each average is attacked through its own
    gradient.

    Args:
        model: as for `heatmap`.
        images: as for `heatmap`.
        labels: as for `heatmap`.
        radii: R of each average, ascending.
        attack: as for `adversarial_spectrum`.
        adaptive: attack each average, with an `FGSM`, a `PGD` or an attack of foolbox.
        normalised: R in units of the input of the network inside a NormalizedModel, as in the authors' code; else in
            pixels of [0, 1].
        directions: as for `PostAveraging`.
        sampling: as for `PostAveraging`.
        include_original: as for `PostAveraging`.
        average: as for `PostAveraging`.
        seed: key of the directions.
        **run: `RunOptions`: precision, batch_size, device, shard, checkpoint, progress and more.

    Returns:
        A PostAveragingCurve: `.curve("clean")`, `.curve("attacked")`, `.curve("recovered")`, with `.interval`.

    Raises:
        ValueError: a bad argument, or an attack that returns another size, NaN, or pixels outside [0, 1].
        TypeError: an argument of the wrong type, or a model whose output holds no logits.
        FloatingPointError: logits or a gradient that are NaN or infinite.

    Source: Lin, Jiang 2019, section 5.
    """
    chosen = numbers.ascending("radii", radii, numbers.as_float)
    seed = checks.check_seed(seed)
    directions = numbers.as_int("directions", directions)
    points = [Points(radius, directions, sampling, bool(include_original), seed) for radius in chosen]
    resolved = resolve_attack(attack)
    if adaptive and not resolved.follows:
        raise TypeError(
            f"expected an FGSM, a PGD or an attack of foolbox with adaptive=True, {type(attack).__name__} holds a "
            f"model of its own; make it of a PostAveraging and measure one radius at a time"
        )
    what = _Averages(points, average, resolved, adaptive=bool(adaptive), normalised=bool(normalised))
    return measure(what, model, images, labels, run)


class _Averages(Measurement):
    """A network and its averages, on images and on attacked images."""

    result, label, gradients = PostAveragingCurve, "post-averaging", True

    def __init__(
        self, points: list[Points], average: Average, attack: AnyAttack, *, adaptive: bool, normalised: bool
    ) -> None:
        if average not in get_args(Average):
            raise ValueError(f"expected `average` of {list(get_args(Average))}, got {average!r}")
        self._points, self._attack = points, attack
        self._average: Average = average
        self._adaptive, self._normalised = adaptive, normalised

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """As in `Measurement`."""
        one = self._points[0]
        original = "" if one.include_original else ", without the original"
        points = (
            f"{one.directions} directions and their opposites, {one.sampling}{original}, mean of {self._average}, "
            f"seed {one.seed}"
        )
        return {
            "radii": np.array([each.radius for each in self._points]),
            "normalised": self._normalised,
            "points": points,
            "forwards": one.count,
            "attack": self._attack.settings,
            "attack_name": self._attack.name,
            "adaptive": self._adaptive,
        }

    def passes(self, shape: tuple[int, int, int]) -> float:
        """As in `Measurement`."""
        averages = 2 + self._attack.passes * self._adaptive
        return 2 + self._attack.passes + len(self._points) * self._points[0].count * averages

    def batch_size(self, shape: tuple[int, int, int], device: torch.device) -> int | None:
        """As in `Measurement`: a backward pass keeps all activations, which on a CPU should stay in its cache."""
        if device.type != "cpu":
            return None
        return 64 if shape[1] * shape[2] <= 128 * 128 else 8

    def attach(self, session: Session) -> None:
        """As in `Measurement`: refuse what cannot be averaged."""
        if self._normalised and session.network.mean is None:
            raise ValueError(
                "expected a NormalizedModel with normalised=True, whose network's input R is measured in; leave it "
                "out to measure R in what the model takes"
            )

    def start(self, session: Session) -> None:
        """As in `Measurement`."""
        self._averaged = [_averaged(session.network, each, self._average, self._normalised) for each in self._points]

    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        """As in `Measurement`."""
        network, forwards = session.network, self._points[0].count
        adversarial = self._attacked(session, network, chunk, 1)
        clean = session.clean(chunk).predicted[0].numpy()
        fooled = self._classes(session, network, chunk, adversarial, 1)
        averaged = [self._classes(session, each, chunk, chunk.images, forwards) for each in self._averaged]
        attacked = []
        for each in self._averaged:
            images = self._attacked(session, each, chunk, forwards) if self._adaptive else adversarial
            attacked.append(self._classes(session, each, chunk, images, forwards))
        return {
            "predicted": clean,
            "predicted_attacked": fooled,
            "averaged": np.stack(averaged),
            "averaged_attacked": np.stack(attacked),
        }

    def _attacked(self, session: Session, network: Network, chunk: Chunk, forwards: int) -> Tensor:
        """Adversarial images against a network that takes `forwards` passes."""

        def attack(part: Chunk) -> Tensor:
            found = self._attack.perturb(network, part)
            session.advance(self._attack.passes * forwards * len(part))
            return found

        return torch.cat(session.in_batches(chunk, attack))

    def _classes(
        self, session: Session, network: Network, chunk: Chunk, images: Tensor, forwards: int
    ) -> NDArray[np.int64]:
        """(n,) classes of images that stand for those of the chunk."""

        def make(part: slice, _rows: slice, _each: int) -> list[Tensor]:
            return [network.clean_batch(images[part])]

        forward: Callable[[Tensor], Tensor] = session.forward if network is session.network else network
        seen = session.outcomes(chunk, 1, make, forward=forward, describe=lambda _: "the attack or the average")
        session.advance((forwards - 1) * len(chunk))
        return seen.predicted[0].numpy()


def _averaged(network: Network, points: Points, average: Average, normalised: bool) -> Network:
    """The average of a network, which shares its weights; its points lie in pixels or in normalised input."""
    other = copy.copy(network)
    inner = network.net if normalised else InPixels(network)
    other.net = PostAveraging(inner, average=average, **dataclasses.asdict(points)).eval()
    if not normalised:
        other.take_pixels()
    return other
