"""One small call of every operation that never waits for its GPU, for tests of where and how it runs.

`hermitian_eigenvectors` waits: what it could not resolve goes to the host.
"""

from __future__ import annotations

import dataclasses

import torch
from fastfreq_kernels import PhiloxSigns


def _calls():
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(3, 2, 5, 6, generator=rng)
    ids, frequencies = torch.arange(3), torch.tensor([[1, 2], [0, 1]])
    masks = torch.rand(2, 5, 6, generator=rng) < 0.5
    statistics = {"mean": torch.tensor([0.1, 0.2]), "std": torch.tensor([0.3, 0.4])}
    taps, offsets = torch.randn(2, 4, 3, 2, generator=rng), torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    square = torch.randn(2, 3, 3, generator=rng)
    yield "fourier_signs", (ids, frequencies, (2, 5, 6)), {"seed": 1}
    yield "fourier_perturb", (images, frequencies, PhiloxSigns(1, ids)), {"eps": 1.0, "phase": 0.0, "clip": True}
    yield "fourier_waves", (images, torch.tensor([[1, 2], [0, 1], [0, 3]]), torch.ones(3, 2).to(torch.int8)), {
        "strengths": torch.ones(3).double(), "phase": 0.3, "clip": True,
    }  # fmt: skip
    yield "gaussian_noise", (ids, (2, 5, 6)), {"seed": 1}
    yield "band_noise", (images, masks, ids), {"norm": 1.0, "seed": 1, **statistics}
    yield "filter_bands", (images, masks), {"normalise_contrast": True, **statistics}
    yield "radial_power", (images,), {"exponents": [0, -40]}
    yield "ring_moments", (torch.rand(3, 4, generator=rng).double(),), {"exponents": [0, -40]}
    yield "conv_symbols", (taps, offsets, frequencies), {"grid": (5, 6)}
    yield "conv_gram", (taps, offsets, frequencies), {"grid": (5, 6)}  # by symbols
    yield "conv_gram", (taps, offsets, frequencies.repeat(20, 1)), {"grid": (5, 6)}  # by autocorrelation
    yield "hermitian_eigenvalues", (square + square.mT,), {}
    points, values = torch.rand(7, 2, generator=rng), torch.rand(7, 3, generator=rng)
    yield "frequency_response", (points, values, frequencies.float()), {}
    yield "dwt2", (images, [0.5, 0.5], [-0.5, 0.5]), {"mode": "periodization", "threshold": 0.1}
    yield "idwt2", (images, [images[:, :, None].expand(-1, -1, 3, -1, -1)], [0.5, 0.5], [0.5, -0.5]), {}
    yield "gram_iteration", (square,), {"iterations": 2}


CALLS = list(_calls())


def at(device: str, value):
    """What an operation takes, on a device; offsets of a convolution stay on the host, which reads them."""
    if isinstance(value, PhiloxSigns):
        return dataclasses.replace(value, image_ids=value.image_ids.to(device))
    if isinstance(value, list) and isinstance(value[0], torch.Tensor):
        return [each.to(device) for each in value]
    return value.to(device) if isinstance(value, torch.Tensor) else value


def placed(name: str, arguments, options, device: str):
    """(arguments, options) on a device."""
    there = [at(device, each) for each in arguments]
    if name.startswith("conv"):
        there[1] = arguments[1]
    return there, {key: at(device, value) for key, value in options.items()}
