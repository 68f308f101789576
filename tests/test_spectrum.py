"""The figures of a layer's and a model's singular values against dense NumPy; files, shards, tables, refusals."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from fastfreq.layers.layer_singular_values import LayerSingularValues
from fastfreq.layers.singular_values import SingularValues, singular_values
from fastfreq.results.registry import load


@pytest.fixture(scope="module")
def conv():
    torch.manual_seed(0)
    return nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular")


@pytest.fixture(scope="module")
def layer(conv):
    return singular_values(conv, input_size=(5, 6), accuracy="exact")


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 6, 3, stride=2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5),
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def model(net):
    return singular_values(net, input_size=(3, 9, 12))


def made(distinct, cells, frequencies, *, exact=True, accuracy="exact", name="conv"):
    """A layer's spectrum from its arrays alone."""
    cells = np.asarray(cells)
    distinct = np.asarray(distinct, dtype=np.float64)
    return LayerSingularValues(
        name=name, layer_type="Conv2d", weight_shape=(4, 3, 3, 3), input_size=cells.shape, grid=cells.shape,
        frequencies=np.asarray(frequencies), cells=cells, multiplicity=np.bincount(cells.reshape(-1)),
        distinct=distinct, accuracy=accuracy, exact=exact, note="",
    )  # fmt: skip


def dense_values(conv, size):
    """All singular values of a layer from the matrix that it is, in float64."""
    wide = copy.deepcopy(conv).double()
    n = conv.in_channels * int(np.prod(size))
    with torch.no_grad():
        images = torch.eye(n, dtype=torch.float64).reshape(n, conv.in_channels, *size)
        matrix = (wide(images) - wide(torch.zeros_like(images[:1]))).reshape(n, -1)
    return np.linalg.svd(matrix.numpy(), compute_uv=False)


def test_figures_of_a_layer_are_those_of_its_dense_matrix(layer, conv):
    values = dense_values(conv, (5, 6))
    np.testing.assert_allclose(np.sort(layer.values, axis=None)[::-1], values, atol=1e-12)
    assert values.size == layer.count == 5 * 6 * 3
    np.testing.assert_allclose([layer.norm, layer.smallest], [values[0], values[-1]])
    np.testing.assert_allclose(layer.condition, values[0] / values[-1])
    np.testing.assert_allclose(layer.frobenius, np.linalg.norm(values))
    np.testing.assert_allclose(layer.stable_rank, (values**2).sum() / values[0] ** 2)
    p = values / values.sum()
    np.testing.assert_allclose(layer.effective_rank, np.exp(-(p * np.log(p)).sum()))
    shares = [0.05, 0.25, 0.5, 0.75, 0.95]
    np.testing.assert_allclose(layer.quantiles(shares), np.quantile(values, shares, method="inverted_cdf"))
    counts, edges = layer.histogram(7)
    assert counts.sum() == layer.count
    np.testing.assert_array_equal(counts, np.histogram(layer.values, edges)[0])
    assert len(layer.distinct) == (5 * 6 + 2) // 2  # twins share a row; (0, 0) and (0, 3) are their own


def test_multiplicities_count_in_every_figure():
    spectrum = made([[3.0, 1.0], [2.0, 0.5]], [[0, 1, 1, 1, 0]], [(0, 0), (0, 1)])
    values = np.array([3.0, 1] * 2 + [2, 0.5] * 3)
    assert spectrum.count == 10 and spectrum.median == 1.0
    np.testing.assert_allclose(spectrum.frobenius**2, (values**2).sum())
    p = values / values.sum()
    np.testing.assert_allclose(spectrum.effective_rank, np.exp(-(p * np.log(p)).sum()))
    np.testing.assert_array_equal(spectrum.histogram([0, 0.75, 1.5, 4])[0], [3, 2, 5])
    np.testing.assert_array_equal(spectrum.values[0, 3], [2, 0.5])
    frame = spectrum.to_dataframe()
    assert (frame["value"] ** 2 * frame["multiplicity"]).sum() == (values**2).sum()
    assert list(frame["index"]) == [0, 1, 0, 1] and list(frame["kx"]) == [0, 0, 1, 1]


@pytest.mark.parametrize("grid", [(5, 6), (4, 9), (7,), (3, 4, 5)], ids=str)
def test_radii_and_rings_are_in_cycles_per_pixel(grid):
    n = int(np.prod(grid))
    frequencies = np.stack(np.unravel_index(np.arange(n), grid), axis=1)
    values = np.random.default_rng(0).random((n, 1))
    spectrum = made(values, np.arange(n).reshape(grid), frequencies)
    each = np.meshgrid(*(np.fft.fftfreq(k) for k in grid), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in each))
    np.testing.assert_allclose(spectrum.radius, radius)
    profile = spectrum.profile()
    assert profile.cells.sum() == n and profile.radius[0] == 0
    ring = np.floor(radius * min(grid) + 0.5)
    for k, r in enumerate(profile.radius):
        inside = values.reshape(grid)[ring == round(r * min(grid))]
        expected = [inside.max(), np.median(inside), inside.min(), inside.size]
        np.testing.assert_allclose(
            [profile.largest[k], profile.median[k], profile.smallest[k], profile.cells[k]], expected
        )


