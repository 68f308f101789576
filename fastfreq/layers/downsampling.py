"""Where a network can be down-sampled: the frequencies that layers' outputs hold, and what it does to accuracy."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastfreq.engine.contexts import fitting, undisturbed, warn_if_unsteady
from fastfreq.engine.copies import private_copy
from fastfreq.engine.model_checks import check_eval, logits_of
from fastfreq.engine.network import network_name
from fastfreq.engine.wrappers import plain
from fastfreq.vocabulary import checks

from ._coarse import CoarseConv, PlainConv, coarse_model, interpolated, interpolation, multiply_adds
from .discovery import find_convolutions
from .downsampling_result import Downsampling, LayerDownsampling
from .symbols import BatchNorm, Convolution


def downsampling(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    energy: float = 0.99,
    strides: Sequence[int] = (2, 3, 4),
    layers: Sequence[str] | None = None,
    batch_size: int = 32,
    rounds: int = 5,
) -> Downsampling:
    """The coarsest grid on which each layer loses at most a stated share of its energy, and what applying it does.

    A convolution whose output y has no frequency beyond half a cycle per s pixels is known from every s-th pixel: with
    s times its stride it costs 1 / s^d, and interpolation gives back the rest. For each layer and each stride s the
    loss is sum ||y - U y[::s]||^2 / sum ||y - mean||^2 over images, with U the trigonometric interpolation, the mean
    that of each channel and channels weighted by the square of the batch norm's scale gamma / sqrt(var + eps) that
    follows. The largest s with a loss of at most 1 - energy is suggested, and applied where it saves multiplications,
    interpolation counted. Layers after it see the grid they always saw. All strides that pay are then applied at once:
    the accuracy is measured on the same images before and after, the time in turn. Labels have no part in the choice.

    Args:
        model: in evaluation mode; returns logits. It is not changed.
        images: (n, c, ...) as the model takes them.
        labels: (n,) classes.
        energy: share of a layer's output energy to be kept, above 0 and below 1.
        strides: to try, each at least 2.
        layers: names of the layers to do; None for all plain convolutions.
        batch_size: images per forward pass, in measuring time too.
        rounds: forward passes of one batch by which time is measured.

    Raises:
        ValueError: a bad argument, a model in train mode or without plain convolutions that its pass reaches.

    Source: Wen and Jacot 2024, Definition 5.1 and the remark after it, for why frequencies that are not kept allow
        down-sampling; loss, choice and the network that results are ours.
    """
    model = plain(model)
    _check(model, images, labels, energy, strides, batch_size, rounds)
    name = network_name(model)
    with undisturbed(
        gradients=True
    ):  # hooks, modes and precision of the user's stay, whatever other threads do with it
        dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
        model, images = private_copy(model).to(dtype), images.to(dtype)
        few = [logits_of(model(images[:2].clone())) for _ in range(2)]
        warn_if_unsteady(name, *few, stacklevel=3)
        batch_size = fitting(lambda size: model(images[:size].clone()), min(batch_size, len(images)))
        found, skipped = _plain_layers(model, tuple(images.shape[1:]), layers)
        outputs = {n: _Output(layer, norm, sorted({int(s) for s in strides})) for n, (layer, norm) in found.items()}
        with contextlib.ExitStack() as stack:
            for n, (layer, _) in found.items():
                stack.callback(layer.register_forward_hook(outputs[n].see).remove)
            correct = _correct(model, images, labels, batch_size)
        chosen = {n: output.result(energy) for n, output in outputs.items() if output.images}
        if not chosen:
            raise ValueError("expected plain convolutions that the forward pass reaches, found none")
        sizes = {n: layer.size for n, layer in chosen.items()}
        applied = {n: layer.stride for n, layer in chosen.items() if layer.stride > 1 and layer.pays}
        coarse = coarse_model(model, sizes, applied)
        return Downsampling(
            details={"model": name, "torch": str(torch.__version__)},
            model=name,
            input_size=tuple(images.shape[1:]),
            energy=float(energy),
            layers=chosen,
            correct=correct,
            coarse_correct=_correct(coarse, images, labels, batch_size),
            seconds=_seconds(model, coarse, images[:batch_size], rounds),
            batch=len(images[:batch_size]),
            skipped=tuple(skipped),
        )


def downsampled(model: nn.Module, suggestion: Downsampling) -> nn.Module:
    """A copy of the model with the strides of `suggestion` applied, for images of the size that it was measured with.

    Raises:
        ValueError: a model without one of the layers.
    """
    modules = dict(model.named_modules())
    missing = [name for name in suggestion.strides if not isinstance(modules.get(name), PlainConv)]
    if missing:
        raise ValueError(f"expected the model that the suggestion was made for, this one has no convolution {missing}")
    return coarse_model(model, {n: layer.size for n, layer in suggestion.layers.items()}, suggestion.strides)


def _check(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    energy: float,
    strides: Sequence[int],
    batch_size: int,
    rounds: int,
) -> None:
    check_eval(model)
    if not len(images) or not images.dtype.is_floating_point or not torch.isfinite(images).all():
        raise ValueError(f"expected `images` of finite floats, at least one, got {tuple(images.shape)}, {images.dtype}")
    checks.check_labels(labels, len(images))
    if not 0 < energy < 1:
        raise ValueError(f"expected `energy` above 0 and below 1, the share to be kept, got {energy}")
    if not strides or any(int(s) != s or s < 2 for s in strides):
        raise ValueError(f"expected `strides` of integers of at least 2, got {list(strides)}")
    if batch_size < 1 or rounds < 1:
        raise ValueError(f"expected `batch_size` and `rounds` of at least 1, got {batch_size} and {rounds}")


def _plain_layers(
    model: nn.Module, input_size: tuple[int, ...], names: Sequence[str] | None
) -> tuple[dict[str, tuple[PlainConv, nn.Module | None]], list[tuple[str, str]]]:
    """Convolutions that a stride can be given to, with the batch norm after them; the others with the reason."""
    modules = dict(model.named_modules())
    found, skipped = find_convolutions(model, input_size)
    plain: dict[str, tuple[PlainConv, nn.Module | None]] = {}
    left = [(name, reason) for name, _, reason in skipped if isinstance(modules[name], Convolution)]
    for layer in found:
        module = modules[layer.name]
        if module is not layer.module or not isinstance(module, PlainConv):
            left.append((layer.name, "a transposed convolution, or a class with a forward of its own"))
            continue
        try:
            CoarseConv(module, (), 2)
        except ValueError as error:
            left.append((layer.name, str(error)))
            continue
        plain[layer.name] = (module, layer.batch_norm)
    missing = [name for name in names or [] if name not in plain]
    if missing:
        raise ValueError(f"expected `layers` among the plain convolutions {list(plain)}, got {missing}")
    return {name: plain[name] for name in (plain if names is None else names)}, left


class _Output:
    """Power of a layer's output by frequency, and what each stride loses of it."""

    def __init__(self, layer: PlainConv, norm: nn.Module | None, strides: list[int]) -> None:
        self.layer, self.strides = layer, strides
        self.weights = torch.ones(layer.out_channels, dtype=torch.float64, device=layer.weight.device)
        if isinstance(norm, BatchNorm) and norm.running_var is not None:
            gamma = 1.0 if norm.weight is None else norm.weight.detach().double().square()
            self.weights = gamma / (norm.running_var.double() + norm.eps)
        self.size: tuple[int, ...] = ()
        self.images = 0
        self.power: Tensor = torch.zeros(())
        self.sums = torch.zeros_like(self.weights)
        self.lost = dict.fromkeys(strides, 0.0)

    def see(self, _module: nn.Module, _inputs: object, y: Tensor) -> None:
        size = tuple(y.shape[2:])
        if self.images and size != self.size:
            raise ValueError(f"expected outputs of {self.size} each time a layer is called, got {size}")
        self.size = size
        self.images += len(y)
        y = y.detach().double()
        axes = tuple(range(2, y.ndim))
        spectrum = torch.fft.fftn(y, dim=axes, norm="ortho")
        power = (spectrum.real.square() + spectrum.imag.square()).sum(dim=0)
        self.power = self.power + torch.tensordot(self.weights, power, dims=1)
        self.sums += y.sum(dim=(0, *axes))
        for stride in self.strides:
            if max(size) < stride:
                continue
            matrices = [torch.from_numpy(interpolation(n, stride)).to(y) for n in size]
            samples = y[(..., *[slice(None, None, stride)] * len(size))]
            gap = (y - interpolated(samples, matrices)).square().sum(dim=(0, *axes))
            self.lost[stride] += float(gap @ self.weights)

    def result(self, energy: float) -> LayerDownsampling:
        power = self.power.cpu().numpy().copy()
        power[(0,) * power.ndim] -= float(self.weights @ self.sums.square()) / (self.images * math.prod(self.size))
        power = np.maximum(power, 0)
        total = float(power.sum())
        tried = [s for s in self.strides if max(self.size) >= s]
        losses = {s: self.lost[s] / total if total > 0 else 0.0 for s in tried}
        stride = max([s for s in tried if losses[s] <= 1 - energy], default=1)
        return LayerDownsampling(
            size=self.size,
            crop=smallest_grid(power, energy),
            losses=losses,
            stride=stride,
            multiply_adds=multiply_adds(self.layer, self.size),
            coarse_multiply_adds=multiply_adds(self.layer, self.size, stride),
        )


