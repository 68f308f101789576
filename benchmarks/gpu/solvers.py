"""Singular values on the card: all of ResNet-50, and by side against torch's own solvers."""

from __future__ import annotations

import time
from typing import Any

import fastfreq_kernels as kernels
import torch
from fastfreq_kernels import _configs
from fastfreq_kernels._launch import run_on
from networks import residual_network
from proving import Proof
from torch import Tensor

import fastfreq as ff

RESNET_MS, SPEEDUP = 60.0, 50.0  # targets: of ResNet-50 by "high", and over torch.linalg.svdvals at c = 64, n = 56
ALLOWED = {"exact": 1e-12, "high": 1e-7, "fast": 3.5e-4}  # of each layer's largest value
SIDES = ((32, 56), (64, 56), (128, 28), (256, 14), (512, 7))  # channels, side of the grid
OF_RESNET = ((128, 1692), (256, 691), (512, 109), (1024, 1))  # sides of "high" that are reduced in memory, and how many
FEW = 8  # matrices that torch's solvers are timed on; they loop over them, so the rest is extrapolated


def whole_network(proof: Proof) -> None:
    """Every layer of ResNet-50 at 224 by "high" and "fast", values compared with "high" on the CPU."""
    _network(proof, ("high",) if proof.dry else ("high", "fast"))


def reductions(proof: Proof) -> None:
    """The matrices of ResNet-50 by "high" reduced by the tile that stands, and with updates held back."""
    for dtype in (torch.float64, torch.float32):
        for side, count in ((8, 2),) if proof.dry else OF_RESNET:
            stands = tuple(_configs.reduction_tile(side, dtype))[1:]
            held = ((8, 8, 1, 1, 2),) if proof.dry else _configs.REDUCTION_HELD[dtype][side]
            packed = torch.rand(count, side, side, generator=torch.Generator().manual_seed(side), dtype=torch.float64)
            packed = packed.to(proof.device, dtype)
            truth = None
            for tile in dict.fromkeys((stands, *held)):
                figures, form = _reduction(proof, packed, tile)
                values = _values(form)
                truth = values if truth is None else truth
                error = float((values - truth).abs().max() / truth.abs().max())
                ok = error <= (1e-13 if dtype == torch.float64 else 2e-6)
                name = f"reduction {str(dtype).removeprefix('torch.')} side {side}, tile {tile}"
                proof.row(name, matrices=count, **figures, error=error, ok=bool(ok))
            del packed
            proof.release()


def _reduction(proof: Proof, packed: Tensor, tile: tuple[int, ...]) -> tuple[dict[str, float], Any]:
    """Milliseconds, bytes over what the card copies, and the tridiagonal form of a few of the matrices."""
    from fastfreq_kernels.hermitian_eigenvalues import _triton_memory

    n, side, _ = packed.shape
    how = _configs.ReductionTile(_configs.matrix_tile(side), *tile)

    def run(matrices: Tensor = packed) -> Any:
        form, launches = _triton_memory.launches(matrices, keep=False, tile=how)
        run_on(matrices, lambda: launches)
        return form

    ms = proof.ms(run, repeats=5)
    moved = n * packed.itemsize * side**3 / 3 * (1 + 1 / how.held if how.held else 4)
    return {"ms": ms, "over_copy": moved / proof.rates["copy"] / ms * 1e3}, run(packed[:FEW])


def _values(form: Any) -> Tensor:
    """Eigenvalues of tridiagonal forms, by LAPACK."""
    T = torch.diag_embed(form.diagonal.double()) + torch.diag_embed(form.squares.double()[:, :-1].sqrt(), -1)
    return torch.linalg.eigvalsh(T.cpu()) * form.scales.double().cpu()[:, None]


def whole_network_exact(proof: Proof) -> None:
    """The same by "exact"."""
    _network(proof, () if proof.dry else ("exact",))


def _network(proof: Proof, accuracies: tuple[str, ...]) -> None:
    name, size = ("resnet20", (3, 8, 8)) if proof.dry else ("resnet50", (3, 224, 224))
    net = residual_network(name)
    begin = time.perf_counter()
    truth = ff.singular_values(net, input_size=size, accuracy="high")
    proof.row(f"{name} on the CPU", seconds=time.perf_counter() - begin, threads=torch.get_num_threads())
    net = net.to(proof.device)
    for accuracy in accuracies:

        def run(accuracy: Any = accuracy) -> Any:
            return ff.singular_values(net, input_size=size, accuracy=accuracy)

        begin = time.perf_counter()
        found = run()
        proof.row(f"singular values of {name}, {accuracy}, the first time", seconds=time.perf_counter() - begin)
        worst = max(_apart(found[layer], truth[layer]) for layer in truth)
        ms = proof.wall_ms(run, repeats=1 if accuracy == "exact" else 3)
        figures: dict[str, Any] = {"ms": ms, "error": worst, "layers": len(found)}
        if accuracy == "high" and not proof.dry:
            figures |= {"target_ms": RESNET_MS, "met": bool(ms <= RESNET_MS)}
        allowed = ALLOWED[accuracy] + ALLOWED["high"]
        proof.row(f"singular values of {name}, {accuracy}", **figures, ok=bool(worst <= allowed))
        proof.row(f"singular values of {name}, {accuracy}, by parts", **proof.parts_ms(run))


