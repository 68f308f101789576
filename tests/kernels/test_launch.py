"""Launches: grids within the limits of GPUs, and which errors mean that memory ran out."""

import dataclasses
import importlib
from pathlib import Path

import fastfreq_kernels
import numpy as np
import pytest
import torch
from fastfreq_kernels._launch import Launch, check_image, is_out_of_memory


@pytest.mark.parametrize(
    "message",
    [
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes.",
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
        "CUDA driver error: out of memory",
        "CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY",
        "HIP error: hipErrorOutOfMemory",
        "MPS backend out of memory (MPS allocated: 9.05 GB, other allocations: 1.00 MB, max allowed: 9.07 GB).",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`",
        "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "cuFFT error: CUFFT_ALLOC_FAILED",
        "rocblas error: rocblas_status_memory_error",
        "MIOpen Error: miopenStatusAllocFailed",
        "Triton Error [CUDA]: out of memory",
        "Triton Error [HIP]:  Code: 2, Messsage: out of memory",
    ],
)
def test_every_library_says_no_memory_in_its_own_words(message):
    assert is_out_of_memory(RuntimeError(message))


def test_errors_that_are_no_memory_by_their_type():
    assert is_out_of_memory(torch.OutOfMemoryError("Allocation on device 0"))
    with pytest.raises(MemoryError) as caught:
        np.empty(2**48)
    assert is_out_of_memory(caught.value)
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**48)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("out of resource: shared memory, Required: 294912, Hardware limit: 232448"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_EXECUTION_FAILED"),
        RuntimeError("expected one image to fit in memory, it does not; use a smaller precision"),
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
        ValueError("out of memory"),
    ],
    ids=str,
)
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)


def test_a_grid_that_no_gpu_takes_is_refused_by_name():
    def some_kernel():
        raise AssertionError

    for grid in ((2**31,), (1, 65536)):
        with pytest.raises(ValueError, match=r"for some_kernel, got \(.*; pass fewer images"):
            Launch(some_kernel, grid, {}, 4)()
    with pytest.raises(ValueError, match="cut it into tiles"):
        check_image(2**31 - 1)
    check_image(2**30)


def test_no_kernel_has_a_parameter_that_a_launch_takes_for_its_own():
    """Such a launch is refused, or worse, on a GPU alone: neither the interpreter nor a compilation launches."""
    pytest.importorskip("triton")
    from triton.backends.amd.compiler import HIPOptions
    from triton.backends.nvidia.compiler import CUDAOptions

    taken = {"grid", "warmup", "stream", "device", "device_type"}
    taken |= {field.name for options in (CUDAOptions, HIPOptions) for field in dataclasses.fields(options)}
    files = sorted(Path(fastfreq_kernels.__file__).parent.glob("*/_triton*.py"))
    modules = [importlib.import_module(f"fastfreq_kernels.{file.parent.name}.{file.stem}") for file in files]
    kernels = [k for module in modules for name, k in vars(module).items() if name.endswith("_kernel")]
    assert len(kernels) > 15
    assert not {kernel.__name__: found for kernel in kernels if (found := taken & set(kernel.arg_names))}


def test_products_of_wide_convolutions_fit_the_grid():
    """Above c = 8,160 the tiles of one lag are more than y of a grid holds."""
    pytest.importorskip("triton")
    from fastfreq_kernels.conv_gram import _triton

    taps, out = torch.empty(1, 2, 9000, 9000, device="meta"), torch.empty(1, 1, 9000, 9000, device="meta")
    frequencies, offsets = torch.zeros(1, 2, dtype=torch.int64, device="meta"), torch.tensor([[0, 0], [0, 1]])
    lags, _ = _triton.launches(out, taps, offsets, frequencies, (8, 8))
    assert lags.grid == (2 * 282**2,)