def test_conditions_below_the_accuracy_are_not_resolved():
    spectrum = made([[1.0, 1e-9]], [[0]], [(0, 0)], accuracy="high")
    assert not spectrum.resolved and spectrum.condition == 1 / 1e-9
    assert 1e6 < spectrum.condition_low < 1e7
    assert made([[1.0, 1e-9]], [[0]], [(0, 0)]).resolved
    zero = made([[1.0, 0.0]], [[0]], [(0, 0)])
    assert zero.condition == np.inf and not zero.resolved


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy": "medium"}, "expected `accuracy`"),
        ({"distinct": np.array([[1.0, 2.0]])}, "descending along its rows"),
        ({"distinct": np.array([[1.0, np.nan]])}, "finite"),
        ({"distinct": np.array([[np.inf, 1.0]])}, "finite"),
        ({"distinct": np.array([[1.0, -1.0]])}, "not negative"),
        ({"distinct": np.zeros((1, 0))}, "neither of them 0"),
        ({"frequencies": np.zeros((2, 2), int)}, "`frequencies` of shape"),
        ({"cells": np.array([[0, 1]])}, "`cells`"),
        ({"cells": np.array([[-1]])}, "`cells` from 0"),
        ({"multiplicity": np.array([2])}, "`multiplicity` to count"),
    ],
    ids=str,
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    good = made([[2.0, 1.0]], [[0]], [(0, 0)])
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(good, **change)


def test_a_zero_layer_has_rank_zero():
    conv = nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")
    nn.init.zeros_(conv.weight)
    spectrum = singular_values(conv, input_size=(4, 4))
    assert (spectrum.norm, spectrum.effective_rank, spectrum.stable_rank) == (0, 0, 0)


def test_layers_files_and_frames_keep_everything(layer, model, tmp_path):
    layer.save(tmp_path / "layer.npz")
    again = load(tmp_path / "layer.npz")
    np.testing.assert_array_equal(again.values, layer.values)
    assert (again.name, again.exact, again.grid) == (layer.name, layer.exact, layer.grid)
    model.save(tmp_path / "model.npz")
    again = load(tmp_path / "model.npz")
    assert list(again) == list(model) == ["0", "3", "4"] and again.skipped == model.skipped
    np.testing.assert_array_equal(again["4"].values, model["4"].values)
    frame = layer.to_dataframe()
    assert np.isclose((frame["value"] ** 2 * frame["multiplicity"]).sum(), layer.frobenius**2)
    assert len(model.to_dataframe()) == 3


def test_what_is_no_convolution_is_listed(model):
    assert {name: kind for name, kind, _ in model.skipped} == {"1": "BatchNorm2d", "7": "Linear"}
    with pytest.raises(KeyError, match="was skipped: linear"):
        model["7"]
    with pytest.raises(KeyError, match="expected one of the 3 layers"):
        model["conv"]


def shard(*names, execution=("a", "b", "c"), **changes):
    layers = {name: made([[2.0, 1.0]], [[0]], [(0, 0)], name=name) for name in names}
    skipped = tuple((name, "Conv2d", "in another shard") for name in execution if name not in names)
    fields = {"model": "Net", "input_size": (3, 8, 8), "details": {"accuracy": "exact"}, **changes}
    return SingularValues(layers=layers, skipped=(*skipped, ("fc", "Linear", "linear")), execution=execution, **fields)


def test_shards_add_up_in_order_of_execution():
    whole = shard("c") + shard("b", "a")
    assert list(whole) == ["a", "b", "c"]
    assert whole.skipped == (("fc", "Linear", "linear"),)  # what another shard has is not skipped any more
    assert whole.product_of_norms == 8 and list(whole.norms.values()) == [2, 2, 2]


def test_shards_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"different layers, 1 are in both \(the first: b\)"):
        shard("a", "b") + shard("b", "c")
    for name, other in (
        ("model", "Other"),
        ("input_size", (3, 9, 9)),
        ("settings", {"padding": "x"}),
        ("execution", ("a",)),
    ):
        with pytest.raises(ValueError, match=f"the same {name}"):
            shard("a") + shard("b", **{name: other})


def test_layers_of_two_runs_add_up_to_the_whole_model(net, model):
    halves = [singular_values(net, input_size=(3, 9, 12), layers=names) for names in (["3"], ["0", "4"])]
    assert (halves[0] + halves[1]).norms == model.norms


def test_linear_layers_and_batch_norm_on_request(net):
    with torch.no_grad():
        net[1].running_var.fill_(4.0)
    folded = singular_values(net, input_size=(3, 9, 12), linear=True, fold_batch_norm=True)
    plain = singular_values(net, input_size=(3, 9, 12))
    np.testing.assert_allclose(folded["0"].norm, plain["0"].norm / np.sqrt(4 + 1e-5))
    truth = np.linalg.svd(net[7].weight.detach().numpy().astype(float), compute_uv=False)
    np.testing.assert_allclose(folded["7"].values, truth[None], atol=1e-12)


def test_hooks_are_removed_and_the_mode_restored(net):
    net.train()
    singular_values(net, input_size=(3, 9, 12))
    assert net.training and all(not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())
    net.eval()


def test_models_that_cannot_run_say_what_to_pass(net):
    with pytest.raises(ValueError, match=r"zeros of shape \(1, 4, 9, 12\).*`input_size`"):
        singular_values(net, input_size=(4, 9, 12))
    with pytest.raises(ValueError, match="expected `layers` among the convolutions"):
        singular_values(net, input_size=(3, 9, 12), layers=["9"])
    with pytest.raises(ValueError, match="expected `accuracy` of 'exact'"):
        singular_values(net, input_size=(3, 9, 12), accuracy="medium")


def test_one_layer_that_cannot_be_done_loses_no_other():
    net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), nn.Conv2d(3, 3, 3))
    result = singular_values(net, input_size=(3, 8, 8))
    assert list(result) == ["1"] and "expected zero or circular padding" in result.skipped[0][2]