def _apart(found: Any, truth: Any) -> float:
    """Largest difference of two layers' values, of the largest value."""
    a, b = torch.as_tensor(found.distinct), torch.as_tensor(truth.distinct)
    return float((a - b).abs().max() / b.max())


def problem(c: int, n: int, device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
    """Taps, offsets and distinct frequencies of a 3 x 3 kernel on an n x n grid."""
    taps = torch.randn(1, 9, c, c, generator=torch.Generator().manual_seed(c), dtype=torch.float64).to(device, dtype)
    offsets = torch.cartesian_prod(torch.arange(3), torch.arange(3)).to(device)
    frequencies = torch.cartesian_prod(torch.arange(n), torch.arange(n // 2 + 1)).to(device)
    return taps, offsets, frequencies, {"grid": (n, n)}


def by_side(proof: Proof) -> None:
    """Gram matrices and their eigenvalues, in float32 and float64, beside svdvals and eigvalsh on the same device."""
    for c, n in ((6, 4),) if proof.dry else SIDES:
        for dtype in (torch.float32, torch.float64):
            proof.row(f"singular values c={c} n={n} {str(dtype).removeprefix('torch.')}", **_side(proof, c, n, dtype))
            proof.release()


def _side(proof: Proof, c: int, n: int, dtype: torch.dtype) -> dict[str, Any]:
    taps, offsets, frequencies, grid = problem(c, n, proof.device, dtype)
    count = len(frequencies)
    packed = kernels.conv_gram(taps, offsets, frequencies, **grid)
    chosen = torch.linspace(0, count - 1, min(FEW, count), device=proof.device).long()
    some = kernels.conv_symbols(taps, offsets, frequencies[chosen], **grid)[0]
    truth = torch.linalg.svdvals(some.cpu().to(torch.complex128)).square()
    found = kernels.hermitian_eigenvalues(packed)[0, chosen].cpu()
    error = float(((found - truth).abs() / truth[:, :1]).max())
    gram = proof.ms(lambda: kernels.conv_gram(taps, offsets, frequencies, **grid), repeats=5)
    ours = proof.ms(lambda: kernels.hermitian_eigenvalues(packed), repeats=5)
    svdvals = proof.ms(lambda: torch.linalg.svdvals(some), repeats=3) * count / len(some)
    eigvalsh = proof.ms(lambda: torch.linalg.eigvalsh(some @ some.mH), repeats=3) * count / len(some)
    speedup = svdvals / (gram + ours)
    figures: dict[str, Any] = {
        "matrices": count, "gram_ms": gram, "eigenvalues_ms": ours, "svdvals_ms_extrapolated": svdvals,
        "eigvalsh_ms_extrapolated": eigvalsh, "over_svdvals": speedup, "error": error,
        "tflops": count * 16 / 3 * c**3 / ours / 1e9, "ok": bool(error <= (5e-5 if dtype == torch.float32 else 1e-12)),
    }  # fmt: skip
    if (c, n, dtype) == (64, 56, torch.float32) and not proof.dry:
        figures |= {"target": SPEEDUP, "met": bool(speedup >= SPEEDUP)}
    if c <= 64:
        symbols = kernels.conv_symbols(taps, offsets, frequencies, **grid)[0]
        backend = "triton" if proof.device == "cuda" else None
        figures["jacobi_ms"] = proof.ms(lambda: kernels.channel_svd(symbols, backend=backend), repeats=3)
    return figures


def predicted(rates: dict[str, float]) -> dict[str, dict[str, float]]:
    """Floors: 16/3 c^3 flops of a complex tridiagonalisation at a third of the matrix rate; twice that all in all."""
    rows: dict[str, dict[str, float]] = {}
    for c, n in SIDES:
        count = n * (n // 2 + 1)
        for kind, name in (("fp32", "float32"), ("fp64", "float64")):
            floor = 1e3 * count * 16 / 3 * c**3 / (rates[kind] / 3)
            rows[f"singular values c={c} n={n} {name}"] = {"matrices": count, "eigenvalues_ms": floor}
    rows["singular values of resnet50, high"] = {"target_ms": RESNET_MS}
    return rows
