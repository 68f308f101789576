"""What Python calls of compiled code: compiled for the types it is called with, and kept for the next process.

numba's own cache knows a function by its file's time of change. This one knows it by the contents of all files of
compiled code, so that a change to what a function calls is noticed, too. It lies where numba puts its own: in
NUMBA_CACHE_DIR, beside the file, or in the user's cache.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import caching

__all__ = ["entry"]

_ROOT = Path(__file__).parents[1]


def entry(function: Callable[..., Any]) -> Any:
    """Decorates what is called from Python."""
    dispatcher: Any = njit(nogil=True, error_model="numpy")(function)
    with contextlib.suppress(RuntimeError):  # nowhere to write: it is compiled in every process
        dispatcher._cache = _Cache(function)
    return dispatcher


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
