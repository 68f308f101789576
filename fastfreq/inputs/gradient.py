"""Every frequency from one backward pass per image: Fourier sensitivity, and the error it predicts."""

from __future__ import annotations

import math
from typing import Any

import fastfreq_kernels as kernels
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from fastfreq.core.sensitivity import SensitivityResult
from fastfreq.vocabulary import checks, conventions, fourier
from fastfreq.vocabulary.conventions import Convention

from ._network import Network, fingerprint
from ._stream import Chunk, ImageStream

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
    channels_last: bool = True,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    first_image: int = 0,
    shard: tuple[int, int] = (0, 1),
    progress: bool = False,
) -> SensitivityResult:
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
        class_maps: keep the map of every class too: classes x frequencies in float64, 2 MiB for 10 classes at
            224 x 224, 200 MiB for 1,000.
        channels_last: lay out convolutional networks channels last.
        batch_size: images in one pass; None for 64, or 8 of more than 128 x 128 pixels, whose activations would leave
            a CPU's cache.
        device: where to run; None for where the model is.
        first_image: id of the first image.
        shard: (i, n) takes the images whose id is i modulo n.
        progress: show a progress bar.

    Returns:
        A SensitivityResult: `.power`, `.radial`, `.per_class`, `.class_maps`, `.predicted_error`.

    Raises:
        ValueError: a bad argument.
        TypeError: an argument of the wrong type, or a model whose output holds no logits.
        FloatingPointError: a gradient that is NaN or infinite.

    Source: Krishnamachari, Ng, Foo 2022, "Fourier Sensitivity and Regularization of Computer Vision Models"
        (TMLR), section 3; the prediction by margins is ours.
    """
    if eps is not None:
        eps = checks.check_eps(eps)
    if margins < 1 or (batch_size is not None and batch_size < 1):
        raise ValueError(f"expected positive `margins` and `batch_size`, got {margins} and {batch_size}")
    chosen = conventions.resolve(convention)
    network = Network(
        model, precision="fp32", channels_last=channels_last, device=None if device is None else torch.device(device)
    )
    details = {"model": network.name, "model_fingerprint": fingerprint(model), "torch": torch.__version__}
    stream = ImageStream(images, labels, first_image=first_image, shard=shard, skip=frozenset())
    first = stream.peek(1)
    if first is None:
        raise ValueError("expected at least one image, got none")
    shape = (int(first.images.shape[1]), int(first.images.shape[2]), int(first.images.shape[3]))
    map_size = checks.check_size(size, shape[1:])

    network.net.eval()
    sums = _Sums(shape, map_size, network.device, class_maps)
    with tqdm(total=stream.total, unit="img", desc="gradient map", disable=not progress) as bar:
        for chunk in stream.chunks(batch_size or (64 if shape[1] * shape[2] <= 128 * 128 else 8)):
            here = Chunk(*(t.to(network.device) for t in chunk))
            sums.add(network, here, eps, margins, chosen, seed)
            bar.update(len(chunk.ids))
    return sums.result(shape, map_size, eps, chosen, seed, details)


class _Sums:
    """Running sums over images, on the device."""

    def __init__(
        self, shape: tuple[int, int, int], size: tuple[int, int], device: torch.device, class_maps: bool
    ) -> None:
        c, h, w = shape
        frequencies, _ = fourier.unique_frequencies((h, w), size)
        self.frequencies = torch.from_numpy(frequencies).to(device)
        # a real FFT holds the half plane of the canonical frequencies, at (ky mod h, kx mod w)
        self.rows, self.columns = self.frequencies[:, 0] % h, self.frequencies[:, 1] % w
        self.flat = self.rows * (w // 2 + 1) + self.columns
        half = np.stack(np.meshgrid(np.arange(h), np.arange(w // 2 + 1), indexing="ij"), axis=-1)
        rings = fourier.ring(half, (h, w))
        # cells of the half plane that stand for two of the whole plane
        both = np.where((half[..., 1] == 0) | (2 * half[..., 1] == w), 1.0, 2.0)
        self.rings = torch.from_numpy(rings.reshape(-1)).to(device)
        self.weight = torch.from_numpy(both.reshape(-1)).to(device)
        self.number_of_rings = int(rings.max()) + 1
        own_twin = torch.from_numpy(fourier.is_self_conjugate(frequencies, (h, w))).to(device)
        self.own_twin = own_twin
        f = len(frequencies)
        self.count = 0
        zeros = {"dtype": torch.float64, "device": device}
        self.power = torch.zeros(c, h * (w // 2 + 1), **zeros)  # of the half plane: the map's part is taken at the end
        self.squares = torch.zeros(h * (w // 2 + 1), **zeros)
        self.ring = torch.zeros(self.number_of_rings, 2, **zeros)
        self.class_power = torch.zeros(0, self.number_of_rings, **zeros)
        self.class_count = torch.zeros(0, dtype=torch.int64, device=device)
        self.class_maps = torch.zeros(0, f, **zeros) if class_maps else None
        self.predicted = torch.zeros(f, dtype=torch.int64, device=device)
        self.clean_wrong = torch.zeros((), dtype=torch.int64, device=device)

    def add(
        self, network: Network, chunk: Chunk, eps: float | None, margins: int, convention: Convention, seed: int
    ) -> None:
        pixels = chunk.images.float() / 255 if chunk.images.dtype == torch.uint8 else chunk.images.float()
        pixels = pixels.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            logits = network(network.clean_batch(pixels)).float()
            checks.check_classes(chunk.labels, logits)
            loss = F.cross_entropy(logits, chunk.labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, pixels, retain_graph=eps is not None)
        if not torch.isfinite(gradient).all():
            raise FloatingPointError("expected finite gradients, got NaN or infinity; check the weights and images")
        self.count += len(pixels)
        self.clean_wrong += (logits.argmax(dim=1) != chunk.labels).sum()
        self._add_power(gradient, chunk.labels, logits.shape[1])
        if eps is not None:
            self._add_prediction(pixels, logits, chunk, eps, margins, convention, seed)

    def _add_power(self, gradient: Tensor, labels: Tensor, classes: int) -> None:
        n, c = gradient.shape[:2]
        spectrum = torch.fft.rfft2(gradient, norm="ortho")
        power = (spectrum.real.square() + spectrum.imag.square()).view(n, c, -1)
        self.power += power.sum(dim=0, dtype=torch.float64)
        total = power.sum(dim=1).double()
        self.squares += total.square().sum(dim=0)
        share = total.new_zeros(n, self.number_of_rings)
        share.scatter_add_(1, self.rings.expand(n, -1), total * self.weight)
        # an image whose gradient vanishes entirely has no shares; its zeros keep the mean defined
        share /= share.sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        self.ring += torch.stack([share.sum(dim=0), share.square().sum(dim=0)], dim=1)
        if len(self.class_count) < classes:
            more = classes - len(self.class_count)
            self.class_power = F.pad(self.class_power, (0, 0, 0, more))
            self.class_count = F.pad(self.class_count, (0, more))
            if self.class_maps is not None:
                self.class_maps = F.pad(self.class_maps, (0, 0, 0, more))
        self.class_power.index_add_(0, labels, share)
        self.class_count.index_add_(0, labels, torch.ones_like(labels))
        if self.class_maps is not None:
            self.class_maps.index_add_(0, labels, total[:, self.flat])

    def _add_prediction(
        self, pixels: Tensor, logits: Tensor, chunk: Chunk, eps: float, margins: int, convention: Convention, seed: int
    ) -> None:
        n, c, h, w = pixels.shape
        true = logits.gather(1, chunk.labels[:, None])
        others = logits.detach().scatter(1, chunk.labels[:, None], -math.inf)
        closest = others.topk(min(margins, logits.shape[1] - 1), dim=1).indices
        wrong = torch.zeros(len(self.frequencies), n, dtype=torch.bool, device=pixels.device)
        for j in range(closest.shape[1]):
            with torch.enable_grad():
                margin = (true - logits.gather(1, closest[:, j : j + 1]))[:, 0]
                last = j + 1 == closest.shape[1]
                (gradient,) = torch.autograd.grad(margin.sum(), pixels, retain_graph=not last)
            spectrum = torch.fft.rfft2(gradient, norm="ortho")
            for start in range(0, len(self.frequencies), _BLOCK):
                part = slice(start, start + _BLOCK)
                at = spectrum[:, :, self.rows[part], self.columns[part]]
                # <g, U_k> = sqrt(2) Re(conj(G(k)) e^(i phase)); at self-conjugate k G is real and U has phase 0
                turned = math.sqrt(2) * (at.real * math.cos(convention.phase) + at.imag * math.sin(convention.phase))
                inner = torch.where(self.own_twin[part], at.real, turned)
                signs = kernels.fourier_signs(
                    chunk.ids, self.frequencies[part], (c, h, w), seed=seed, signs=convention.signs
                )
                change = eps * torch.einsum("ncf,fnc->fn", inner, signs.float())
                wrong[part] |= margin.detach() + change < 0
        self.predicted += wrong.sum(dim=1)

    def result(
        self,
        shape: tuple[int, int, int],
        size: tuple[int, int],
        eps: float | None,
        convention: Convention,
        seed: int,
        details: dict[str, str],
    ) -> SensitivityResult:
        return SensitivityResult(
            shape=shape,
            size=size,
            count=self.count,
            power_sum=self.power[:, self.flat].T.cpu().numpy(),
            power_squares=self.squares[self.flat].cpu().numpy(),
            ring_sum=self.ring.cpu().numpy(),
            class_power=self.class_power.cpu().numpy(),
            class_count=self.class_count.cpu().numpy(),
            class_map_sum=np.zeros((0, len(self.flat))) if self.class_maps is None else self.class_maps.cpu().numpy(),
            eps=eps,
            convention=convention,
            seed=seed,
            predicted_wrong=self.predicted.cpu().numpy(),
            clean_wrong=int(self.clean_wrong),
            details=details,
        )
