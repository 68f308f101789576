"""What the card reaches by torch's own calls: the rates that everything else is divided by."""

from __future__ import annotations

import torch
from proving import Proof

# of an H100, in bytes and flops per second, as read off such cards: only for predictions where no card is at hand
NOMINAL = {"copy": 3.0e12, "write": 3.0e12, "fp32": 50e12, "tf32": 400e12, "fp64": 50e12, "bf16": 790e12}
MATRIX = 8192
KINDS = {"fp32": torch.float32, "tf32": torch.float32, "fp64": torch.float64, "bf16": torch.bfloat16}


def run(proof: Proof) -> None:
    """Copies (bytes read and written), writes, and matrix products of each precision."""
    side = 128 if proof.dry else MATRIX
    _memory(proof, 1 << 20 if proof.dry else 1 << 30)
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        for kind, dtype in KINDS.items():
            torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
            a = torch.randn(side, side, device=proof.device).to(dtype)
            proof.rates[kind] = 2 * side**3 / proof.ms(lambda a=a: a @ a, repeats=7) * 1e3
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    for name, rate in proof.rates.items():
        proof.row(f"ceiling {name}", tera_per_second=rate / 1e12)


def _memory(proof: Proof, size: int) -> None:
    source, target = (torch.randint(0, 255, (size,), dtype=torch.uint8, device=proof.device) for _ in range(2))
    proof.rates["copy"] = 2 * size / proof.ms(lambda: target.copy_(source)) * 1e3
    proof.rates["write"] = size / proof.ms(lambda: target.fill_(1)) * 1e3


def predicted(rates: dict[str, float]) -> dict[str, dict[str, float]]:
    """The rows, without a card."""
    return {f"ceiling {name}": {"tera_per_second": rate / 1e12} for name, rate in rates.items()}
