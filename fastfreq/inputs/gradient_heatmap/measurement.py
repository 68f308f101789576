"""Every frequency from one backward pass per image: Fourier sensitivity, and the error it predicts."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Unpack

import fastfreq_kernels as kernels
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fastfreq.engine.images import Chunk
from fastfreq.engine.measure import measure
from fastfreq.engine.measurement import Measurement
from fastfreq.engine.run import RunOptions
from fastfreq.engine.session import Session
from fastfreq.results.folds import Outcomes
from fastfreq.vocabulary import checks, conventions, fourier, numbers
from fastfreq.vocabulary.conventions import Convention
from fastfreq.vocabulary.sums import ExactSum

from .result import GradientHeatmap

_BLOCK = 4096  # frequencies whose signs and margins are held at a time


def gradient_heatmap(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    size: int | tuple[int, int] | None = None,
    eps: float | None = None,
    margins: int = 1,
    convention: str | Convention = "yin2019",
    seed: int = 0,
    class_maps: bool = False,
    **run: Unpack[RunOptions],
) -> GradientHeatmap:
    """First-order Fourier sensitivity of a classifier at every frequency, one backward pass per image.

    With g_c the gradient of the cross entropy with respect to channel c of the pixels and G_c its unitary
    2-D FFT (taken per channel: averaging channels first lets opposite signs cancel), the result holds
    |G_c(k)|^2 averaged over images, as a map, over rings and per class.

    With `eps` given it also predicts the error at every frequency. The margins m_j = z_y - z_j of the true
    class y over its closest competitors j are linearised: a perturbation s eps U_k changes them by
    eps sum_c s_c <grad_c m_j, U_k>, all inner products coming from one FFT of the margin's gradient. The
    image counts as wrong where a margin turns negative. Signs and phase are those that `heatmap` uses.
    Clipping is ignored. `eps` costs `margins` backward passes more.

    Args:
        model: as for `heatmap`.
        images: as for `heatmap`.
        labels: as for `heatmap`.
        size: side, or (rows, columns), of the centred map; None for all frequencies.
        eps: L2 norm per channel for which the error is predicted; None predicts nothing.
        margins: competitors whose margins are linearised.
        convention: phase and signs for the prediction.
        seed: key of the random signs.
        class_maps: keep the map of every class too: classes x frequencies in thirteen float64 parts, 26 MiB for 10
            classes at 224 x 224, 2.6 GiB for 1,000.
        **run: `RunOptions`: precision ("fp32" or "bf16"), batch_size, device, shard, checkpoint, progress and more.
            `compile` is refused: compiled networks give no second gradient of one forward pass.

    Returns:
        A GradientHeatmap: `.power`, `.radial`, `.per_class`, `.class_maps`, `.predicted_error`.

    Raises:
        ValueError: a bad argument; the message says what was expected, what came and the way out.
        TypeError: an argument of the wrong type, or a model whose output holds no logits.
        FloatingPointError: logits or a gradient that are NaN or infinite.

    Source: Krishnamachari, Ng, Foo 2022, "Fourier Sensitivity and Regularization of Computer Vision Models"
        (TMLR), section 3; the prediction by margins is ours.
    """
    if run.get("precision") == "fp16":
        raise ValueError(
            "expected `precision` 'fp32' or 'bf16', got 'fp16', in which gradients of confident predictions vanish"
        )
    if run.get("compile"):
        raise ValueError("expected compile=False: gradients are taken through the network as it is, got compile=True")
    count = numbers.as_int("margins", margins)
    if count < 1:
        raise ValueError(f"expected positive `margins`, got {count}")
    what = _GradientMeasurement(
        size=size,
        eps=None if eps is None else checks.check_eps(eps),
        margins=count,
        convention=conventions.resolve(convention),
        seed=checks.check_seed(seed),
        class_maps=bool(class_maps),
    )
    return measure(what, model, images, labels, run)


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What one backward pass says of some images, on the device.

    Attributes:
        power: (n, c, bins) |G_c(k)|^2 over the half plane of a real FFT.
        wrong: (n,) whether the image is misclassified.
        predicted: (f, n) whether a linearised margin turns negative, on the host; (0, n) without `eps`.
    """

    power: Tensor
    wrong: Tensor
    predicted: NDArray[np.bool_]


