"""The launch settings that `tune.py` measures: where each stands in `_configs.py`, what is tried, and on which call."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import fastfreq_kernels as kernels
import torch
from fastfreq_kernels import _configs
from torch import Tensor

Call = Callable[[], Any]

# rows and columns of a tile, warps, programs on a multiprocessor; those that hold updates back are in `_configs.py`
_REDUCTIONS = {
    128: ((32, 32, 4, 2), (16, 32, 4, 4), (32, 64, 4, 2)),
    256: ((32, 32, 8, 2), (16, 32, 4, 4), (32, 64, 8, 2)),
    512: ((32, 32, 8, 2), (64, 32, 16, 1), (64, 64, 16, 1)),
    1024: ((64, 16, 8, 1), (32, 32, 16, 1), (64, 32, 8, 1)),
}


@dataclasses.dataclass(frozen=True)
class Knob:
    """One setting.

    Attributes:
        name: of a constant in `_configs.py`.
        keys: into it, where it is a table.
        values: tried beside the one that stands.
    """

    name: str
    values: tuple[Any, ...]
    keys: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return "".join([self.name, *(f"[{key}]" for key in self.keys)])

    def get(self) -> Any:
        """The setting that stands."""
        found = getattr(_configs, self.name)
        for key in self.keys:
            found = found[key]
        return found

    def set(self, value: Any) -> None:
        """From now on, in this process."""
        if not self.keys:
            setattr(_configs, self.name, value)
            return
        table = getattr(_configs, self.name)
        for key in self.keys[:-1]:
            table = table[key]
        table[self.keys[-1]] = value


@dataclasses.dataclass(frozen=True)
class Work:
    """A call and the settings that it is the measure of; `call(device, dry)` makes it, tensors included."""

    name: str
    call: Callable[[str, bool], Call]
    knobs: tuple[Knob, ...]
    allowed: float  # relative difference from the answer by the settings that stand


def works() -> list[Work]:
    """All of them, in the order in which they are tuned."""
    wide = (64, 128, 256, 512, 1024)
    warps = (1, 2, 4, 8, 16)
    found = [
        Work("fourier_perturb", _perturb, (
            Knob("_SIDE", (32, 64, 128)), Knob("_FREQUENCIES", (4, 8, 16, 32)), Knob("TABLES_BLOCK", wide),
        ), 1e-6),
        Work("fourier_signs", _signs, (Knob("SIGNS_BLOCK", wide),), 0.0),
        Work("gaussian_noise", _noise, (Knob("NOISE_BLOCK", wide), Knob("NOISE_WARPS", warps[:4])), 1e-6),
        Work("filter_bands", _bands, (
            Knob("BANDS_BLOCK", (256, 512, 1024, 2048)), Knob("BANDS_EACH", (4, 8, 16)), Knob("BANDS_WARPS", warps[:4]),
            Knob("FINISH_WARPS", warps[:4]),
        ), 1e-6),
        Work("radial_power", _rings, (
            Knob("RINGS_BLOCK", (64, 128, 256, 512)), Knob("RINGS_WARPS", warps[:4]),
            Knob("RINGS_GROUP_BYTES", tuple(mib << 20 for mib in (8, 16, 24, 32, 64))),
        ), 1e-5),
        Work("conv_symbols", _symbols, (Knob("_SYMBOLS_BYTES", (2048, 4096, 8192, 16384)),), 1e-6),
        Work("conv_gram", _gram, (
            Knob("_GRAM_BYTES", (2048, 4096, 8192, 16384)),
            Knob("LAGS_SIDE", (16, 32, 64)), Knob("LAGS_DEPTH", (16, 32)),
            *(Knob("_LAGS_WARPS", warps[:4], (torch.float32, side)) for side in (32, 64)),
        ), 1e-5),
    ]  # fmt: skip
    for dtype in (torch.float32, torch.float64):
        for side in (32, 64):
            if side <= _configs.EIGENVALUES_LARGEST_SIDE[dtype]:
                knob = Knob("_EIGENVALUES_WARPS", warps, (dtype, side))
                found.append(Work(f"eigenvalues {side}", _eigenvalues(dtype, side), (knob,), 1e-5))
        for side, tiles in _REDUCTIONS.items():
            found.append(Work(f"eigenvalues {side}", _eigenvalues(dtype, side), (
                Knob("_REDUCTION", (*tiles, *_configs.REDUCTION_HELD[dtype][side]), (dtype, side)),
            ), 1e-5))  # fmt: skip
        for side in (32, 64):
            knob = Knob("_GRAM_ITERATION_WARPS", warps, (dtype, side))
            found.append(Work(f"gram_iteration {side}", _squares(dtype, side), (knob,), 1e-5))
        for tile in _configs._JACOBI_WARPS[dtype]:
            if tile[0] >= 32:
                knob = Knob("_JACOBI_WARPS", warps, (dtype, tile))
                found.append(Work(f"channel_svd {tile}", _jacobi(dtype, tile), (knob,), 1e-4))
    return found


def _random(*shape: int, device: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """Seeded by the shape, so that every setting computes the same."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.rand(*shape, generator=generator, dtype=torch.float64).to(device, dtype)


