"""The figures of a layer's and a model's singular values against dense NumPy; files, shards, tables, plots."""

import numpy as np
import pytest
import torch
from torch import nn

from fastfreq.core.loading import load
from fastfreq.core.spectrum import ModelSpectrum
from fastfreq.layers.singular_values import singular_values


@pytest.fixture(scope="module")
def layer():
    torch.manual_seed(0)
    return singular_values(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), input_size=(5, 6), accuracy="exact")


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


def test_figures_of_a_layer(layer):
    values = layer.values.reshape(-1)
    assert values.size == layer.count == 5 * 6 * 3
    assert layer.norm == values.max() and layer.smallest == values.min()
    np.testing.assert_allclose(layer.frobenius, np.linalg.norm(values))
    np.testing.assert_allclose(layer.stable_rank, (values**2).sum() / values.max() ** 2)
    p = values / values.sum()
    np.testing.assert_allclose(layer.effective_rank, np.exp(-(p * np.log(p)).sum()))
    np.testing.assert_allclose(
        layer.quantiles(), np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95], method="inverted_cdf")
    )
    counts, edges = layer.histogram(7)
    np.testing.assert_array_equal(counts, np.histogram(values, edges)[0])
    assert layer.condition == values.max() / values.min() and layer.resolved
    profile = layer.profile()
    assert profile.cells.sum() == 30 and profile.largest.max() == layer.norm


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


def test_shards_by_layer_add_up(net, model):
    halves = [singular_values(net, input_size=(3, 9, 12), layers=names) for names in (["3"], ["0", "4"])]
    together = halves[0] + halves[1]
    assert isinstance(together, ModelSpectrum) and together.norms.keys() == model.norms.keys()
    assert together.norms == model.norms


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


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
def test_plots_of_layers(kind):
    size = (6, 5, 4)[: {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}[kind]]
    figure = singular_values(kind(2, 3, 3, padding=1), input_size=size).plot()
    curve, largest = figure.axes[:2]
    shares = curve.collections[0].get_offsets()[:, 0]
    assert (np.diff(shares) > 0).all() and shares[0] > 0 and shares[-1] < 1
    assert (np.diff(curve.collections[0].get_offsets()[:, 1]) <= 0).all()
    if kind is nn.Conv2d:
        shown = largest.images[0].get_array()
        spectrum = singular_values(kind(2, 3, 3, padding=1), input_size=size)
        assert shown.shape == spectrum.grid
    assert "upper bound" in figure.get_suptitle()


def test_plot_of_a_model_has_a_panel_per_layer(model):
    figure = model.plot()
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["0", "3", "4"]