class _GradientMeasurement(Measurement):
    """One backward pass for the loss of each image, and one for each of its margins."""

    result, label, gradients = GradientHeatmap, "gradient map", True

    def __init__(
        self,
        *,
        size: int | tuple[int, int] | None,
        eps: float | None,
        margins: int,
        convention: Convention,
        seed: int,
        class_maps: bool,
    ) -> None:
        self._size, self._eps, self._margins, self._seed = size, eps, margins, seed
        self._convention, self._class_maps = convention, class_maps

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """As in `Measurement`."""
        self._map_size = checks.check_size(self._size, shape[1:])
        return {
            "size": self._map_size,
            "eps": self._eps,
            "margins": self._margins,
            "convention": self._convention,
            "seed": self._seed,
            "with_class_maps": self._class_maps,
        }

    def passes(self, shape: tuple[int, int, int]) -> float:
        """As in `Measurement`."""
        return 1

    def batch_size(self, shape: tuple[int, int, int], device: torch.device) -> int | None:
        """A backward pass keeps all activations: of more images they would leave a CPU's cache."""
        if device.type != "cpu":
            return None
        return 64 if shape[1] * shape[2] <= 128 * 128 else 8

    def start(self, session: Session) -> None:
        """As in `Measurement`."""
        _, h, w = session.shape
        device = session.device
        frequencies, _ = fourier.unique_frequencies((h, w), self._map_size)
        self._frequencies = torch.from_numpy(frequencies).to(device)
        # a real FFT holds the half plane of the canonical frequencies, at (ky mod h, kx mod w)
        self._bins = (self._frequencies[:, 0] % h) * (w // 2 + 1) + self._frequencies[:, 1] % w
        half = np.stack(np.meshgrid(np.arange(h), np.arange(w // 2 + 1), indexing="ij"), axis=-1)
        self._rings = torch.from_numpy(fourier.ring(half, (h, w)).reshape(-1)).to(device)
        # cells of the half plane that stand for two of the whole plane
        both = np.where((half[..., 1] == 0) | (2 * half[..., 1] == w), 1.0, 2.0)
        self._weight = torch.from_numpy(both.reshape(-1)).to(device)
        cosine, sine = _phases(frequencies, (h, w), self._convention)
        self._cosine, self._sine = (torch.from_numpy(a).float().to(device) for a in (cosine, sine))

    # ---------------------------------------------------------------- one chunk
    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        """As in `Measurement`."""
        classes = np.unique(chunk.labels.cpu().numpy())
        parts = session.in_batches(chunk, lambda part: self._fields(session, part, classes))
        joined = {name: [part[name] for part in parts] for name in parts[0]}
        added = {name: _added(each) for name, each in joined.items() if isinstance(each[0], ExactSum)}
        wrong = np.concatenate(joined["clean_wrong"])
        predicted = Outcomes.of(np.concatenate(joined["predicted_wrong"], axis=1))
        return {"classes": classes, "clean_wrong": wrong, "predicted_wrong": predicted, **added}

    def _fields(self, session: Session, part: Chunk, classes: NDArray[np.int64]) -> dict[str, Any]:
        """Sums and outcomes of the images of one backward pass."""
        seen = self._backward(session, part)
        ours = seen.power[:, :, self._bins].double()
        total = seen.power.sum(dim=1, dtype=torch.float64)
        share = total.new_zeros(len(part), int(self._rings.max()) + 1)
        share.index_add_(1, self._rings, total * self._weight)
        # an image whose gradient vanishes entirely has no shares; its zeros keep the mean defined
        share /= share.sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        own = total[:, self._bins]
        session.advance(len(part))
        return {
            "clean_wrong": seen.wrong.cpu().numpy(),
            "predicted_wrong": seen.predicted,
            "power_sum": ExactSum.of(ours, axis=0),
            "power_squares": ExactSum.of(own.square(), axis=0),
            "ring_sum": ExactSum.stack([ExactSum.of(share, axis=0), ExactSum.of(share.square(), axis=0)]),
            "class_ring_sum": ExactSum.by_class(share, part.labels, classes),
            "class_power_sum": ExactSum.by_class(own if self._class_maps else own[:, :0], part.labels, classes),
        }

    def _backward(self, session: Session, part: Chunk) -> _Seen:
        network = session.network
        labels = part.labels.clone()  # those of a caller in inference mode cannot be saved for a backward pass
        pixels = part.images.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            logits = network(network.clean_batch(pixels)).float()
            checks.check_classes(labels, logits)
            _check_finite("logits", logits, part)
            loss = F.cross_entropy(logits, labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, pixels, retain_graph=self._eps is not None)
        _check_finite("gradients", gradient, part)
        spectrum = torch.fft.rfft2(gradient, norm="ortho")
        power = (spectrum.real.square() + spectrum.imag.square()).flatten(2)
        wrong = logits.detach().argmax(dim=1) != labels
        predicted = np.zeros((0, len(part)), np.bool_)
        if self._eps is not None:
            predicted = self._predict(pixels, logits, Chunk(part.images, labels, part.ids, part.hashes), self._eps)
        return _Seen(power, wrong, predicted)

    def _predict(self, pixels: Tensor, logits: Tensor, part: Chunk, eps: float) -> NDArray[np.bool_]:
        """(f, n) where one of the closest margins, linearised, turns negative."""
        n, f = len(part), len(self._frequencies)
        true = part.labels[:, None]
        closest = logits.detach().scatter(1, true, -math.inf).topk(min(self._margins, logits.shape[1] - 1), dim=1)
        wrong = torch.zeros(f, n, dtype=torch.bool, device=pixels.device)
        for j in range(closest.indices.shape[1]):
            with torch.enable_grad():
                margin = (logits.gather(1, true) - logits.gather(1, closest.indices[:, j : j + 1]))[:, 0]
                last = j + 1 == closest.indices.shape[1]
                (gradient,) = torch.autograd.grad(margin.sum(), pixels, retain_graph=not last)
            _check_finite("gradients", gradient, part)
            spectrum = torch.fft.rfft2(gradient, norm="ortho").flatten(2)
            for start in range(0, f, _BLOCK):
                rows = slice(start, start + _BLOCK)
                change = eps * self._inner_products(spectrum, rows, part.ids, tuple(pixels.shape[1:]))
                wrong[rows] |= margin.detach() + change < 0
        return wrong.cpu().numpy()

    def _inner_products(self, spectrum: Tensor, rows: slice, ids: Tensor, shape: tuple[int, ...]) -> Tensor:
        """(f, n) sum_c s_c <g_c, U_k>, with <g, U_k> = sqrt(2) Re(conj(G(k)) e^(i phase)); Re G(k) if k = -k."""
        c, h, w = shape
        at = spectrum[:, :, self._bins[rows]]
        inner = at.real * self._cosine[rows] + at.imag * self._sine[rows]
        how, rows_of = self._convention, self._frequencies[rows]
        signs = kernels.fourier_signs(ids, rows_of, (c, h, w), seed=self._seed, signs=how.signs, common=how.common)
        return torch.einsum("ncf,fnc->fn", inner, signs.float())


def _phases(
    frequencies: NDArray[np.int64], shape: tuple[int, int], convention: Convention
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The factors of Re G(k) and Im G(k) in <g, U_k>: sqrt(2) (cos, sin) of the phase, (1, 0) where k = -k."""
    own_twin = fourier.is_self_conjugate(frequencies, shape)
    phase = convention.phase * fourier.orientation(frequencies, shape, convention.phase_of)
    cosine = np.where(own_twin, 1.0, math.sqrt(2) * np.cos(phase))
    return cosine, np.where(own_twin, 0.0, math.sqrt(2) * np.sin(phase))


def _added(sums: list[ExactSum]) -> ExactSum:
    total = sums[0]
    for each in sums[1:]:
        total = total + each
    return total


def _check_finite(name: str, values: Tensor, part: Chunk) -> None:
    finite = torch.isfinite(values.detach()).flatten(1).all(dim=1)
    if not finite.all():
        raise FloatingPointError(
            f"expected finite {name}, got NaN or infinity for image {int(part.ids[~finite][0])}; check the weights "
            f"and images"
        )
