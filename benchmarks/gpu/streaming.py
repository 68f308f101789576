"""Bytes per second of every kernel that memory bounds, over the rates at which this card writes and copies.

Each kernel is launched alone, from the code that launches it in use. Kernels that write more than they read are set
against the write rate, the others, by all bytes that must pass, against the rate of a copy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from fastfreq_kernels import fourier_signs
from fastfreq_kernels._output import Output
from proving import Proof

TARGET = 0.85


@dataclasses.dataclass(frozen=True)
class Stream:
    """A launch and the bytes that it cannot avoid; `of` is "write" or "copy"."""

    name: str
    written: int
    read: int
    of: str
    build: Callable[[str], Any]  # device -> launch

    @property
    def bytes(self) -> int:
        """Set against the rate."""
        return self.written if self.of == "write" else self.written + self.read


def streams(dry: bool = False) -> list[Stream]:
    """All of them."""
    n, side, f, bands = (2, 32, 2, 2) if dry else (16, 224, 256, 20)
    return [*_perturbations(n, side, f), *_planes(2 * n, side, bands), *_matrices(dry)]


def _perturbations(n: int, side: int, f: int) -> list[Stream]:
    found = []
    elements = n * 3 * side * side
    for dtype in (torch.bfloat16, torch.float32):
        for channels_last in (True, False):

            def build(device: str, dtype: Any = dtype, channels_last: bool = channels_last) -> Any:
                from fastfreq_kernels.fourier_perturb import _triton

                images = torch.rand(n, 3, side, side, device=device)
                if channels_last:
                    images = images.contiguous(memory_format=torch.channels_last)
                frequencies = torch.randint(-side, side, (f, 2), device=device)
                signs = fourier_signs(torch.arange(n, device=device), frequencies, (3, side, side), seed=1)
                output = Output(
                    True, torch.rand(3, device=device), torch.rand(3, device=device) + 0.1, dtype, channels_last
                )
                out = output.empty(images, f * n)
                tables, launch = _triton.launches(out, images, frequencies, signs, 4.0, 0.7, output)
                tables()
                return launch

            kind = f"{str(dtype).removeprefix('torch.')} {'NHWC' if channels_last else 'NCHW'}"
            found.append(Stream(f"perturb_kernel {kind}", f * elements * dtype.itemsize, 4 * elements, "write", build))
    return found


def _planes(n: int, side: int, bands: int) -> list[Stream]:
    elements, cells = n * 3 * side * side, n * 3 * side * (side // 2 + 1)

    def gaussian(device: str) -> Any:
        from fastfreq_kernels.band_noise import _triton

        out = torch.empty(4 * n, 3, side, side, device=device)
        return _triton.gaussian_launch(out, torch.arange(4 * n, device=device), 5, 1)

    def mask(device: str) -> Any:
        from fastfreq_kernels.filter_bands import _triton

        spectrum = torch.randn(n, 3, side, side // 2 + 1, 2, device=device)
        out, half = spectrum.new_empty(bands, *spectrum.shape), torch.rand(bands, side, side // 2 + 1, device=device)
        return _triton.mask_launch(out, spectrum, half, side, energy=True)

    def finish(device: str) -> Any:
        from fastfreq_kernels.filter_bands import _triton

        planes = torch.rand(bands, n, 3, side, side, device=device)
        gain, terms = torch.rand(bands, n, 3, device=device), torch.rand(3, device=device) + 0.1
        output = Output(True, terms, terms, torch.bfloat16, True)
        return _triton.finish_launch(output.empty(planes[0], bands, n), planes, gain, gain, None, output)

    def rings(device: str, which: int) -> Any:
        from fastfreq_kernels.radial_power import _triton

        table, starts = _triton._table(side, side, None, torch.device(device))
        found = torch.empty(n, 3, len(starts) - 1, device=device)
        plane = torch.zeros(3, side, side // 2 + 1, dtype=torch.float64, device=device)
        spectrum = torch.randn(n, 3, side, side // 2 + 1, 2, device=device)
        return _triton.launches(found, plane, spectrum, table, starts, False)[which]

    return [
        Stream("gaussian_kernel", 16 * elements, 0, "write", gaussian),
        Stream("mask_kernel with its energy", 8 * bands * cells, 8 * cells, "write", mask),
        Stream("finish_kernel to bfloat16 NHWC", 2 * bands * elements, 4 * bands * elements, "copy", finish),
        Stream("rings_kernel", 0, 8 * cells, "copy", lambda device: rings(device, 0)),
        Stream("plane_kernel", 0, 8 * cells, "copy", lambda device: rings(device, 1)),
    ]


def _matrices(dry: bool) -> list[Stream]:
    found = []
    c, side = (5, 6) if dry else (64, 56)
    f = side * (side // 2 + 1)
    for dtype in (torch.float32, torch.float64):

        def problem(device: str, dtype: Any = dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            offsets = torch.cartesian_prod(torch.arange(3), torch.arange(3)).to(device)
            frequencies = torch.cartesian_prod(torch.arange(side), torch.arange(side // 2 + 1)).to(device)
            return torch.randn(1, 9, c, c, dtype=dtype, device=device), offsets, frequencies

        def symbols(device: str, problem: Any = problem) -> Any:
            from fastfreq_kernels.conv_symbols import _triton

            taps, offsets, frequencies = problem(device)
            return _triton.launch(taps.new_empty(1, f, c, c, 2), taps, offsets, frequencies, (side, side))

        def gram(device: str, problem: Any = problem) -> Any:
            from fastfreq_kernels.conv_gram import _triton

            taps, offsets, frequencies = problem(device)
            lags, launch = _triton.launches(taps.new_empty(1, f, c, c), taps, offsets, frequencies, (side, side))
            lags()
            return launch

        kind, each = str(dtype).removeprefix("torch."), f * c * c * dtype.itemsize
        found.append(Stream(f"symbols_kernel {kind} c={c}", 2 * each, 9 * c * c * dtype.itemsize, "write", symbols))
        found.append(Stream(f"gram_kernel {kind} c={c}", each, 13 * c * c * dtype.itemsize, "write", gram))
    return found


def run(proof: Proof) -> None:
    """All of them, with the floor that the rate leaves."""
    for stream in streams(proof.dry):
        launch = stream.build(proof.device)
        if proof.device == "cuda":
            share = stream.bytes / (proof.ms(launch) / 1e3) / proof.rates[stream.of]
            ms = 1e3 * stream.bytes / (share * proof.rates[stream.of])
            figures = {"ms": ms, f"share_of_{stream.of}_rate": share, "target": TARGET, "met": bool(share >= TARGET)}
        else:
            figures = {"grid": launch.grid, "not_launched": "a dry run builds the launch"}
        proof.row(f"streaming {stream.name}", bytes=stream.bytes, **figures)


def predicted(rates: dict[str, float]) -> dict[str, dict[str, Any]]:
    """The target, in milliseconds."""
    return {
        f"streaming {s.name}": {"bytes": s.bytes, "ms": 1e3 * s.bytes / (TARGET * rates[s.of]), "target": TARGET}
        for s in streams()
    }
