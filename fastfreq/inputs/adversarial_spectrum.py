"""Which frequencies an attack adds: the mean spectrum over the images that end up misclassified."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastfreq.attacks import AnyAttack, resolve_attack
from fastfreq.engine.images import Chunk
from fastfreq.engine.measure import measure
from fastfreq.engine.run import RunOptions
from fastfreq.engine.session import Session
from fastfreq.results.folds import by_image, same, text
from fastfreq.results.identity import Identity
from fastfreq.vocabulary import checks

from .spectra import Spectrum, SpectrumMeasurement, Statistic


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class AdversarialSpectrum(Spectrum, kind="adversarial_spectrum"):
    """Mean spectrum of what an attack adds to the images that end up misclassified.

    Attributes:
        model: which model, and how it ran; None where unknown (files of version 0.1).
        labelled: "given", or "predicted" where the model's own predictions stood in for labels.
        attack: all that it says of itself.
        attack_name: its name and radius, for people.
        labels: (n,) true classes; -1 where unknown (files of version 0.1).
    """

    SHAPES: ClassVar[dict[str, str]] = {"labels": "n"}

    model: Identity | None = same()
    labelled: str = same("given")
    attack: str = same()
    attack_name: str = text("")
    labels: NDArray[np.int64] = by_image()

    @property
    def subject(self) -> str:
        """What was transformed."""
        return f"what {self.attack_name} adds"


def adversarial_spectrum(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    attack: Any,
    kind: Statistic = "magnitude",
    **run: Unpack[RunOptions],
) -> AdversarialSpectrum:
    """Mean spectrum of what an attack adds, E|F(C(X) - X)(k)|, over the images that end up misclassified.

    Every image is attacked; those that the model gets wrong afterwards enter, also if it got them wrong before.
    `count` of the result is their number, `seen` that of all.

    Args:
        model: as for `heatmap`.
        images: as for `heatmap`.
        labels: as for `heatmap`.
        attack: an `FGSM` or `PGD`; any callable of (images, labels) that returns adversarial images in [0, 1], such as
            the attack objects of torchattacks, which hold the model themselves; or a pair (attack, eps) of an attack
            object of foolbox and its radius, called as attack(model, images, labels, epsilons=eps).
        kind: "magnitude" or "power".
        **run: `RunOptions`: precision, batch_size, device, shard, checkpoint, progress and more.

    Returns:
        An AdversarialSpectrum. Where no image was fooled its `count` is 0, and asking for its map says so.

    Raises:
        ValueError: a bad argument, or an attack that returns another size, NaN, or pixels outside [0, 1].
        TypeError: an argument of the wrong type, or a model whose output holds no logits.
        FloatingPointError: logits or a gradient that are NaN or infinite.

    Source: Yin et al. 2019, Figure 7.
    """
    return measure(_Added(kind, resolve_attack(attack)), model, images, labels, run)


class _Added(SpectrumMeasurement):
    """Attacked images minus their originals."""

    result, label = AdversarialSpectrum, "attack"
    gradients = needs_labels = one_shape = True

    def __init__(self, kind: str, attack: AnyAttack) -> None:
        super().__init__(kind, None)
        self._attack = attack

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """As in `Measurement`."""
        return {"attack": self._attack.settings, "attack_name": self._attack.name, **super().settings(shape)}

    def passes(self, shape: tuple[int, int, int]) -> float:
        """As in `Measurement`."""
        return 1 + self._attack.passes

    def batch_size(self, shape: tuple[int, int, int], device: torch.device) -> int | None:
        """As in `Measurement`: a backward pass keeps all activations, which on a CPU should stay in its cache."""
        if device.type != "cpu":
            return None
        return 64 if shape[1] * shape[2] <= 128 * 128 else 8

    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        """As in `Measurement`."""
        network = session.network

        def attacked(part: Chunk) -> Tensor:
            found = self._attack.perturb(network, part)
            session.advance(self._attack.passes * len(part))
            return found

        adversarial = torch.cat(session.in_batches(chunk, attacked))

        def make(part: slice, _rows: slice, _each: int) -> list[Tensor]:
            return [network.clean_batch(adversarial[part])]

        def check(part: slice, _rows: slice, logits: Tensor) -> None:
            checks.check_classes(chunk.labels[part], logits[0])

        seen = session.outcomes(chunk, 1, make, also=check, describe=lambda _: f"the attack {self._attack.name}")
        wrong = torch.from_numpy(seen.wrong(chunk.labels)[0]).to(adversarial.device)
        return self.sums((adversarial - chunk.images)[wrong])
