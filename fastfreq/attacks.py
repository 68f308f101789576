"""Gradient attacks: FGSM, PGD, and attack objects of other packages, all called in one way."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import fastfreq_kernels as kernels
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastfreq.engine.contexts import undisturbed
from fastfreq.engine.images import Chunk
from fastfreq.engine.network import Network
from fastfreq.vocabulary import checks, numbers, streams
from fastfreq.vocabulary.fingerprints import fingerprints

_TOLERANCE = 1e-6  # by which a foreign attack may leave [0, 1]: rounding of its own clip
_LARGEST = 8.0  # pixels of [0, 1] with any noise added stay below; bytes cast to floats do not

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
        object.__setattr__(self, "eps", _radius(self.eps))

    @property
    def passes(self) -> int:
        """Forward passes for each image."""
        return 1

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Adversarial images (n, c, h, w) in [0, 1]; arguments and errors as in `PGD`."""
        return _attacked(self, model, images, labels, None)

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
        object.__setattr__(self, "eps", _radius(self.eps))
        object.__setattr__(self, "steps", numbers.as_int("steps", self.steps))
        object.__setattr__(self, "seed", checks.check_seed(self.seed))
        if self.step is not None:
            object.__setattr__(self, "step", numbers.as_float("step", self.step, finite=False))
        if self.norm not in ("linf", "l2"):
            raise ValueError(f"expected `norm` of 'linf' or 'l2', got {self.norm!r}")
        if self.steps < 1:
            raise ValueError(f"expected at least one of `steps`, got {self.steps}")
        if self.step is not None and not (math.isfinite(self.step) and self.step > 0):
            raise ValueError(f"expected a positive `step`, or None for 2.5 eps / steps, got {self.step}")

    @property
    def passes(self) -> int:
        """Forward passes for each image."""
        return self.steps

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
        return _attacked(self, model, images, labels, image_ids)

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
        noise = kernels.gaussian_noise(chunk.ids, (c + more, h, w), seed=self.seed, domain=streams.domain("pgd_start"))
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

    The network may overwrite its input: it never gets the leaf of the graph, nor the caller's memory.

    Raises:
        FloatingPointError: it is NaN or infinite.
    """
    with with_gradients():
        leaf = pixels.detach().clone().requires_grad_(True)
        logits = network(network.clean_batch(leaf)).float()
        checks.check_classes(labels, logits)
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, labels.clone(), reduction="sum"), leaf)
    if not torch.isfinite(gradient).all():
        raise FloatingPointError("expected finite gradients, got NaN or infinity; check the weights and images")
    return gradient


@contextmanager
def with_gradients() -> Iterator[None]:
    """Autograd on, also inside a caller's inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


class InPixels(nn.Module):
    """A network as a module that takes pixels in [0, 1]: what attacks of other packages wrap."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.net = network.net  # so that its device and weights are found
        self._network = [network]  # in a list: no module of its own
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (n, classes), float32."""
        (network,) = self._network
        return network(network.clean_batch(pixels)).float()


def _attacked(attack: FGSM | PGD, model: nn.Module, images: Tensor, labels: Tensor, image_ids: Tensor | None) -> Tensor:
    with undisturbed(gradients=True):
        network = Network(model, precision="fp32", channels_last=True, device=None)
        return attack.perturb(network, _chunk(images, labels, image_ids, network.device))


def _chunk(images: Tensor, labels: Tensor, image_ids: Tensor | None, device: torch.device) -> Chunk:
    checks.check_images(images)
    checks.check_labels(labels, len(images))
    ids = torch.arange(len(images)) if image_ids is None else image_ids
    if ids.shape != (len(images),):
        raise ValueError(f"expected `image_ids` of shape ({len(images)},), one per image, got {tuple(ids.shape)}")
    hashes = torch.from_numpy(fingerprints(images).view(np.int64))
    return Chunk(*(t.to(device) for t in (images, labels.long(), ids.long(), hashes)))


def _radius(eps: Any) -> float:
    value = numbers.as_float("eps", eps, finite=False)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"expected a positive radius `eps` in pixels of [0, 1], such as 8 / 255, got {eps!r}")
    return value


# ---------------------------------------------------------------- attacks of other packages
@dataclasses.dataclass(frozen=True)
class AnyAttack:
    """An attack, whoever made it, called in one way.

    Attributes:
        perturb: (network, images with labels on its device) -> adversarial images (n, c, h, w) in [0, 1].
        name: class or function and radius, for people.
        settings: all that it says of itself, which tells it from others: its repr without addresses.
        passes: forward passes for each image, as far as that is known; 1 where it is not.
        follows: whether it attacks the network that it is given, and not a model that it holds.
    """

    perturb: Callable[[Network, Chunk], Tensor]
    name: str
    settings: str
    passes: int
    follows: bool


