"""One precision of phases and values after the other, few outputs and many, one coordinate and several."""

import torch
from fastfreq_kernels.frequency_response import _triton

SINGLE, DOUBLE = torch.float32, torch.float64


def cases(shapes=((1, 10), (3, 40))):
    """(name, launch); shapes are coordinates and outputs."""
    for phases, kind in ((SINGLE, SINGLE), (DOUBLE, SINGLE), (DOUBLE, DOUBLE)):
        for d, m in shapes:
            out = torch.empty(3, 2, 256, m, dtype=kind)
            points, values = torch.empty(10_000, d, dtype=kind), torch.empty(10_000, m, dtype=kind)
            launch = _triton.launch(out, points, values, torch.empty(256, d, dtype=phases))
            yield f"response {kind} of {phases} phases, d {d} m {m}".replace("torch.", ""), launch


def more_cases():
    """(name, launch) of other numbers of coordinates and outputs."""
    return cases(((2, 1), (784, 10)))
