"""Layers done together, as on a GPU, and singular vectors from Gram matrices: here with the CPU's kernels.

`test_emulated_device.py` has the same on a device that is not there.
"""

import copy

import fastfreq_kernels as kernels
import numpy as np
import pytest
import torch
from fastfreq_kernels import _configs
from torch import nn

import fastfreq as ff
from fastfreq.layers import _gram_vectors, _together, _values
from fastfreq.layers._together import together
from fastfreq.layers._values import values_of
from fastfreq.layers.symbols import conv_symbols_of


def layers():
    """Of few sides, strided and grouped ones among them."""
    torch.manual_seed(0)
    every = [
        (nn.Conv2d(5, 7, 3, padding=1), (9, 8)),
        (nn.Conv2d(5, 40, 3, padding="same", padding_mode="circular"), (6, 7)),
        (nn.Conv2d(40, 36, 3, padding=1), (7, 7)),
        (nn.Conv2d(36, 36, 3, stride=2, padding=1), (8, 12)),
        (nn.Conv2d(10, 10, 3, padding=1, groups=2), (8, 6)),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), (8, 6)),  # depthwise: lengths
    ]
    return [conv_symbols_of(layer, input_size=size) for layer, size in every]


def dense(symbols):
    """All singular values by NumPy, (f, g r) descending."""
    matrices = kernels.conv_symbols(
        symbols.taps.detach().double(), symbols.offsets, symbols.frequencies, grid=symbols.grid
    )
    values = np.linalg.svd(matrices.numpy(), compute_uv=False).swapaxes(0, 1).reshape(len(symbols.frequencies), -1)
    return -np.sort(-values, axis=1)


@torch.no_grad()
@pytest.mark.parametrize(("accuracy", "tolerance"), [("exact", 1e-13), ("high", 1e-7), ("fast", 3.5e-4)])
def test_many_layers_are_one_launch_for_each_side_with_the_numbers_of_each_alone(accuracy, tolerance, monkeypatch):
    launches = []
    solve = kernels.hermitian_eigenvalues
    monkeypatch.setattr(kernels, "hermitian_eigenvalues", lambda p, **o: launches.append(p) or solve(p, **o))
    every = layers()
    found = together([values_of(one, accuracy, on_gpu=True) for one in every])
    kinds = {(p.shape[-1], p.dtype) for p in launches}
    assert len(launches) <= (2 * len(kinds) if accuracy == "fast" else len(kinds))  # "fast" asks again
    assert len(kinds) < len(every)
    for symbols, values in zip(every, found, strict=True):
        truth = dense(symbols)
        assert np.abs(values - truth).max() <= tolerance * truth.max()
    alone = [together([values_of(one, accuracy, on_gpu=True)])[0] for one in every]
    if accuracy == "fast":  # asks again for single matrices, which a CPU leaves to LAPACK, a GPU does not
        assert all(np.abs(a - b).max() <= 1e-6 * a.max() for a, b in zip(found, alone, strict=True))
    else:
        assert all(np.array_equal(a, b) for a, b in zip(found, alone, strict=True))


@torch.no_grad()
def test_memory_bounds_a_launch_and_changes_no_number(monkeypatch):
    every = layers()
    together_ = together([values_of(one, "high", on_gpu=True) for one in every])
    monkeypatch.setattr(_together, "TOGETHER_BYTES", 1)
    one_by_one = together([values_of(one, "high", on_gpu=True) for one in every])
    assert all(np.array_equal(a, b) for a, b in zip(together_, one_by_one, strict=True))
    monkeypatch.setattr(_values, "BLOCK_BYTES", 1 << 11)
    wanted = next(values_of(every[0], "high", on_gpu=True))
    assert len(wanted.blocks) > 3 and len(_together.launches_of([wanted])) == len(wanted.blocks)


@torch.no_grad()
def test_sides_that_a_gpu_does_not_take_are_the_hosts(monkeypatch):
    monkeypatch.setattr(_configs, "EIGENVALUES_LARGEST_SIDE", dict.fromkeys((torch.float32, torch.float64), 20))
    monkeypatch.setattr(_configs, "REDUCTION_LARGEST_SIDE", 20)
    solved = []
    solve = kernels.hermitian_eigenvalues
    monkeypatch.setattr(kernels, "hermitian_eigenvalues", lambda p, **o: solved.append(p.shape[-1]) or solve(p, **o))
    every = layers()
    for symbols, values in zip(every, together([values_of(one, "exact", on_gpu=True) for one in every]), strict=True):
        truth = dense(symbols)
        assert np.abs(values - truth).max() <= 1e-13 * truth.max()
    assert solved and max(solved) <= 20


@pytest.mark.gpu
@pytest.mark.parametrize(("accuracy", "tolerance"), [("exact", 1e-13), ("high", 1e-7), ("fast", 7e-4)])
def test_gpu_gives_the_cpus_values(accuracy, tolerance):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 40, 3, padding=1), nn.Conv2d(40, 150, 3, 2, 1), nn.Conv2d(150, 80, 1)).eval()
    expected = ff.singular_values(net, input_size=(3, 12, 14), accuracy=accuracy)
    found = ff.singular_values(net.cuda(), input_size=(3, 12, 14), accuracy=accuracy)
    for name, layer in expected.items():
        assert np.abs(found[name].distinct - layer.distinct).max() <= tolerance * layer.norm


