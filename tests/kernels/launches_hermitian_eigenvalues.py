"""Every tile that is not small, of every precision, filled; the smallest; in registers and in memory."""

import functools

import fastfreq_kernels as kernels
import torch
from fastfreq_kernels import _configs
from fastfreq_kernels.hermitian_eigenvalues import _triton_memory

DTYPES = (torch.float32, torch.float64)


def cases():
    """(name, call) of larger tiles, which the smaller ones follow on."""
    for dtype in DTYPES:
        for c in (32, 64, 256, 1024):
            yield f"{str(dtype).removeprefix('torch.')} side {c}", eigenvalues(c, dtype)
        yield f"{str(dtype).removeprefix('torch.')} side 1024, programs that wait for each other", shared(1024, dtype)
    tile = _configs.REDUCTION_HELD[torch.float32][128][0]
    _, (fold, reduction) = held(128, torch.float32, tile, 4)
    yield "float32 side 128, in one matrix", fold
    yield "float32 side 128, held back, shared, sm_90 only", reduction


def more_cases():
    """(name, call) of the smallest tile, of the others, and of odd sides."""
    for dtype in DTYPES:
        for c in (1, 16, 33, 65, 128, 257, 512, 1000):
            yield f"{str(dtype).removeprefix('torch.')} side {c}", eigenvalues(c, dtype)
        for c in (128, 256, 512):
            yield f"{str(dtype).removeprefix('torch.')} side {c}, shared", shared(c, dtype)
        for c in (1, 16, 33, 64, 128, 256, 512, 1024):
            _, (_, reduction) = _triton_memory.launches(torch.zeros(8, c, c, dtype=dtype), keep=True)
            yield f"{str(dtype).removeprefix('torch.')} side {c} with vectors", reduction
        for c, tiles in _configs.REDUCTION_HELD[dtype].items():
            for tile in tiles:
                _, (_, reduction) = held(c, dtype, tile)
                yield f"{str(dtype).removeprefix('torch.')} side {c}, held back {tile}, sm_90 only", reduction
            _, (_, reduction) = held(c, dtype, tiles[0], 4)
            yield f"{str(dtype).removeprefix('torch.')} side {c}, held back, shared, sm_90 only", reduction


def held(c, dtype, tile, programs=1):
    """Launches for two matrices with updates held back, as `tune.py` tries them; if shared, with what leads back."""
    zeros, tile = torch.zeros(2, c, c, dtype=dtype), _configs.ReductionTile(c, *tile)
    return _triton_memory.launches(zeros, keep=programs > 1, programs=programs, tile=tile)


def shared(c, dtype):
    """The reduction of two matrices by four programs each."""
    _, (_, reduction) = _triton_memory.launches(torch.zeros(2, c, c, dtype=dtype), keep=False, programs=4)
    return reduction


def eigenvalues(c, dtype):
    """Of eight matrices of side c."""
    return functools.partial(kernels.hermitian_eigenvalues, torch.zeros(8, c, c, dtype=dtype))
