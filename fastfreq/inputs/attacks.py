"""Gradient attacks and the spectra of what they add: FGSM, PGD, and attack objects of other packages."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
from collections.abc import Callable
from typing import Any, Literal

import fastfreq_kernels as kernels
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from fastfreq.core.image_spectra import Kind, SpectrumResult
from fastfreq.vocabulary import checks

from ._network import Network, fingerprint
from ._stream import Chunk, ImageStream
from .spectra import SpectrumSums, as_pixels, changed

_TOLERANCE = 1e-6  # by which a foreign attack may leave [0, 1]: rounding of its own clip

Norm = Literal["linf", "l2"]


@dataclasses.dataclass(frozen=True)
class FGSM:
    """The fast gradient sign method: x' = clip(x + eps sign(grad_x L)), L the cross entropy of the true class.

    Attributes:
        eps: largest change of a pixel, in units of [0, 1].

    Source: Goodfellow, Shlens, Szegedy 2015, section 4.
    """

    eps: float

    def __post_init__(self) -> None:
        _check_radius(self.eps)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Adversarial images (n, c, h, w) in [0, 1]; arguments and errors as in `PGD`."""
        network = _network(model)
        return self.perturb(network, _chunk(images, labels, None, network.device))

    def perturb(self, network: Network, chunk: Chunk) -> Tensor:
        """The attack on images that are on the network's device."""
        clean = as_pixels(chunk.images)
        return (clean + self.eps * loss_gradient(network, clean, chunk.labels).sign()).clamp(0, 1)


@dataclasses.dataclass(frozen=True)
class PGD:
    """Projected gradient descent on the negative loss: steps of steepest ascent, each projected back into the ball.

    L-inf: x <- P(x + step sign(g)); L2: x <- P(x + step g / ||g||_2), g the gradient of the cross entropy of the true
    class, norms over all channels of an image. P brings x - x_0 into the ball of radius eps, then x into [0, 1].

    Attributes:
        eps: radius of the ball, in pixels of [0, 1].
        norm: "linf" or "l2".
        steps: gradient steps.
        step: length of one; None for 2.5 eps / steps, with which the boundary is reached from any point of the ball.
        random_start: start from a point uniform in the ball instead of from the image. It belongs to (seed, image,
            channel, pixel): no batch size or order changes it.
        seed: key of the random starts.

    Source: Madry, Makelov, Schmidt, Tsipras, Vladu 2018, section 2.1.
    """

    eps: float
    norm: Norm = "linf"
    steps: int = 10
    step: float | None = None
    random_start: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        _check_radius(self.eps)
        if self.norm not in ("linf", "l2"):
            raise ValueError(f"expected `norm` of 'linf' or 'l2', got {self.norm!r}")
        if self.steps < 1:
            raise ValueError(f"expected at least one of `steps`, got {self.steps}")
        if self.step is not None and not (math.isfinite(self.step) and self.step > 0):
            raise ValueError(f"expected a positive `step`, or None for 2.5 eps / steps, got {self.step}")

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, *, image_ids: Tensor | None = None) -> Tensor:
        """Adversarial images (n, c, h, w) in [0, 1], where the model is.

        Args:
            model: maps images in [0, 1] to logits, in evaluation mode; it is not changed.
            images: (n, c, h, w), float in [0, 1] or uint8.
            labels: (n,) true classes.
            image_ids: (n,) int64, what identifies each image to the random starts; None for 0 .. n - 1.

        Raises:
            ValueError: a bad argument.
            TypeError: an argument of the wrong type, or a model whose output holds no logits.
            FloatingPointError: a gradient that is NaN or infinite.
        """
        network = _network(model)
        return self.perturb(network, _chunk(images, labels, image_ids, network.device))

    def perturb(self, network: Network, chunk: Chunk) -> Tensor:
        """The attack on images that are on the network's device."""
        clean = as_pixels(chunk.images)
        length = 2.5 * self.eps / self.steps if self.step is None else self.step
        x = (clean + self._start(chunk)).clamp(0, 1) if self.random_start else clean
        for _ in range(self.steps):
            gradient = loss_gradient(network, x, chunk.labels)
            x = (clean + self._project(x + length * self._direction(gradient) - clean)).clamp(0, 1)
        return x

    def _direction(self, gradient: Tensor) -> Tensor:
        return gradient.sign() if self.norm == "linf" else gradient / _length(gradient)

    def _project(self, change: Tensor) -> Tensor:
        if self.norm == "linf":
            return change.clamp(-self.eps, self.eps)
        return change * (self.eps / _length(change)).clamp_max(1)

    def _start(self, chunk: Chunk) -> Tensor:
        """Uniform in the ball: eps erf(z / sqrt 2) of a normal z per pixel, or a point of the sphere two dimensions up.

        Source of the latter: Barthe, Guedon, Mendelson, Naor 2005, corollary 4.
        """
        n, c, h, w = chunk.images.shape
        more = 0 if self.norm == "linf" else 2
        noise = kernels.gaussian_noise(chunk.ids, (c + more, h, w), seed=self.seed)
        if self.norm == "linf":
            return self.eps * torch.erf(noise / math.sqrt(2))
        inside, outside = noise[:, :c], noise[:, c:, 0, 0]
        squares = inside.square().sum(dim=(1, 2, 3)) + outside.square().sum(dim=1)
        return self.eps * inside / squares.sqrt()[:, None, None, None]


