"""Sedghi, Gupta, Long 2019, section 3, in the lines that the paper gives: a 2-D FFT of the kernel, then all SVDs.

`as_written` is NumPy as published, which computes in complex128 whatever comes in. `best` is the same method in the
configuration found fastest: the FFT in the weight's precision, LAPACK through torch (MKL where torch has it), and the
frequencies split over threads with one BLAS thread each. `numpy_in_threads` is the same with NumPy's LAPACK (OpenBLAS),
the faster of the two in complex128 on some machines.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor


def as_written(kernel: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Singular values (h, w, r) of a kernel (k, k, c_in, c_out), as in the paper."""
    transforms = np.fft.fft2(kernel, size, axes=(0, 1))
    return np.linalg.svd(transforms, compute_uv=False)


def best(weight: Tensor, size: tuple[int, int], threads: int) -> Tensor:
    """The same values for a weight (c_out, c_in, k, k), (h w, r)."""
    symbols = torch.fft.fft2(weight, s=size).permute(2, 3, 0, 1).reshape(-1, *weight.shape[:2])
    return split(torch.linalg.svdvals, symbols, threads)


def numpy_in_threads(weight: Tensor, size: tuple[int, int], threads: int) -> np.ndarray:
    """The same values in complex128 (h w, r)."""
    symbols = np.fft.fft2(weight.double().permute(2, 3, 0, 1).contiguous().numpy(), size, axes=(0, 1))
    parts = np.array_split(symbols.reshape(-1, *weight.shape[:2]), threads)
    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(lambda part: np.linalg.svd(part, compute_uv=False), parts)))


def split(function: Callable[[Tensor], Tensor], matrices: Tensor, threads: int) -> Tensor:
    """`function` of a batch, its parts in threads with one BLAS thread each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return torch.cat(list(pool.map(function, matrices.chunk(threads))))
    finally:
        torch.set_num_threads(before)