def _perturb(device: str, dry: bool) -> Call:
    n, side, f = (1, 8, 2) if dry else (16, 224, 256)
    images = _random(n, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    frequencies = torch.randint(0, side, (f, 2), generator=torch.Generator().manual_seed(0)).to(device)
    signs = torch.ones(f, n, 3, dtype=torch.int8, device=device)
    mean, std = torch.full((3,), 0.5, device=device), torch.full((3,), 0.2, device=device)
    return lambda: kernels.fourier_perturb(
        images, frequencies, signs, eps=15.7, phase=0.7, clip=True, mean=mean, std=std, dtype=torch.bfloat16,
        channels_last=True, backend="triton",
    )  # fmt: skip


def _signs(device: str, dry: bool) -> Call:
    n, f = (3, 4) if dry else (256, 2048)
    ids, frequencies = torch.arange(n, device=device), torch.arange(2 * f, device=device).view(f, 2)
    return lambda: kernels.fourier_signs(ids, frequencies, (3, 224, 224), seed=1, backend="triton")


def _noise(device: str, dry: bool) -> Call:
    n, side = (1, 8) if dry else (64, 224)
    ids = torch.arange(n, device=device)
    return lambda: kernels.gaussian_noise(ids, (3, side, side), seed=1, backend="triton")


def _bands(device: str, dry: bool) -> Call:
    n, side, b = (1, 8, 2) if dry else (32, 224, 20)
    images, masks = _random(n, 3, side, side, device=device), _random(b, side, side, device=device)
    return lambda: kernels.filter_bands(
        images, masks, dtype=torch.bfloat16, channels_last=True, normalise_contrast=True, backend="triton"
    )


def _rings(device: str, dry: bool) -> Call:
    images = _random(*((1, 1, 8, 8) if dry else (256, 3, 224, 224)), device=device)
    return lambda: kernels.radial_power(images, backend="triton")[0]


def _convolution(device: str, dry: bool) -> tuple[Tensor, Tensor, Tensor, tuple[int, int]]:
    c, n = (4, 4) if dry else (64, 56)
    offsets = torch.cartesian_prod(torch.arange(3), torch.arange(3)).to(device)
    frequencies = torch.cartesian_prod(torch.arange(n), torch.arange(n // 2 + 1)).to(device)
    return _random(1, 9, c, c, device=device), offsets, frequencies, (n, n)


def _symbols(device: str, dry: bool) -> Call:
    *tensors, grid = _convolution(device, dry)
    return lambda: torch.view_as_real(kernels.conv_symbols(*tensors, grid=grid, backend="triton"))


def _gram(device: str, dry: bool) -> Call:
    *tensors, grid = _convolution(device, dry)
    return lambda: kernels.conv_gram(*tensors, grid=grid, backend="triton")


def _eigenvalues(dtype: torch.dtype, side: int) -> Callable[[str, bool], Call]:
    def call(device: str, dry: bool) -> Call:
        packed = _random(1 if dry else max(1, 1600 * 64**2 // side**2), side, side, device=device, dtype=dtype)
        return lambda: kernels.hermitian_eigenvalues(packed, backend="triton")

    return call


def _squares(dtype: torch.dtype, side: int) -> Callable[[str, bool], Call]:
    def call(device: str, dry: bool) -> Call:
        parts = _random(2, 1 if dry else 1600, side, side, device=device, dtype=dtype)
        return lambda: kernels.gram_iteration(torch.complex(*parts), iterations=3, backend="triton")

    return call


def _jacobi(dtype: torch.dtype, tile: tuple[int, int]) -> Callable[[str, bool], Call]:
    def call(device: str, dry: bool) -> Call:
        parts = _random(2, 1 if dry else 1000, *tile, device=device, dtype=dtype)
        matrices = torch.complex(*parts)
        return lambda: kernels.channel_svd(matrices, backend="triton")[1]

    return call