def _length(images: Tensor) -> Tensor:
    """(n, 1, 1, 1) L2 norm of each image, not 0."""
    return images.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]


def loss_gradient(network: Network, pixels: Tensor, labels: Tensor) -> Tensor:
    """The gradient (n, c, h, w) of each image's cross entropy.

    Raises:
        FloatingPointError: it is NaN or infinite.
    """
    pixels = pixels.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = network(network.clean_batch(pixels)).float()
        checks.check_classes(labels, logits)
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), pixels)
    if not torch.isfinite(gradient).all():
        raise FloatingPointError("expected finite gradients, got NaN or infinity; check the weights and images")
    return gradient


def adversarial_spectrum(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    attack: Any,
    eps: float | None = None,
    kind: Kind = "magnitude",
    batch_size: int | None = None,
    channels_last: bool = True,
    device: torch.device | str | None = None,
    first_image: int = 0,
    shard: tuple[int, int] = (0, 1),
    progress: bool = False,
) -> SpectrumResult:
    """Mean spectrum of what an attack adds, E|F(C(X) - X)(k)|, over the images that end up misclassified.

    Every image is attacked; those that the model gets wrong afterwards enter, also if it got them wrong before.
    `count` of the result is their number, `seen` that of all.

    Args:
        model: maps images in [0, 1] to logits, in evaluation mode; it is not changed.
        images: (n, c, h, w) tensor or array, float in [0, 1] or uint8; or an iterable of (images, labels) batches.
        labels: (n,) true classes with tensors; None with an iterable.
        attack: an `FGSM` or `PGD`; any callable of (images, labels) that returns adversarial images in [0, 1], such as
            the attack objects of torchattacks, which hold the model themselves; or an attack object of foolbox, called
            as attack(model, images, labels, epsilons=eps).
        eps: radius for an attack object of foolbox; the others hold theirs.
        kind: "magnitude" or "power".
        batch_size: images attacked at once; None for 64, or 8 of more than 128 x 128 pixels.
        channels_last: lay out convolutional networks channels last.
        device: where to run; None for where the model is.
        first_image: id of the first image, for shards that are split by hand.
        shard: (i, n) attacks the images whose id is i modulo n; results of all shards merge with ``+``.
        progress: show a progress bar.

    Returns:
        A SpectrumResult. Where no image was fooled its `count` is 0, and asking for its map says so.

    Raises:
        ValueError: a bad argument, or an attack that returns another size, NaN, or pixels outside [0, 1].
        TypeError: an argument of the wrong type, or a model whose output holds no logits.
        FloatingPointError: a gradient that is NaN or infinite.

    Source: Yin et al. 2019, Figure 7.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"expected a positive `batch_size`, got {batch_size}")
    network = _network(model, channels_last=channels_last, device=device)
    run = resolve_attack(attack, model, eps)
    stream = ImageStream(images, labels, first_image=first_image, shard=shard, skip=frozenset())
    first = stream.peek(1)
    if first is None:
        raise ValueError("expected at least one image, got none")
    each = batch_size or (64 if first.images[0, 0].numel() <= 128 * 128 else 8)
    sums, seen = SpectrumSums(kind, f"what {attack_name(attack, eps)} adds", None), 0
    with tqdm(total=stream.total, unit="img", desc="attack", disable=not progress) as bar:
        for chunk in stream.chunks(each):
            here = Chunk(*(t.to(network.device) for t in chunk))
            clean = as_pixels(here.images)
            adversarial = run(network, here)
            with torch.no_grad():
                logits = network(network.clean_batch(adversarial))
            checks.check_classes(here.labels, logits)
            wrong = logits.argmax(dim=1) != here.labels
            sums.add((adversarial - clean)[wrong])
            seen += len(wrong)
            bar.update(len(wrong))
    details = {
        "attack": getattr(attack, "__name__", str(attack)),
        "model": network.name,
        "model_fingerprint": fingerprint(model),
    }
    return sums.result(seen=seen, details=details)


def _network(model: nn.Module, *, channels_last: bool = True, device: torch.device | str | None = None) -> Network:
    network = Network(
        model, precision="fp32", channels_last=channels_last, device=None if device is None else torch.device(device)
    )
    network.net.eval()
    return network


def _chunk(images: Tensor, labels: Tensor, image_ids: Tensor | None, device: torch.device) -> Chunk:
    checks.check_images(images)
    checks.check_labels(labels, len(images))
    ids = torch.arange(len(images)) if image_ids is None else image_ids
    if ids.shape != (len(images),):
        raise ValueError(f"expected `image_ids` of shape ({len(images)},), one per image, got {tuple(ids.shape)}")
    return Chunk(images.to(device), labels.long().to(device), ids.to(device))


def _check_radius(eps: float) -> None:
    if not (isinstance(eps, (int, float)) and math.isfinite(eps) and eps > 0):
        raise ValueError(f"expected a positive radius `eps` in pixels of [0, 1], such as 8 / 255, got {eps!r}")


def resolve_attack(attack: Any, model: nn.Module, eps: float | None) -> Callable[[Network, Chunk], Tensor]:
    """One way to call any attack: (network, images with labels) -> adversarial images, checked."""
    if isinstance(attack, (FGSM, PGD)):
        if eps is not None:
            raise ValueError(f"expected `eps` inside the attack, {attack} has its own; leave `eps` out")
        return attack.perturb
    if not callable(attack):
        raise TypeError(f"expected an attack that can be called, got {type(attack).__name__}")
    foreign = _foolbox(attack, model, eps) if is_foolbox(attack) else attack
    if foreign is attack and eps is not None:
        raise ValueError(f"expected `eps` inside the attack, {type(attack).__name__} takes none; leave `eps` out")

    def run(_network: Network, chunk: Chunk) -> Tensor:
        clean = as_pixels(chunk.images)
        out = changed(foreign(clean.clone(), chunk.labels), clean, "the attack").detach()
        low, high = (float(v) for v in out.aminmax())
        if low < -_TOLERANCE or high > 1 + _TOLERANCE:
            raise ValueError(
                f"expected an attack that stays in [0, 1], it returned pixels from {low:.4g} to {high:.4g}; was it "
                f"given normalised images, or a model without its normalisation?"
            )
        return out.clamp(0, 1)

    return run


def attack_name(attack: Any, eps: float | None) -> str:
    """For people, and to tell results of different attacks apart: class or function and radius, no address."""
    name = getattr(attack, "__name__", type(attack).__name__)
    if isinstance(attack, (FGSM, PGD)):
        name, eps = (f"{attack.norm} {name}" if isinstance(attack, PGD) else name), attack.eps
    return name if eps is None else f"{name} of radius {eps:.4g}"


def is_foolbox(attack: Any) -> bool:
    """Whether it is called as foolbox's attacks are: (model, inputs, criterion, *, epsilons)."""
    try:
        parameters = inspect.signature(attack).parameters
    except (TypeError, ValueError):
        return False
    return "epsilons" in parameters and list(parameters)[:1] == ["model"]


def _foolbox(attack: Any, model: nn.Module, eps: float | None) -> Callable[[Tensor, Tensor], Tensor]:
    if eps is None:
        raise ValueError(f"expected `eps` for {type(attack).__name__}, which is called with its radius, got None")
    homes = (importlib.import_module(each.__module__.partition(".")[0]) for each in type(attack).__mro__)
    wrap = next((home.PyTorchModel for home in homes if hasattr(home, "PyTorchModel")), None)
    if wrap is None:
        raise TypeError(
            f"expected an attack of foolbox, {type(attack).__name__} is called like one but its package has no "
            f"PyTorchModel; wrap it as a function of (images, labels)"
        )
    wrapped = wrap(model, bounds=(0, 1))
    return lambda images, labels: attack(wrapped, images, labels, epsilons=eps)[1]
