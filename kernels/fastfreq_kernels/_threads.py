"""Batches split over Python threads with one BLAS thread each: LAPACK and compiled code release the GIL.

Many small matrices parallelise over matrices, not inside one: a threaded LAPACK call on each spends its time waiting.
And after each loop of torch's own threads they spin for milliseconds, on the cores that the next split would use.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

__all__ = ["each_in_threads", "own_threads_only", "split_over_threads"]


class _Local(threading.local):
    threads = 0  # that torch could use where `own_threads_only` began; 0 outside


_local = _Local()


@contextlib.contextmanager
def own_threads_only() -> Iterator[None]:
    """Torch's loops in one thread of the caller inside; the functions below still use all that torch could use."""
    if _local.threads:
        yield
        return
    with _set(torch.get_num_threads(), of_torch=1):
        yield


@contextlib.contextmanager
def _set(ours: int, *, of_torch: int) -> Iterator[None]:
    before = _local.threads, torch.get_num_threads()
    _local.threads = ours
    torch.set_num_threads(of_torch)  # of this thread's OpenMP, and of MKL everywhere
    try:
        yield
    finally:
        _local.threads = before[0]
        torch.set_num_threads(before[1])


def split_over_threads(run: Callable[[int, int], object], count: int, *, multiple: int = 1) -> None:
    """Call ``run(start, stop)`` on ranges that cover 0 .. count, one per thread that torch may use.

    Args:
        run: writes its part of the result; an exception reaches the caller.
        count: number of matrices.
        multiple: starts of ranges are multiples of this.
    """
    threads = _local.threads or torch.get_num_threads()
    steps = -(-count // multiple)
    edges = [min(count, multiple * (steps * part // threads)) for part in range(threads + 1)]
    each_in_threads([functools.partial(run, a, b) for a, b in zip(edges, edges[1:], strict=False) if a < b])


def each_in_threads(tasks: Sequence[Callable[[], object]]) -> None:
    """Call every task, in order, each in the first thread that is free; an exception reaches the caller.

    Torch's modes belong to a thread: the tasks run in the caller's inference and gradient mode.
    """
    threads = min(_local.threads or torch.get_num_threads(), len(tasks))
    if threads <= 1:
        for task in tasks:
            task()
        return
    waiting = collections.deque(tasks)

    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def in_modes() -> None:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            work()

    def work() -> None:
        while True:
            try:
                task = waiting.popleft()
            except IndexError:
                return
            task()

    with _set(1, of_torch=1), ThreadPoolExecutor(threads - 1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        others = [pool.submit(in_modes) for _ in range(threads - 1)]
        work()
        for other in others:
            other.result()
