"""Compiled code, where numba is installed."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings
from types import ModuleType

__all__ = ["compiled"]


@functools.cache
def compiled(module: str, loss: str) -> ModuleType | None:
    """The module of this package that needs numba, or None after one warning of what is lost without it."""
    if importlib.util.find_spec("numba") is None:
        warnings.warn(
            f"numba is not installed: {loss} on a CPU; pip install 'fastfreq[cpu]'", RuntimeWarning, stacklevel=2
        )
        return None
    return importlib.import_module(f"fastfreq_kernels.{module}")
