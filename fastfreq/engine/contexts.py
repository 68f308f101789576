"""What a measurement must not depend on: the caller's autograd, autocast and precision, and chance."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .arithmetic import float32
from .memory import is_out_of_memory
from .workers import told_where_read

_STEADY = 1e-5  # of the largest value: by how much two passes over the same images may differ
_ALONE = 1e-3  # of the largest value: rounding, which may depend on an image's neighbours, stays below


@contextlib.contextmanager
def undisturbed(gradients: bool = False) -> Iterator[None]:
    """Without a graph, in the precision asked for, whatever the caller is in; without inference mode for gradients.

    What a signal says of a DataLoader's workers waits until images are read.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(told_where_read())
        stack.enter_context(torch.inference_mode(not gradients))
        stack.enter_context(torch.no_grad())
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(float32("ieee"))
        yield


def warn_if_unsteady(name: str, first: Tensor, second: Tensor, *, stacklevel: int) -> bool:
    """Warn where two passes of a model over the same images differ; whether they do."""
    finite = first[torch.isfinite(first)]
    scale = max(1e-6, float(finite.abs().max()) if finite.numel() else 0.0)
    unsteady = not torch.allclose(first, second, rtol=0, atol=_STEADY * scale, equal_nan=True)
    if unsteady:
        warnings.warn(
            f"{name} gives different outputs for the same images twice: it is random in evaluation mode, or keeps a "
            f"state between calls; no figure can be repeated",
            stacklevel=stacklevel + 1,
        )
    return unsteady


def warn_if_not_alone(name: str, alone: Tensor, beside_another: Tensor) -> None:
    """Warn where outputs for an image differ by the image that is beside it in the batch."""
    finite = alone[torch.isfinite(alone)]
    scale = max(1e-6, float(finite.abs().max()) if finite.numel() else 0.0)
    if not torch.allclose(alone, beside_another, rtol=0, atol=_ALONE * scale, equal_nan=True):
        warnings.warn(
            f"{name} gives other outputs for an image where another one is beside it in the batch, as batch "
            f"norm without running statistics does: figures depend on batch_size and on the order of images",
            stacklevel=callers_level(),
        )


def callers_level() -> int:
    """The `stacklevel` at which a warning names the caller's line, not one of this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "fastfreq":
        level, frame = level + 1, frame.f_back
    return level


def fitting(run: Callable[[int], object], size: int) -> int:
    """The first of `size`, its half, its quarter ... for which `run` does not run out of memory.

    Raises:
        RuntimeError: not even one fits.
    """
    while True:
        try:
            run(size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or size == 1:
                raise
            size = -(-size // 2)
        else:
            return size
