"""What Python calls of compiled code: compiled for the types it is called with, and kept for the next process.

numba's own cache knows a function by its file's time of change. This one knows it by the contents of all files of
compiled code, so that a change to what a function calls is noticed, too. It lies where numba puts its own: in
NUMBA_CACHE_DIR, beside the file, or in the user's cache.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import caching
from numba.core.registry import CPUDispatcher

__all__ = ["entry"]

_ROOT = Path(__file__).parents[1]


def entry(function: Callable[..., Any]) -> Any:
    """Decorates what is called from Python."""
    dispatcher: Any = njit(nogil=True, error_model="numpy")(function)
    dispatcher.__class__ = _Dispatcher
    with contextlib.suppress(RuntimeError):  # nowhere to write: it is compiled in every process
        dispatcher._cache = _Cache(function)
    return dispatcher


class _Dispatcher(CPUDispatcher):
    """numba's, which spends a sixth of its time on looking for garbage among millions of objects that are none."""

    def compile(self, sig: Any) -> Any:
        with _no_collection():
            return super().compile(sig)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


class _Cache(caching.FunctionCache):
    """numba's, by another stamp."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = caching.IndexDataCacheFile(
            cache_path=self._cache_path, filename_base=self._impl.filename_base, source_stamp=stamp(_ROOT)
        )


@functools.cache
def stamp(root: Path) -> str:
    """Of the contents of all files under `root` that know numba, or registers of `simd`."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        text = path.read_bytes()
        if b"numba" in text or b"simd" in text:
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + text + b"\0")
    return digest.hexdigest()
