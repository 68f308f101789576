"""What the host code of all Triton kernels shares: launches, the GPU they run on, and which errors mean no memory.

Grids are one-dimensional: x holds 2^31 - 1 programs, y only 65,535. Importing this does not import triton.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Launch", "check_image", "is_out_of_memory", "run_on"]

MAX_GRID = (2**31 - 1, 65535, 65535)  # programs along x, y and z
MAX_REGISTERS, REGISTER_FILE = 255, 65536  # of a thread, and of a multiprocessor, on NVIDIA's GPUs
MAX_IMAGE = 2**31 - 2**16  # numbers of an image, or its spectrum, that kernels count in 32 bits, and a block beyond

# torch's allocator for CPUs, CUDA's and HIP's drivers, cuBLAS, cuSOLVER, cuDNN, cuFFT and cuSPARSE with AMD's
# counterparts, MAGMA, Triton ("Triton Error [CUDA]: out of memory"), NumPy. Not "out of resource": that is a kernel
# with too large a tile, which no smaller batch cures.
_NO_MEMORY = re.compile(
    r"out of memory|out_?of_?memory|(?:can't|cannot|unable to) allocate|not enough memory|ALLOC(?:ATION)?_?FAILED"
    r"|rocblas_status_memory_error",
    re.IGNORECASE,
)


class Launch(NamedTuple):
    """One kernel launch; `tests/kernels/test_compile.py` compiles the same ones for GPUs that are not there.

    `together` programs share the registers of a multiprocessor of NVIDIA's, whose assembler else spills a few to fit
    one more program on it; 0 leaves it alone. `cooperative`: its programs wait for each other, so that all of them must
    be on the GPU at once, or none starts.
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    warps: int
    together: int = 0
    cooperative: bool = False

    def __call__(self) -> None:
        if any(n > most for n, most in zip(self.grid, MAX_GRID, strict=False)):
            raise ValueError(
                f"expected a grid of at most {MAX_GRID} programs for {self.kernel.__name__}, got {self.grid}; "
                "pass fewer images, frequencies or matrices at a time"
            )
        self.kernel[self.grid](**self.arguments, **self.options)

    @property
    def options(self) -> dict[str, Any]:
        """How it is compiled. No loop has a load worth pipelining; Triton 3.9 warns if fusion is left to it."""
        options = {"num_warps": self.warps, "num_stages": 1, "enable_fp_fusion": True}
        if self.together and torch.version.hip is None:
            options["maxnreg"] = min(MAX_REGISTERS, REGISTER_FILE // (32 * self.warps * self.together))
        if self.cooperative:
            options["launch_cooperative_grid"] = True
        return options


def run_on(tensor: Tensor, launches: Callable[[], Iterable[Launch]]) -> None:
    """Make and run launches on the GPU of `tensor`: Triton launches on the current one, which need not be it."""
    if not tensor.is_cuda:
        _run(launches)
        return
    with torch.cuda.device(tensor.device):
        _run(launches)


def _run(launches: Callable[[], Iterable[Launch]]) -> None:
    for launch in launches():
        launch()


def check_image(numbers: int) -> None:
    """Refuse images (or spectra) whose numbers kernels that count them in 32 bits would run past."""
    if numbers > MAX_IMAGE:
        raise ValueError(f"expected at most {MAX_IMAGE} numbers in an image, got {numbers}; cut it into tiles")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the host, is out of memory, whichever library it came from."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None