def smallest_grid(power: NDArray[np.float64], energy: float) -> tuple[int, ...]:
    """Smallest grid of the proportions of `power` (*size), unshifted, whose frequencies hold a share of it.

    m pixels hold the frequencies up to (m - 1) / 2.
    """
    size, longest = power.shape, max(power.shape)
    radius = [np.minimum(np.arange(n), n - np.arange(n)) for n in size]
    for side in range(1, longest):
        grid = tuple(-(-side * n // longest) for n in size)
        inside = power[np.ix_(*(r <= (m - 1) // 2 for r, m in zip(radius, grid, strict=True)))]
        if inside.sum() >= energy * power.sum():
            return grid
    return size


def _correct(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> NDArray[np.bool_]:
    parts = []
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            logits = logits_of(model(images[part].clone()))
            checks.check_classes(labels[part], logits)
            if not torch.isfinite(logits).all():
                raise FloatingPointError(f"expected finite logits, got NaN or infinity in images from {start}")
            parts.append(logits.argmax(dim=1).cpu() == labels[part].cpu())
    return torch.cat(parts).numpy()


def _seconds(model: nn.Module, coarse: nn.Module, batch: Tensor, rounds: int) -> NDArray[np.float64]:
    """(rounds, 2) of a forward pass, in turn; one of each to warm up."""
    times = np.zeros((rounds + 1, 2))
    with torch.no_grad():
        for row in times:
            for column, net in enumerate((model, coarse)):
                start = time.perf_counter()
                net(batch.clone())
                if batch.is_cuda:
                    torch.cuda.synchronize(batch.device)
                row[column] = time.perf_counter() - start
    return times[1:]