@pytest.mark.gpu
def test_gpu_gives_the_cpus_vectors_and_projection():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    torch.manual_seed(0)
    layer = nn.Conv2d(70, 66, 3, padding=1, padding_mode="circular", bias=False).double()
    on_gpu = copy.deepcopy(layer).cuda()
    one, other = (ff.layers.singular_vectors(each, input_size=(6, 7), k=2) for each in (layer, on_gpu))
    torch.testing.assert_close(one.values, other.values, rtol=1e-12, atol=0)
    assert ((one.left.conj() * other.left).sum(dim=2).abs() - 1).abs().max() < 1e-9
    bound = 0.8 * float(ff.spectral_norm(layer, input_size=(6, 7)))
    one, other = (ff.layers.clip_singular_values(each, input_size=(6, 7), bound=bound) for each in (layer, on_gpu))
    torch.testing.assert_close(one.weight, other.weight.cpu(), rtol=0, atol=1e-9)


# ---------------------------------------------------------------- vectors
def some(a, b, spectrum=None, n=5):
    generator = torch.Generator().manual_seed(a)
    matrices = torch.randn(n, a, b, generator=generator, dtype=torch.complex128)
    if spectrum is None:
        return matrices
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    return (u * torch.tensor(spectrum, dtype=torch.float64)) @ vh


def identity_error(vectors):
    return float((vectors.mH @ vectors - torch.eye(vectors.shape[-1])).abs().max())


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(_gram_vectors, "by_gram", lambda side, matrices: True)


@pytest.fixture
def left_to_lapack(monkeypatch):
    """How many matrices were."""
    counts = []
    svd = kernels.channel_svd
    monkeypatch.setattr(kernels, "channel_svd", lambda m: counts.append(len(m)) or svd(m))
    return counts


@pytest.mark.parametrize(("a", "b"), [(9, 6), (6, 9), (7, 7)])
def test_leading_triples(a, b, left_to_lapack):
    matrices = some(a, b).reshape(1, 5, a, b)
    u, s, vh = _gram_vectors.leading_triples(matrices, 3)
    torch.testing.assert_close(s, torch.linalg.svdvals(matrices)[..., :3], rtol=1e-13, atol=0)
    assert u.shape == (1, 5, a, 3) and vh.shape == (1, 5, 3, b) and not left_to_lapack
    assert max(identity_error(u), identity_error(vh.mH)) < 1e-12
    assert (matrices @ vh.mH - u * s[..., None, :]).abs().max() < 1e-12 * s.max()
    assert (matrices.mH @ u - vh.mH * s[..., None, :]).abs().max() < 1e-12 * s.max()


@pytest.mark.parametrize("spectrum", [[1, 1, 1, 1, 1, 1], [3, 3, 1, 1e-4, 1e-9, 0], [1, 0, 0, 0, 0, 0]])
def test_equal_and_small_values(spectrum, left_to_lapack):
    matrices = some(8, 6, spectrum)
    u, s, vh = _gram_vectors.leading_triples(matrices, 6)
    assert left_to_lapack == ([5] if min(spectrum) < 1e-2 else [])
    assert max(identity_error(u), identity_error(vh.mH)) < 1e-12
    assert ((u * s[:, None]) @ vh - matrices).abs().max() < 1e-13 * max(spectrum) * 10
    values, right = _gram_vectors.right_vectors(matrices)
    assert identity_error(right.mH) < 1e-12
    assert (values - torch.tensor(spectrum)).abs().max() < 1e-7 * max(spectrum)


@pytest.mark.parametrize(("bound", "expected"), [(0.5, 0), (5.0, 0), (1e-3, 1)])
def test_excess_over_a_bound(bound, expected, left_to_lapack):
    for matrices in (some(6, 4, [2, 1, 0.3, 1e-9]), some(4, 6, [2, 1, 0.3, 1e-9])):
        u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
        left_to_lapack.clear()
        excess, largest = _gram_vectors.excess_over(matrices, bound)
        torch.testing.assert_close(excess, (u * (s - bound).clamp_min(0)[:, None]) @ vh, rtol=0, atol=1e-13)
        assert abs(float(largest) - 2) < 1e-13 and len(left_to_lapack) == expected


@pytest.mark.parametrize("n", [3, 11])
def test_principal_directions(n):
    data = some(5, n)
    for given, factor in ((data, True), (data @ data.mH, False)):
        directions, eigenvalues = _gram_vectors.principal_directions(given, factor=factor)
        r = min(5, n) if factor else 5
        assert eigenvalues.shape == (5, r) and identity_error(directions) < 1e-13
        moments = data @ data.mH
        torch.testing.assert_close((directions * eigenvalues[:, None]) @ directions.mH, moments, rtol=0, atol=1e-12)
