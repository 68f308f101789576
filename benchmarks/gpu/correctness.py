"""Every operation on the card against float64 on the CPU, on fresh random inputs, in memory that held NaN."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import fastfreq_kernels as kernels
import torch
from fastfreq_kernels import _hermitian
from fastfreq_kernels._testing import CASES, assert_matches_reference
from proving import Proof, relative
from torch import Tensor

EPS = {torch.float32: 2.0**-23, torch.float64: 2.0**-52}
Check = tuple[str, Callable[[], float], float]  # name, error, what is allowed


def run(proof: Proof) -> None:
    """All checks; a wrong one is a row with ok=False, and the others go on."""
    seed = int.from_bytes(os.urandom(4), "little")
    proof.row("seed of the random inputs", seed=seed)
    torch.use_deterministic_algorithms(True, warn_only=True)  # torch.empty gives NaN, too
    try:
        for name, check, allowed in checks(proof, torch.Generator().manual_seed(seed)):
            proof.poison()
            try:
                error = check()
            except AssertionError as wrong:
                proof.row(name, ok=False, why=str(wrong)[:300])
                continue
            except RuntimeError as failed:  # of the compiler or the launch
                proof.row(name, ok=False, why=f"{type(failed).__name__}: {failed}"[:300])
                continue
            proof.row(name, error=error, allowed=allowed, ok=bool(error <= allowed))
    finally:
        torch.use_deterministic_algorithms(False)


def checks(proof: Proof, random: torch.Generator) -> Iterator[Check]:
    """Operation by operation."""
    for part in (
        _perturb,
        _spectra,
        _bands,
        _convolutions,
        _eigenvalues,
        _eigenvectors,
        _svd,
        _bounds,
        _waves,
        _wavelets,
        _responses,
    ):
        yield from part(proof, random)


def _backend(proof: Proof) -> str | None:
    """Triton, in its interpreter on a CPU; whatever there is where that is not to be had."""
    return "triton" if proof.device == "cuda" or os.environ.get("TRITON_INTERPRET") == "1" else None


def _perturb(proof: Proof, random: torch.Generator) -> Iterator[Check]:
    backend = _backend(proof)
    for case in CASES[:4] if proof.dry else CASES:

        def check(case: Any = case) -> float:
            arguments, keywords = case.inputs(int(torch.randint(1 << 30, (), generator=random)), proof.device)
            out = kernels.fourier_perturb(*arguments, backend=backend, **keywords)
            assert_matches_reference(out, *arguments, **keywords)
            return 0.0

        yield f"fourier_perturb {case}", check, 0.0

    def signs() -> float:
        ids, frequencies = torch.arange(2**32 - 50, 2**32 + 50), torch.randint(-500, 500, (9, 2), generator=random)
        wrong = 0
        for seed in (0, 2**63 + 7):
            here = kernels.fourier_signs(ids, frequencies, (3, 224, 200), seed=seed, backend="reference")
            moved = ids.to(proof.device), frequencies.to(proof.device)
            wrong += int((kernels.fourier_signs(*moved, (3, 224, 200), seed=seed, backend=backend).cpu() != here).sum())
        return float(wrong)

    yield "fourier_signs, bit for bit", signs, 0.0


def _spectra(proof: Proof, random: torch.Generator) -> Iterator[Check]:
    shapes = ((2, 1, 5, 7),) if proof.dry else ((5, 3, 47, 33), (2, 1, 1, 1), (3, 3, 224, 224))
    for shape in shapes:
        for magnitude in (False, True):

            def check(shape: Any = shape, magnitude: bool = magnitude) -> float:
                images = torch.rand(shape, generator=random)
                truth = kernels.radial_power(images.double(), magnitude=magnitude, backend="reference")
                moved = images.to(proof.device)
                found = kernels.radial_power(moved, magnitude=magnitude, backend=_backend(proof))
                again = kernels.radial_power(moved, magnitude=magnitude, backend=_backend(proof))
                assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True)), "two calls differ"
                return max(relative(a, b) for a, b in zip(found, truth, strict=True))

            yield f"radial_power {shape}{' of |F|' * magnitude}", check, 512 * EPS[torch.float32]

    def moments() -> float:
        profiles = torch.rand(9, 12, generator=random, dtype=torch.float64)
        found = kernels.ring_moments(profiles.to(proof.device), exponents=[-10, -40], backend=_backend(proof))
        return relative(found.sum(0), profiles.mT @ profiles)

    yield "ring_moments", moments, 1e-11


def _bands(proof: Proof, random: torch.Generator) -> Iterator[Check]:
    shapes = ((2, 3, 5, 6),) if proof.dry else ((5, 3, 47, 33), (4, 3, 32, 32), (3, 3, 224, 224))
    for shape in shapes:
        n, _, h, w = shape

        def noise(shape: Any = shape, n: int = n) -> float:
            ids = torch.arange(n) + 2**33
            truth = kernels.gaussian_noise(ids, shape[1:], seed=5, backend="reference")
            return relative(
                kernels.gaussian_noise(ids.to(proof.device), shape[1:], seed=5, backend=_backend(proof)), truth
            )

        yield f"gaussian_noise {shape}", noise, 16 * EPS[torch.float32]

        def bands(contrast: bool, shape: Any = shape) -> float:
            images, masks = torch.rand(shape, generator=random), torch.rand(9, *shape[2:], generator=random)
            truth = kernels.filter_bands(
                images.double(), masks, normalise_contrast=contrast, dtype=torch.float64, backend="reference"
            )
            found = kernels.filter_bands(
                images.to(proof.device), masks.to(proof.device), normalise_contrast=contrast, backend=_backend(proof),
                channels_last=True,
            )  # fmt: skip
            return relative(found, truth)

        yield f"filter_bands {shape}", lambda bands=bands: bands(False), 64 * EPS[torch.float32]
        yield f"filter_bands {shape} with contrast", lambda bands=bands: bands(True), 64 * EPS[torch.float32]

        def band_noise(shape: Any = shape, n: int = n) -> float:
            images, masks = torch.rand(shape, generator=random), torch.rand(4, *shape[2:], generator=random)
            ids = torch.arange(n)
            options: dict[str, Any] = {"norm": 8.0, "seed": 5}
            truth = kernels.band_noise(images.double(), masks, ids, dtype=torch.float64, backend="reference", **options)
            moved = (t.to(proof.device) for t in (images, masks, ids))
            return relative(kernels.band_noise(*moved, backend=_backend(proof), **options), truth)

        yield f"band_noise {shape}", band_noise, 256 * EPS[torch.float32]


def _convolutions(proof: Proof, random: torch.Generator) -> Iterator[Check]:
    shapes = ((1, 5, 7), (3, 1, 1)) if proof.dry else ((1, 64, 64), (1, 37, 130), (96, 1, 1), (2, 20, 5))
    grid = (7, 4) if proof.dry else (33, 20)
    offsets = torch.cartesian_prod(torch.arange(3), torch.arange(3)) - 1
    frequencies = torch.cartesian_prod(*map(torch.arange, grid)) - 3
    for dtype in EPS:
        for g, a, b in shapes:
            for operation in (kernels.conv_symbols, kernels.conv_gram):

                def check(dtype: Any = dtype, g: int = g, a: int = a, b: int = b, run: Any = operation) -> float:
                    taps = torch.randn(g, 9, a, b, generator=random, dtype=torch.float64).to(dtype)
                    truth = run(taps.double(), offsets, frequencies, grid=grid, backend="reference")
                    moved = (t.to(proof.device) for t in (taps, offsets, frequencies))
                    found = run(*moved, grid=grid, backend=_backend(proof)).cpu()
                    return float((found - truth).abs().max() / truth.abs().max())

                kind = str(dtype).removeprefix("torch.")
                yield f"{operation.__name__} {kind} {g} x {a} x {b}", check, 64 * EPS[dtype]


def hermitian(count: int, c: int, kind: str, random: torch.Generator) -> Tensor:
    """(count, c, c) complex128 Hermitian matrices: random, graded, of two values, of rank one, or zero."""
    real, imaginary = (torch.randn(count, c, c, generator=random, dtype=torch.float64) for _ in range(2))
    X = torch.complex(real, imaginary)
    if kind == "random":
        return X + X.mH
    Q = torch.linalg.qr(X)[0]
    values = {
        "graded": torch.logspace(0, -16, c, dtype=torch.float64),
        "two values": torch.cat([torch.ones(c - c // 2), 2 * torch.ones(c // 2)]).double(),
        "rank one": torch.eye(c, dtype=torch.float64)[0],
        "zero": torch.zeros(c, dtype=torch.float64),
    }[kind]
    return (Q * values) @ Q.mH


def _eigenvalues(proof: Proof, random: torch.Generator) -> Iterator[Check]:
    sides = (5,) if proof.dry else (1, 3, 16, 33, 64, 100, 128, 200, 256, 512, 1024)
    for dtype, allowed in ((torch.float32, 2e-6), (torch.float64, 1e-13)):
        for c in sides:

            def check(dtype: Any = dtype, c: int = c) -> float:
                few = 1 if proof.dry or c > 256 else 12
                kinds = ("random", "graded", "two values", "rank one", "zero")
                matrices = torch.cat([hermitian(few, c, kind, random) for kind in kinds])
                packed = _hermitian.pack(matrices).to(proof.device, dtype)
                found = kernels.hermitian_eigenvalues(packed, backend=_backend(proof)).cpu().double()
                truth = torch.linalg.eigvalsh(_hermitian.unpack(packed.cpu().double())).flip(-1)
                scale = truth.abs().amax(dim=1, keepdim=True).clamp_min(1e-300)
                return float(((found - truth).abs() / scale).max())

            yield f"hermitian_eigenvalues {str(dtype).removeprefix('torch.')} side {c}", check, allowed


def _svd(proof: Proof, random: torch.Generator) -> Iterator[Check]:
    shapes = ((4, 3),) if proof.dry else ((1, 1), (8, 8), (57, 20), (20, 57), (64, 64), (96, 96))
    for dtype in EPS:
        for m, n in shapes:

            def check(dtype: Any = dtype, m: int = m, n: int = n) -> float:
                parts = (torch.randn(40 if not proof.dry else 2, m, n, generator=random).to(dtype) for _ in range(2))
                matrices = torch.complex(*parts)
                u, s, vh = (t.cpu() for t in kernels.channel_svd(matrices.to(proof.device), backend=_backend(proof)))
                truth = torch.linalg.svdvals(matrices.to(torch.complex128))
                back = (u * s[:, None]) @ vh
                unit = u.mH @ u - torch.eye(s.shape[1])
                worst = float(((s - truth).abs() / truth[:, :1]).max())
                return max(
                    worst, relative(torch.view_as_real(back), torch.view_as_real(matrices)), float(unit.abs().max())
                )

            kind = str(dtype).removeprefix("torch.")
            yield f"channel_svd {kind} {m} x {n}", check, 100 * max(m, n) ** 0.5 * EPS[dtype]

            def values(dtype: Any = dtype, m: int = m, n: int = n) -> float:
                parts = (torch.randn(9, m, n, generator=random).to(dtype) for _ in range(2))
                matrices = torch.complex(*parts)
                truth = torch.linalg.svdvals(matrices.to(torch.complex128))
                found = kernels.channel_singular_values(matrices.to(proof.device)).cpu()
                return float(((found - truth).abs() / truth[:, :1]).max())

            yield f"channel_singular_values {kind} {m} x {n}", values, 100 * max(m, n) ** 0.5 * EPS[dtype]


def _bounds(proof: Proof, random: torch.Generator) -> Iterator[Check]:
    for dtype in EPS:
        for m, n in ((5, 4),) if proof.dry else ((33, 100), (64, 64), (96, 80)):

            def check(dtype: Any = dtype, m: int = m, n: int = n) -> float:
                parts = (torch.randn(7 if proof.dry else 70, m, n, generator=random).to(dtype) for _ in range(2))
                matrices = torch.complex(*parts)
                truth = kernels.gram_iteration(matrices.to(torch.complex128), iterations=6, backend="reference")
                largest = torch.linalg.svdvals(matrices.to(torch.complex128))[:, 0]
                found = kernels.gram_iteration(matrices.to(proof.device), iterations=6, backend=_backend(proof)).cpu()
                assert (found.double() >= largest * (1 - EPS[dtype])).all(), "no upper bound"
                return relative(found, truth)

            kind = str(dtype).removeprefix("torch.")
            yield f"gram_iteration {kind} {m} x {n}", check, 4 * m * n * EPS[dtype]  # see its docstring


def _eigenvectors(proof: Proof, random: torch.Generator) -> Iterator[Check]:
    for c in (5,) if proof.dry else (16, 64, 256, 512):

        def check(c: int = c) -> float:
            matrices = hermitian(2, c, "random", random)
            packed = _hermitian.pack(matrices).to(proof.device)
            values, vectors = kernels.hermitian_eigenvectors(packed, count=min(c, 8), backend=_backend(proof))
            values, vectors = values.cpu(), vectors.cpu()
            left = matrices @ vectors - vectors * values[:, None]
            unit = vectors.mH @ vectors - torch.eye(values.shape[1])
            return max(float(left.abs().max() / values.abs().max()), float(unit.abs().max()))

        yield f"hermitian_eigenvectors float64 side {c}", check, 1e-11


def _waves(proof: Proof, random: torch.Generator) -> Iterator[Check]:
    shape = (3, 2, 5, 6) if proof.dry else (64, 3, 224, 200)

    def check() -> float:
        n, c = shape[:2]
        images, frequencies = torch.rand(shape, generator=random), torch.randint(-9, 9, (n, 2), generator=random)
        signs = 2 * torch.randint(0, 2, (n, c), generator=random).to(torch.int8) - 1
        strengths = torch.rand(n, generator=random, dtype=torch.float64)

        def waves(pixels: Tensor, device: str, backend: str | None) -> Tensor:
            moved = (t.to(device) for t in (pixels, frequencies, signs))
            return kernels.fourier_waves(*moved, strengths=strengths.to(device), phase=0.3, clip=True, backend=backend)

        return relative(waves(images, proof.device, _backend(proof)), waves(images.double(), "cpu", "reference"))

    yield f"fourier_waves {shape}", check, 16 * EPS[torch.float32]


def _wavelets(proof: Proof, random: torch.Generator) -> Iterator[Check]:
    shape = (1, 1, 7, 10) if proof.dry else (9, 3, 223, 300)
    for mode in ("periodization",) if proof.dry else ("symmetric", "antireflect", "periodization", "zero"):

        def check(mode: str = mode) -> float:
            images, taps = torch.rand(shape, generator=random), torch.randn(2, 6, generator=random).tolist()
            truth = kernels.dwt2(images.double(), *taps, mode=mode, backend="reference")
            found = kernels.dwt2(images.to(proof.device), *taps, mode=mode, backend=_backend(proof))
            back = kernels.idwt2(*found, *taps, mode=mode, backend=_backend(proof))
            whole = kernels.idwt2(*truth, *taps, mode=mode, backend="reference")
            return max(relative(found[0], truth[0]), relative(found[1][0], truth[1][0]), relative(back, whole))

        yield f"dwt2 {shape} {mode}", check, 64 * EPS[torch.float32]


def _responses(proof: Proof, random: torch.Generator) -> Iterator[Check]:
    n, d, outputs, k = (9, 2, 3, 5) if proof.dry else (20_000, 3, 10, 300)

    def check() -> float:
        points, values = torch.rand(n, d, generator=random), torch.randn(n, outputs, generator=random)
        frequencies = 20 * torch.randn(k, d, generator=random)
        truth = kernels.frequency_response(
            points.double(), values.double(), frequencies.double(), reduction="sum", backend="reference"
        )
        there = (t.to(proof.device) for t in (points, values, frequencies))
        found = kernels.frequency_response(*there, reduction="sum", backend=_backend(proof))
        return relative(torch.view_as_real(found), torch.view_as_real(truth))

    yield f"frequency_response {n} x {d}, {k} frequencies", check, 4e-5
