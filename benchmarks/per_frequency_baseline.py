"""Two widely used designs of heat map tools, written from their descriptions, as the other side of the benchmark.

For every frequency a new data set with a new transform and a new DataLoader; every image is opened, decoded, resized,
cropped and turned into a float tensor again; the basis image is made by an inverse real FFT and normalised; each
channel of each image gets a random sign from the standard library; the sum is clipped and normalised per image; the
network runs in float32 with autograd on. Our only liberties are the frequencies it is given (the distinct ones, where
such tools also evaluate twins and cells that they do not show) and that it is told the number of workers.
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class PerturbedImages(Dataset):
    """Encoded files (JPEG bytes) or uint8 arrays (h, w, c) -> perturbed, normalised tensors, one frequency."""

    def __init__(
        self,
        sources: Sequence[bytes | np.ndarray],
        labels: Sequence[int],
        frequency: tuple[int, int],
        *,
        eps: float,
        size: int,
        mean: Tensor,
        std: Tensor,
    ) -> None:
        self.sources, self.labels, self.frequency = sources, labels, frequency
        self.eps, self.size, self.mean, self.std = eps, size, mean, std

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        source = self.sources[index]
        image = Image.open(io.BytesIO(source)).convert("RGB") if isinstance(source, bytes) else Image.fromarray(source)
        if image.size != (self.size, self.size):
            scale = round(self.size / 0.875) / min(image.size)
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
            left, top = (image.width - self.size) // 2, (image.height - self.size) // 2
            image = image.crop((left, top, left + self.size, top + self.size))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        spectrum = torch.zeros(self.size, self.size // 2 + 1, dtype=torch.complex64)
        spectrum[self.frequency[0] % self.size, self.frequency[1]] = 1
        basis = torch.fft.irfftn(spectrum, s=(self.size, self.size))
        basis = self.eps * basis / basis.norm()
        for channel in range(3):
            pixels[channel] += random.randrange(-1, 2, 2) * basis
        pixels = pixels.clamp(0, 1)
        return (pixels - self.mean[:, None, None]) / self.std[:, None, None], self.labels[index]


def error_map(
    net: nn.Module,
    sources: Sequence[bytes | np.ndarray],
    labels: Sequence[int],
    frequencies: np.ndarray,
    *,
    eps: float,
    size: int,
    mean: Tensor,
    std: Tensor,
    batch_size: int,
    workers: int = 0,
) -> np.ndarray:
    """Errors (f,) of frequencies (f, 2) with kx >= 0."""
    errors = []
    for ky, kx in frequencies:
        images = PerturbedImages(sources, labels, (int(ky), int(kx)), eps=eps, size=size, mean=mean, std=std)
        loader = DataLoader(images, batch_size=batch_size, num_workers=workers)
        wrong = 0
        for batch, target in loader:
            wrong += int((net(batch).argmax(dim=1) != target).sum())
        errors.append(wrong / len(images))
    return np.array(errors)


def tensor_error_map(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    frequencies: np.ndarray,
    *,
    eps: float,
    batch_size: int,
) -> np.ndarray:
    """Errors (f,) by the second design: tensors stay in memory, every frequency is one pass over a loader of them.

    The basis image is made once for each frequency and added to each batch with a random sign per image and channel;
    nothing is clipped; the network runs in float32 without autograd.
    """
    errors = []
    shape = images.shape[1:]
    data = torch.utils.data.TensorDataset(images, labels)
    for ky, kx in frequencies:
        rows = torch.arange(shape[1])[:, None] * (int(ky) / shape[1])
        columns = torch.arange(shape[2])[None, :] * (int(kx) / shape[2])
        basis = torch.cos(2 * torch.pi * (rows + columns) + torch.pi / 4)
        basis = eps * basis / basis.norm()
        wrong = 0
        with torch.no_grad():
            for batch, target in DataLoader(data, batch_size=batch_size):
                signs = 2.0 * torch.randint(0, 2, (len(batch), shape[0], 1, 1)) - 1
                wrong += int((model(batch + signs * basis).argmax(dim=1) != target).sum())
        errors.append(wrong / len(images))
    return np.array(errors)
