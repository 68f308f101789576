"""Symbols of convolutions against the dense matrices of the layers themselves, in float64."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff
from fastfreq.layers._values import distinct_values
from fastfreq.layers.singular_values import singular_values
from fastfreq.layers.symbols import conv_symbols_of

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def seeded(layer, seed=0):
    generator = torch.Generator().manual_seed(seed)
    layer = layer.double()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator, dtype=torch.float64))
    return layer


def dense(layer, size):
    """The layer as a matrix, by its action on unit images."""
    channels = layer.in_channels
    n = channels * int(np.prod(size))
    with torch.no_grad():
        out = layer(torch.eye(n, dtype=torch.float64).reshape(n, channels, *size))
    return out.reshape(n, -1).T.numpy()


def periodic_dense(layer, size):
    """The layer on a periodic grid by its definition, y[i] += W_j x[(s i + dil j - p) mod n], or the adjoint."""
    transposed = isinstance(layer, tuple(TRANSPOSED.values()))
    stride, dilation, groups = layer.stride, layer.dilation, layer.groups
    weight = layer.weight.detach().numpy()
    fine = tuple(n * s for n, s in zip(size, stride, strict=True)) if transposed else tuple(size)
    coarse = tuple(n // s for n, s in zip(fine, stride, strict=True))
    a, b = weight.shape[0], weight.shape[1] * groups
    out = np.zeros((a, *coarse, b, *fine))
    for i in itertools.product(*(range(n) for n in coarse)):
        for j in itertools.product(*(range(k) for k in layer.kernel_size)):
            x = tuple(
                (s * ii + d * jj - p) % n
                for s, ii, d, jj, p, n in zip(stride, i, dilation, j, layer.padding, fine, strict=True)
            )
            for g in range(groups):
                rows, columns = (
                    slice(g * a // groups, (g + 1) * a // groups),
                    slice(g * b // groups, (g + 1) * b // groups),
                )
                block = out[(rows, *i, columns, *x)]
                block += weight[(rows, slice(None), *j)]
    matrix = out.reshape(a * int(np.prod(coarse)), -1)
    return matrix.T if transposed else matrix


def all_values(layer, size, accuracy="exact", **keywords):
    result = singular_values(layer, input_size=size, accuracy=accuracy, **keywords)
    return np.sort(result.values.reshape(-1))[::-1], result


COMBINATIONS = [
    # dimension, transposed, stride, dilation, groups, kernel, size
    *itertools.product([1], [False, True], [1, 2, 3], [1, 2], [1, 2], [3, 4], [(6,), (12,)]),
    *itertools.product([2], [False, True], [1, 2], [1, 2], [1, 2], [3], [(6, 4), (4, 8)]),
    *itertools.product([2], [False], [1], [1, 3], [1, 4], [2, 5], [(5, 7), (3, 4)]),  # 5 > 3: wraps
    *itertools.product([3], [False, True], [1, 2], [1], [1, 2], [3], [(2, 4, 2)]),
]


@pytest.mark.parametrize("case", COMBINATIONS, ids=str)
def test_all_singular_values_of_the_periodic_map(case):
    d, transposed, stride, dilation, groups, kernel, size = case
    if not transposed and any(n % stride for n in size):
        pytest.skip("the stride does not divide the size")
    kind = (TRANSPOSED if transposed else CONV)[d]
    layer = seeded(kind(4, 8, kernel, stride=stride, dilation=dilation, groups=groups, padding=1, bias=False))
    truth = np.linalg.svd(periodic_dense(layer, size), compute_uv=False)
    found, result = all_values(layer, size, padding="circular")
    assert len(found) == result.count == len(truth)
    assert np.abs(found - truth).max() <= 1e-12 * truth[0]
    assert abs(result.frobenius - np.linalg.norm(truth)) <= 1e-12 * np.linalg.norm(truth)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(6, 8), (10, 4)])
def test_circular_padding_of_the_layer_itself_is_exact(size, stride):
    layer = seeded(nn.Conv2d(3, 5, 3, stride=stride, padding=1, padding_mode="circular", bias=False))
    truth = np.linalg.svd(dense(layer, size), compute_uv=False)
    found, result = all_values(layer, size)
    assert result.exact and result.note == ""
    assert np.abs(found[: len(truth)] - truth).max() <= 1e-12 * truth[0]


ZERO_PADDED = [
    nn.Conv2d(3, 4, 3, padding=1, bias=False),
    nn.Conv2d(3, 4, 3, padding=0, bias=False),
    nn.Conv2d(3, 4, 5, padding=2, stride=2, bias=False),
    nn.Conv2d(3, 4, (5, 3), padding="same", bias=False),
    nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, bias=False),
    nn.Conv2d(3, 4, 7, padding=3, stride=2, bias=False),
    nn.ConvTranspose2d(3, 4, 4, stride=2, padding=1, bias=False),
    nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1, groups=2, bias=False),
    nn.ConvTranspose2d(3, 4, 3, bias=False),
]


@pytest.mark.parametrize("layer", ZERO_PADDED, ids=str)
@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_zero_padding_is_bounded_value_by_value(layer, size):
    layer = seeded(layer)
    truth = np.linalg.svd(dense(layer, size), compute_uv=False)
    found, result = all_values(layer, size)
    assert not result.exact and "upper bound" in result.note
    assert (truth <= found[: len(truth)] * (1 + 1e-12)).all()
    assert found[0] <= 1.6 * truth[0]  # and the bound means something


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 5, 1, bias=False),
        nn.Conv2d(3, 5, 2, stride=2, bias=False),
        nn.Conv2d(6, 4, 1, stride=2, bias=False),
    ],
    ids=str,
)
def test_layers_that_never_reach_over_the_edge_are_exact_whatever_their_padding_mode(layer):
    layer = seeded(layer)
    truth = np.linalg.svd(dense(layer, (6, 4)), compute_uv=False)
    found, result = all_values(layer, (6, 4))
    assert result.exact
    assert np.abs(found[: len(truth)] - truth[: len(found)]).max() <= 1e-12 * truth[0]


@pytest.mark.parametrize(("n", "m"), [(8, 8), (7, 7), (8, 5), (6, 10)])
def test_only_distinct_frequencies_are_computed(n, m):
    layer = seeded(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular", bias=False))
    symbols = conv_symbols_of(layer, input_size=(n, m))
    assert len(symbols.frequencies) == (n * m + np.gcd(2, n) * np.gcd(2, m)) // 2
    assert int(symbols.multiplicity.sum()) == n * m


def test_one_by_one_kernels_and_dilation_share_matrices():
    point = conv_symbols_of(seeded(nn.Conv2d(3, 2, 1)), input_size=(9, 9))
    assert point.constant and int(point.multiplicity[0]) == 81
    dilated = seeded(nn.Conv2d(3, 2, 3, padding=2, dilation=2, padding_mode="circular"))
    symbols = conv_symbols_of(dilated, input_size=(8, 8))
    assert len(symbols.frequencies) == (4 * 4 + 4) // 2  # on the 4 x 4 grid of k mod 4


def test_depthwise_is_the_modulus_of_each_filters_transform():
    layer = seeded(nn.Conv2d(5, 5, 3, groups=5, padding=1, padding_mode="circular", bias=False))
    found = singular_values(layer, input_size=(6, 7)).values
    transforms = np.abs(np.fft.fft2(layer.weight.detach().numpy()[:, 0], s=(6, 7)))
    np.testing.assert_allclose(found, -np.sort(-transforms.transpose(1, 2, 0), axis=2), atol=1e-12)


@pytest.mark.parametrize("kernel", [7, 11, 15])  # by products with waves, and by an FFT
def test_wide_depthwise_kernels_are_the_moduli_of_their_transforms(kernel):
    layer = seeded(nn.Conv2d(6, 6, kernel, groups=6, padding=kernel // 2, padding_mode="circular", bias=False))
    found = singular_values(layer, input_size=(18, 21)).values
    transforms = np.abs(np.fft.fft2(layer.weight.detach().double().numpy()[:, 0], s=(18, 21)))
    np.testing.assert_allclose(found, -np.sort(-transforms.transpose(1, 2, 0), axis=2), atol=1e-12)


@pytest.mark.parametrize("accuracy", ["exact", "high", "fast"])
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(5, 5, 3, groups=5),
        nn.Conv2d(5, 10, (2, 5), groups=5, stride=2),
        nn.Conv2d(4, 4, 7, groups=4, dilation=2),
        nn.Conv2d(1, 6, 3),
        nn.ConvTranspose2d(6, 6, 4, groups=6, stride=2),
        nn.Conv3d(3, 3, 3, groups=3, stride=(1, 2, 2)),
        nn.Conv1d(3, 3, 9, groups=3),
    ],
    ids=str,
)
def test_matrices_of_one_row_or_column_have_their_length(layer, accuracy):
    layer = seeded(layer)
    size = (6, 8, 10)[: layer.weight.ndim - 2]
    symbols = conv_symbols_of(layer, input_size=size, padding="circular")
    waves = symbols.frequencies.numpy() / np.array(symbols.grid) @ symbols.offsets.numpy().T
    matrices = np.einsum("ft,gtab->fgab", np.exp(2j * np.pi * waves), symbols.taps.detach().numpy())
    truth = -np.sort(-np.linalg.svd(matrices, compute_uv=False).reshape(len(matrices), -1))
    found = distinct_values(symbols, accuracy)
    assert np.abs(found - truth).max() <= (1e-6 if accuracy == "fast" else 1e-14) * truth.max()


@pytest.mark.parametrize("transposed", [False, True])
def test_wrapped_taps_of_float32_are_summed_in_float64(transposed):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = seeded(kind(3, 4, (7, 5), bias=False)).float()
    truth = np.linalg.svd(periodic_dense(copy.deepcopy(layer).double(), (4, 3)), compute_uv=False)
    found, _ = all_values(layer, (4, 3), padding="circular")
    assert np.abs(found - truth).max() <= 1e-13 * truth[0]
    norm = ff.spectral_norm(layer, input_size=(4, 3), padding="circular")
    assert norm.dtype == torch.float32
    norm.backward()
    assert layer.weight.grad.dtype == torch.float32


def test_folded_batch_norms_are_exact_in_float32_too():
    layer = seeded(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular", bias=False)).float()
    norm = nn.BatchNorm2d(4).eval()
    nn.init.uniform_(norm.running_var, 0.3, 3.0)
    nn.init.uniform_(norm.weight, 0.3, 3.0)
    truth = np.linalg.svd(_folded(copy.deepcopy(layer).double(), copy.deepcopy(norm).double()), compute_uv=False)
    symbols = conv_symbols_of(layer, input_size=(4, 5), batch_norm=norm)
    values = distinct_values(symbols, "exact")[symbols.cells.numpy()]
    np.testing.assert_allclose(np.sort(values.reshape(-1)), np.sort(truth), atol=1e-13)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate"])
def test_layers_taken_as_circular_do_not_claim_to_be_exact(mode):
    layer = seeded(nn.Conv2d(3, 4, 3, padding=1, padding_mode=mode, bias=False))
    result = singular_values(layer, input_size=(6, 7), padding="circular")
    assert abs(result.norm / np.linalg.norm(dense(layer, (6, 7)), 2) - 1) > 1e-3
    assert not result.exact and result.other_padding and "taken as circular" in result.note
    inside = seeded(nn.Conv2d(3, 4, 2, stride=2, padding_mode=mode, bias=False))
    truth = np.linalg.norm(dense(inside, (6, 8)), 2)
    for padding in (None, "circular"):
        result = singular_values(inside, input_size=(6, 8), padding=padding)
        assert result.exact and result.note == "" and abs(result.norm / truth - 1) < 1e-7


class Standardised(nn.Conv2d):
    def forward(self, x):
        return torch.nn.functional.conv2d(x, self.weight - self.weight.mean(), self.bias)


def test_layers_that_do_more_to_their_weight_are_refused():
    with pytest.raises(TypeError, match="Standardised has another"):
        conv_symbols_of(Standardised(3, 4, 3), input_size=(6, 6))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
@pytest.mark.parametrize(
    "wrap",
    [nn.utils.weight_norm, nn.utils.spectral_norm, lambda layer: nn.utils.prune.l1_unstructured(layer, "weight", 0.5)],
)
def test_weights_that_hooks_make_are_those_of_the_next_forward_pass(wrap):
    torch.manual_seed(0)
    layer = wrap(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular", bias=False)).double().eval()
    layer(torch.zeros(1, 3, 6, 7, dtype=torch.float64))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.rand_like(parameter))
    found = singular_values(layer, input_size=(6, 7), accuracy="exact").norm
    norm = ff.spectral_norm(layer, input_size=(6, 7))
    exact = ff.layers.zero_padded_norm(layer, input_size=(6, 7))
    (norm + exact).backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in layer.parameters())
    truth = np.linalg.norm(dense(layer, (6, 7)), 2)
    np.testing.assert_allclose([found, float(norm.detach()), float(exact.detach())], truth, rtol=1e-9)


def test_batch_norm_scales_output_channels():
    layer = seeded(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular", bias=False))
    norm = nn.BatchNorm2d(4).double().eval()
    with torch.no_grad():
        norm.running_var.copy_(torch.tensor([0.5, 2.0, 1.0, 4.0]))
        norm.weight.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
    truth = np.linalg.svd(_folded(layer, norm), compute_uv=False)
    symbols = conv_symbols_of(layer, input_size=(4, 5), batch_norm=norm)
    values = distinct_values(symbols, "exact")[symbols.cells.numpy()]
    np.testing.assert_allclose(np.sort(values.reshape(-1)), np.sort(truth), atol=1e-12)


def _folded(layer, norm):
    matrix = dense(layer, (4, 5)).reshape(4, 20, -1)
    scale = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().numpy()
    return (matrix * scale[:, None, None]).reshape(80, -1)


@pytest.mark.parametrize(
    ("layer", "size", "error", "message"),
    [
        (
            nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
            (6, 6),
            ValueError,
            "expected zero or circular padding",
        ),
        (nn.Conv2d(3, 4, 3, stride=2, padding=1, padding_mode="circular"), (7, 6), ValueError, r"use \(8, 6\)"),
        (nn.Conv2d(3, 4, 3), (2, 2), ValueError, "an input larger than the kernel"),
        (nn.Conv2d(3, 4, 3), (6,), ValueError, "2 positive sides for Conv2d"),
        (nn.Conv2d(3, 4, 3, dtype=torch.cfloat), (6, 6), TypeError, "expected real weights"),
        (nn.LazyConv2d(4, 3), (6, 6), TypeError, "run one batch through it first"),
        (nn.ReLU(), (6, 6), TypeError, "expected a convolution"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_refusals(layer, size, error, message):
    with pytest.raises(error, match=message):
        conv_symbols_of(layer, input_size=size)


def test_weights_that_are_not_finite_are_refused():
    layer = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        layer.weight[1, 2, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="expected finite weights, got 1 NaN"):
        conv_symbols_of(layer, input_size=(6, 6))