def resolve_attack(attack: Any) -> AnyAttack:
    """One way to call any attack; what comes back from those of other packages is checked.

    Args:
        attack: an `FGSM` or `PGD`, a function of (images, labels), or a pair of an attack object of foolbox and its
            radius.

    Raises:
        TypeError: nothing that can be called, or an attack like foolbox's of a package without a PyTorchModel.
        ValueError: an attack of foolbox without a radius, or another one with it.
    """
    attack, eps = attack if isinstance(attack, tuple) and len(attack) == 2 else (attack, None)
    name, eps = attack_name(attack), None if eps is None else _radius(eps)
    settings = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(attack))
    if isinstance(attack, (FGSM, PGD)) and eps is None:
        return AnyAttack(attack.perturb, name, settings, attack.passes, True)
    if not callable(attack):
        raise TypeError(f"expected an attack that can be called, got {type(attack).__name__}")
    call: Any = attack
    if is_foolbox(attack):
        if eps is None:
            raise ValueError(f"expected {name} with its radius, as attack=({name}(...), eps), got it alone")
        wrap = _foolbox(attack)

        def theirs(network: Network, images: Tensor, labels: Tensor) -> Any:
            return call(wrap(network), images, labels, epsilons=eps)[1]

        return AnyAttack(_checked(theirs), f"{name} of radius {eps:.4g}", f"{settings}, eps={eps!r}", 1, True)
    if eps is not None:
        raise ValueError(f"expected the radius inside the attack, {settings} takes none beside it; leave it out")
    return AnyAttack(_checked(lambda _network, images, labels: call(images, labels)), name, settings, 1, False)


def attack_name(attack: Any) -> str:
    """For people: class or function, norm and radius."""
    name = getattr(attack, "__name__", type(attack).__name__)
    if isinstance(attack, (FGSM, PGD)):
        return f"{f'{attack.norm} ' if isinstance(attack, PGD) else ''}{name} of radius {attack.eps:.4g}"
    return name


def _checked(attack: Callable[[Network, Tensor, Tensor], Any]) -> Callable[[Network, Chunk], Tensor]:
    """An attack of others on copies of images and labels, which are its to overwrite; what it returns is checked."""

    def perturb(network: Network, chunk: Chunk) -> Tensor:
        clean = as_pixels(chunk.images)
        with with_gradients():
            found = attack(network, clean.clone(), chunk.labels.clone())
        out = changed(found, clean, "the attack").detach()
        low, high = (float(v) for v in out.aminmax())
        if low < -_TOLERANCE or high > 1 + _TOLERANCE:
            raise ValueError(
                f"expected an attack that stays in [0, 1], it returned pixels from {low:.4g} to {high:.4g}; was it "
                f"given normalised images, or a model without its normalisation?"
            )
        return out.clamp(0, 1)

    return perturb


def is_foolbox(attack: Any) -> bool:
    """Whether it is called as foolbox's attacks are: (model, inputs, criterion, *, epsilons)."""
    try:
        parameters = inspect.signature(attack).parameters
    except (TypeError, ValueError):
        return False
    return "epsilons" in parameters and list(parameters)[:1] == ["model"]


def _foolbox(attack: Any) -> Callable[[Network], Any]:
    """What wraps a network for an attack of foolbox; it is the copy that is evaluated, not the user's model."""
    homes = (importlib.import_module(each.__module__.partition(".")[0]) for each in type(attack).__mro__)
    wrap = next((home.PyTorchModel for home in homes if hasattr(home, "PyTorchModel")), None)
    if wrap is None:
        raise TypeError(
            f"expected an attack of foolbox, {type(attack).__name__} is called like one but its package has no "
            f"PyTorchModel; wrap it as a function of (images, labels)"
        )
    takes_device = "device" in inspect.signature(wrap).parameters  # by default it moves a model to a GPU

    def wrapped(network: Network) -> Any:
        return wrap(InPixels(network), bounds=(0, 1), **({"device": network.device} if takes_device else {}))

    return wrapped


# ---------------------------------------------------------------- images that others changed
def as_pixels(images: Tensor) -> Tensor:
    """Pixels in [0, 1] as floats."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def changed(output: Any, pixels: Tensor, what: str) -> Tensor:
    """What a corruption or attack made of `pixels`, checked: the same shape, finite, in units of [0, 1].

    Raises:
        ValueError: anything else.
    """
    out = torch.as_tensor(output)
    if out.shape != pixels.shape:
        raise ValueError(
            f"expected {what} to return images of shape {tuple(pixels.shape)}, got {tuple(out.shape)}; "
            f"a difference needs the same images at the same size"
        )
    out = as_pixels(out.to(pixels.device))
    if not torch.isfinite(out).all():
        raise ValueError(f"expected {what} to return finite pixels, got NaN or infinity")
    if out.numel() and float(out.abs().max()) > _LARGEST:
        raise ValueError(
            f"expected {what} to return pixels in units of [0, 1], got values up to {float(out.abs().max()):.4g}; "
            f"divide by 255, or return uint8"
        )
    return out
