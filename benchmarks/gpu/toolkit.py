"""Every measurement of the toolkit on the card, equal to the same on the CPU: the contract's own table and subjects."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from proving import Proof

from tests.contract import subjects
from tests.contract.table import TABLE, Row


def run(proof: Proof) -> None:
    """One row each: integers equal, floats to the rounding of another order of summation."""
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    torch.use_deterministic_algorithms(False)  # the contract's tests ask for it
    try:
        for row in TABLE[:: 6 if proof.dry else 1]:
            proof.row(f"toolkit {row.name}", **_compared(row, proof.device))
    finally:
        torch.backends.cudnn.allow_tf32 = tf32


def _compared(row: Row, device: str) -> dict[str, Any]:
    begin = time.perf_counter()
    try:
        expected = row.numbers(row.plain())
        if "device" in row.cannot and "model" not in row.cannot:
            images = (
                subjects.images().to(device)
                if row.name in ("bottleneck", "downsampling", "sparse_coding")
                else subjects.images()
            )
            found = row.numbers(row.measure(subjects.network().to(device), images, subjects.labels()))
        else:
            found = row.numbers(row.plain(device=device))
    except Exception as failed:  # noqa: BLE001 - the other measurements are worth more than an early end
        return {"ok": False, "why": f"{type(failed).__name__}: {failed}"[:300]}
    figures: dict[str, Any] = {"seconds": time.perf_counter() - begin}
    try:
        subjects.assert_same_outcomes(found, expected)
    except AssertionError as wrong:
        return {**figures, "ok": False, "differ": _differ(found, expected), "why": " ".join(str(wrong).split())[:300]}
    return {**figures, "ok": True}


def _differ(found: subjects.Numbers, expected: subjects.Numbers) -> dict[str, str]:
    """Which fields do, and how far."""
    far = {}
    for path in sorted(found.keys() & expected.keys()):
        a, b = np.asarray(found[path], float), np.asarray(expected[path], float)
        if a.shape != b.shape:
            far[path] = f"{a.shape} for {b.shape}"
        elif a.size and not np.array_equal(a, b, equal_nan=True):
            far[path] = f"{int((a != b).sum())} of {a.size}, by at most {np.nanmax(np.abs(a - b)):.3g}"
    return dict(list(far.items())[:6])
