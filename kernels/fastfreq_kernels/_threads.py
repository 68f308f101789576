"""Batches split over Python threads with one BLAS thread each: LAPACK and compiled code release the GIL.

Many small matrices parallelise over matrices, not inside one: a threaded LAPACK call on each spends its time waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

__all__ = ["split_over_threads"]


def split_over_threads(run: Callable[[int, int], object], count: int, *, multiple: int = 1) -> None:
    """Call ``run(start, stop)`` on ranges that cover 0 .. count, one per thread that torch may use.

    Args:
        run: writes its part of the result; an exception reaches the caller.
        count: number of matrices.
        multiple: starts of ranges are multiples of this.
    """
    threads = torch.get_num_threads()
    steps = -(-count // multiple)
    edges = [min(count, multiple * (steps * part // threads)) for part in range(threads + 1)]
    parts = [(a, b) for a, b in zip(edges, edges[1:], strict=False) if a < b]
    if len(parts) <= 1:
        for part in parts:
            run(*part)
        return
    torch.set_num_threads(1)  # of this thread's OpenMP, and of MKL everywhere
    try:
        with ThreadPoolExecutor(len(parts), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(lambda part: run(*part), parts))
    finally:
        torch.set_num_threads(threads)
