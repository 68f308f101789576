"""Measurements of the toolkit taken during training: kept by step, saved, added up, drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff
from fastfreq import plots
from fastfreq.training import MeasurementHistory, Watch

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def watched(make_net, make_images):
    """(network in train mode, name -> measurement)."""
    net = make_net()
    images, labels = make_images(net)
    net.train()
    one = {"batch_size": 12}
    return net, {
        "heatmap": lambda n: ff.heatmap(n, images, labels, eps=1.0, size=3, **one),
        "filter_curve": lambda n: ff.filter_curve(n, images, labels, kind="low", bandwidths=(2, 4), **one),
        "gradient_heatmap": lambda n: ff.gradient_heatmap(n, images, labels, eps=1.0, size=3, **one),
        "singular_values": lambda n: ff.singular_values(n, input_size=(3, 11, 14)),
        "bottleneck": lambda n: ff.bottleneck(n, input_size=(3, 11, 14)),
        "figures": lambda n: {name: float(w.norm()) for name, w in ff.layers.spectral_norms(n, (3, 11, 14)).items()},
    }


def stretch(net: nn.Module) -> None:
    with torch.no_grad():
        net.get_submodule("stem").weight.mul_(1.5)


def taken(net: nn.Module, name: str, measurement, steps, path=None) -> Watch:
    watch = Watch(name, measurement, path=path)
    for step in steps:
        watch.step(net, step)
        stretch(net)
    return watch


@pytest.mark.parametrize("kind", ["heatmap", "filter_curve", "gradient_heatmap", "singular_values", "bottleneck"])
def test_each_result_is_that_of_the_network_then_and_comes_back_from_a_file(kind, watched, tmp_path):
    net, measurements = watched
    start = {k: v.clone() for k, v in net.state_dict().items()}
    history = taken(net, "x", measurements[kind], (0, 5)).history
    assert net.training and history.measured == kind and history.steps.tolist() == [0, 5]
    net.load_state_dict(start)
    net.eval()
    for step in (0, 5):
        assert history[step].table() == measurements[kind](net).table()
        stretch(net)
    history.save(tmp_path / "h.npz")
    loaded = ff.load(tmp_path / "h.npz")
    assert isinstance(loaded, MeasurementHistory)
    assert loaded.table() == history.table() and repr(loaded) == repr(history)
    assert [type(loaded[s]) for s in (0, 5)] == [type(history[s]) for s in (0, 5)]
    labels, values = history.series()
    assert values.shape == (2, len(labels)) and np.isfinite(values).any()
    assert plots.figure_png(loaded.plot()) == plots.figure_png(history.plot())


def test_layers_are_followed_by_name(watched):
    net, measurements = watched
    history = taken(net, "norms", measurements["singular_values"], range(3)).history
    labels, values = history.series("norm")
    np.testing.assert_allclose(
        values[:, labels.index("stem")] / values[0, labels.index("stem")], [1, 1.5, 2.25], rtol=1e-6
    )
    np.testing.assert_allclose(values[:, labels.index("body")], values[0, labels.index("body")])
    with pytest.raises(ValueError, match="expected a column of"):
        history.series("colour")


def test_plain_figures(make_net, tmp_path):
    net = make_net()
    path = tmp_path / "n.npz"
    watch = Watch("norms", lambda n: {"stem": n.stem.weight.detach().norm(), "head": 2}, every=2, path=path)
    assert watch.step(net, 1) == {}
    found = watch.step(net, 2)
    assert found == {"norms/stem": pytest.approx(float(net.stem.weight.detach().norm())), "norms/head": 2.0}
    watch.flush()
    again = Watch("norms", lambda n: {"stem": 1.0, "head": 3.0}, path=path)
    again.step(net, 3)
    labels, values = again.history.series()
    assert labels == ["stem", "head"] and values[1].tolist() == [1, 3] and again.history.columns() == ["value"]
    assert again.history.table()[0] == {"step": 2, "row": "stem", "value": found["norms/stem"]}
    with pytest.raises(ValueError, match="a file of 'other', it is of 'norms'"):
        Watch("other", lambda n: {}, path=path)
    with pytest.raises(KeyError, match=r"one of \[2, 3\], got 7"):
        again.history[7]


def test_histories_of_one_measurement_add_up(watched):
    net, measurements = watched
    a, b = (taken(net, "n", measurements["singular_values"], steps).history for steps in ((0, 1), (2,)))
    both = b + a
    assert both.steps.tolist() == [0, 1, 2] and both[1] is a[1]
    with pytest.raises(ValueError, match="different entries, 2 are in both"):
        _ = a + a
    other = taken(net, "n", measurements["bottleneck"], (3,)).history
    with pytest.raises(ValueError, match="same measured"):
        _ = a + other


def test_refusals(make_net, watched):
    net, measurements = watched
    with pytest.raises(TypeError, match="a result of the toolkit or a dict of floats to keep, got int"):
        Watch("x", lambda n: 3).step(net, 0)
    changing = iter([{"a": 1.0}, ff.singular_values(make_net(), input_size=(3, 11, 14))])
    watch = Watch("x", lambda n: next(changing))
    watch.step(net, 0)
    with pytest.raises(ValueError, match="kind 'figures' as at the steps before, got 'singular_values'") as caught:
        watch.step(net, 1)
    assert caught.value.__notes__ == ["'x' at step 1; the 1 records up to step 0 are kept"]
    with pytest.raises(ValueError, match="a step after 0"):
        watch.step(net, 0)
    with pytest.raises(TypeError, match="function of the network"):
        Watch("x", "heatmap")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="`every` from 1"):
        Watch("x", measurements["figures"], every=0)
    with pytest.raises(ValueError, match="nothing was measured"):
        Watch("x", measurements["figures"]).history.plot()
    tracker = ff.FrequencyTracker(
        np.arange(8) / 8, np.arange(8) % 2 * 1.0, measures=ff.training.ExactDFT(frequencies=[4])
    )
    tracker.watch("x", measurements["figures"])
    with pytest.raises(ValueError, match="'x' is taken"):
        tracker.watch("x", measurements["figures"])


def test_a_tracker_watches_beside_its_own_file(tmp_path):
    x = np.arange(8) / 8
    net = nn.Linear(1, 1)
    options = {"measures": ff.training.ExactDFT(frequencies=[1]), "path": tmp_path / "run.npz"}
    tracker = ff.FrequencyTracker(x[:, None], np.sin(2 * np.pi * x), every=2, **options)
    tracker.watch("w", lambda n: {"w": float(n.weight.detach())}, every=3)
    logged = [tracker.step(net, step) for step in range(7)]
    assert [bool("w/w" in each) for each in logged] == [True, False, False, True, False, False, True]
    assert [bool("total_error" in each) for each in logged] == [True, False, True, False, True, False, True]
    tracker.flush()
    assert ff.load(tmp_path / "run-w.npz").steps.tolist() == [0, 3, 6]
    assert {name: h.kind for name, h in tracker.histories.items()} == {
        "frequencies": "frequency_history",
        "w": "measurement_history",
    }


def test_many_rows_are_a_map_and_few_are_curves():
    def drawn(count: int):
        entries = {step: {f"r{k}": float(k * step) for k in range(count)} for step in (0, 1, 4)}
        return MeasurementHistory(name="x", measured="figures", entries=entries).plot()

    assert len(drawn(3).axes[0].lines) == 3
    (mesh,) = drawn(9).axes[0].collections
    np.testing.assert_array_equal(mesh.get_array().reshape(9, 3)[8], [0, 8, 32])


def test_damaged_entries_are_refused(tmp_path, watched):
    net, measurements = watched
    history = taken(net, "n", measurements["singular_values"], (0,)).history
    from fastfreq.results import store

    history.save(tmp_path / "h.npz")
    kind, _, header, arrays = store.read_result(tmp_path / "h.npz")
    for change, message in [
        ({"entries": {"zero": {}}}, "entries by step"),
        ({"entries": {"0": {"fields": {}}}}, "damaged"),
        ({"entries": 3}, "entries by step"),
    ]:
        store.write_arrays(tmp_path / "bad.npz", kind, {**header, **change}, arrays)
        with pytest.raises(ValueError, match=message):
            ff.load(tmp_path / "bad.npz")
