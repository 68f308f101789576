"""What compiled CPU code shares: the SIMD register as a numba type, and what several operations build of it.

    vector    a register, its loads, stores and arithmetic: one lane per matrix, row or column, no lane sees another
    moves     transposes, and loads and stores in other forms
    fft       complex Fourier transforms, one per lane
    planes    real planes to half planes of frequencies and back

All need numba; this file does not, and is how `_cpu.py` asks for an operation's `_compiled.py`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings
from types import ModuleType

__all__ = ["compiled"]


@functools.cache
def compiled(operation: str, loss: str) -> ModuleType | None:
    """The `_compiled.py` of an operation, or None where numba is absent, after one warning of what is lost."""
    if importlib.util.find_spec("numba") is None:
        warnings.warn(
            f"numba is not installed: {loss} on a CPU; pip install 'fastfreq[cpu]'", RuntimeWarning, stacklevel=2
        )
        return None
    return importlib.import_module(f"fastfreq_kernels.{operation}._compiled")
