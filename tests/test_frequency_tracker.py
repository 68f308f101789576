"""A frequency tracker in a training: what it leaves alone, refuses, keeps, goes on with and adds up."""

from __future__ import annotations

import contextlib
import copy
import math
import random
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff
from fastfreq.training import ExactDFT, Filtering, Projection

pytestmark = pytest.mark.usefixtures("one_thread")
X = np.arange(24) / 24
Y = np.sin(2 * np.pi * X) + np.sin(2 * np.pi * 5 * X)
SINES = ExactDFT(frequencies=[1, 5])


def tracker_of(**options) -> ff.FrequencyTracker:
    return ff.FrequencyTracker(X, Y, **{"measures": SINES, **options})


class Small(nn.Module):
    """One number in, one out, with all that a look could disturb."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.drop(self.norm(self.first(x.reshape(-1, 1)))))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Small()


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 1) -> None:
    x, y = (torch.from_numpy(a).float()[:, None] for a in (X, Y))
    for _ in range(steps):
        optimizer.zero_grad()
        (net(x) - y).square().mean().backward()
        optimizer.step()


# ---------------------------------------------------------------- nothing is disturbed
def test_a_training_with_looks_ends_with_the_same_bits(net):
    other = copy.deepcopy(net)
    found = []
    for each, tracked in ((net, True), (other, False)):
        torch.manual_seed(3)
        optimizer = torch.optim.Adam(each.parameters(), lr=1e-2)
        tracker = tracker_of()
        tracker.watch("norm", lambda n: {"last": float(n.last.weight.detach().norm() + torch.rand(1))})
        for step in range(5):
            train(each, optimizer)
            if tracked:
                tracker.step(each, step)
        found.append([*each.state_dict().values(), torch.rand(3)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


class Hostile(Small):
    """Counts calls in a buffer, replaces another, overwrites its input, draws from every generator, needs gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(1))
        self.cache: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.get_buffer("calls").add_(1)
        self.mean = self.get_buffer("mean") + 1
        x.mul_(2)
        noise = torch.rand(1) + random.random() + float(np.random.rand())  # noqa: NPY002
        with torch.enable_grad():
            self.first.weight.square().sum().backward()
        self.cache = [x.detach()]
        return super().forward(x / 2) + 0 * noise


def test_a_hostile_network_is_left_as_it_was():
    torch.manual_seed(0)
    net = Hostile()
    net.norm.eval()  # as fine-tuning has it, while the rest trains
    net.first.weight.grad = torch.full_like(net.first.weight, 7)
    grad = net.first.weight.grad
    before = copy.deepcopy(net.state_dict())
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    inputs = torch.from_numpy(X).float()
    tracker = ff.FrequencyTracker(inputs, Y, measures=SINES, batch_size=5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tracker.step(net, 0)
        assert torch.is_autocast_enabled("cpu")
    assert [m.training for m in (net, net.norm, net.drop)] == [True, False, True]
    assert net.first.weight.grad is grad and bool((grad == 7).all()) and net.last.weight.grad is None
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    assert np.array_equal(states[2], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(inputs, torch.from_numpy(X).float())
    assert not net.cache[0].is_inference()  # which training could not use
    plain = Small()
    plain.load_state_dict(net.state_dict(), strict=False)
    reference = tracker_of()
    reference.step(plain, 0)
    np.testing.assert_allclose(tracker.history.errors["dft"], reference.history.errors["dft"], rtol=1e-5)


def test_what_is_random_in_evaluation_is_the_same_at_every_step():
    class Noisy(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + torch.randn(len(x), 1)

    tracker, net = tracker_of(), Noisy()
    for step in range(2):
        with pytest.warns(UserWarning, match="random in evaluation mode") if not step else contextlib.nullcontext():
            tracker.step(net, step)
        torch.rand(5)
    assert np.array_equal(*tracker.history.errors["dft"])


def test_a_network_that_takes_probes_together_is_named_once():
    """Batch norm without running statistics: another batch_size gives other figures."""
    net = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 1))
    tracker = ff.FrequencyTracker(X[:, None], Y, measures=SINES, batch_size=6)
    with pytest.warns(UserWarning, match="as batch norm without running statistics does") as caught:
        tracker.step(net, 0)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert tracker.step(net, 1)  # errors are recorded, and it is not said again


def test_two_threads_leave_the_random_states_as_they_were(net):
    """Each look seeds the generators of the whole process: looks that overlap would put back each other's seed."""

    class Slow(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(0.01)
            return super().forward(x)

    slow, barrier = Slow(), threading.Barrier(2)
    slow.load_state_dict(net.state_dict())
    nets, before = (slow, copy.deepcopy(slow)), torch.get_rng_state()

    def look(which: int) -> dict[str, float]:
        tracker = tracker_of(batch_size=8)
        barrier.wait()
        return [tracker.step(nets[which], step) for step in range(3 + which)][0]

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(look, (0, 1))
    assert one == other and torch.equal(torch.get_rng_state(), before)


def test_everything_is_put_back_after_a_failure(net):
    class Failing(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.rand(1)
            raise KeyboardInterrupt

    failing, state = Failing(), torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        tracker_of().step(failing, 0)
    assert failing.training and failing.drop.training and torch.equal(state, torch.get_rng_state())


def test_weights_that_a_forward_pass_overwrites_are_named():
    class Clipping(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                self.last.weight.clamp_(-0.1, 0.1)
            return super().forward(x)

    with pytest.raises(RuntimeError, match=r"overwrote \['last.weight'\]"):
        tracker_of().step(Clipping(), 0)


def test_networks_made_in_inference_mode_and_unmade_ones():
    torch.manual_seed(0)
    with torch.inference_mode():
        net = Small()
    other = Small()
    other.load_state_dict(net.state_dict())
    tracker = tracker_of()
    with torch.inference_mode():
        logged = [tracker.step(net, 0), tracker.step(other, 1)]
    assert logged[0] == logged[1] == tracker.step(net, 2)
    with pytest.raises(ValueError, match="run the network on one batch first"):
        tracker_of().step(nn.LazyLinear(1), 0)


def test_functions_of_one_name_are_told_apart():
    named = [tracker_of(response=f).history.response for f in (lambda o: 2 * o, lambda o: 3 * o, lambda o: 2 * o)]
    assert named[0] == named[2] != named[1]


@pytest.mark.parametrize("batch_size", [1, 7, 24])
def test_no_batch_size_and_no_wrapper_changes_a_figure(net, batch_size):
    tracker, whole = tracker_of(batch_size=batch_size), tracker_of()
    tracker.step(nn.DataParallel(net), 0)
    whole.step(net, 0)
    np.testing.assert_allclose(tracker.history.errors["dft"], whole.history.errors["dft"], rtol=1e-5)
    assert tracker.history.network == whole.history.network


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_inputs_take_the_type_of_the_weights(net, dtype):
    net.to(dtype)
    tracker = tracker_of()
    tracker.step(net, 0)
    assert np.isfinite(tracker.history.errors["dft"]).all() and net.first.weight.dtype == dtype


def test_memory_that_runs_out_halves_the_batch(net):
    sizes = []

    class Large(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sizes.append(len(x))
            if len(x) > 6:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(x)

    tracker = tracker_of()
    for step in range(2):
        tracker.step(Large(), step)
    assert sizes == [24, 12, *[6] * 4, *[6] * 3, *[6] * 4]  # looks whether neighbours matter, and remembers


# ---------------------------------------------------------------- probes, targets, outputs
def test_classes_are_compared_with_probabilities():
    points, labels = np.random.default_rng(0).normal(size=(90, 2)), np.arange(90) % 3
    model = nn.Linear(2, 4)  # one class that no probe has
    tracker = ff.FrequencyTracker(points, labels, measures=Filtering((0.5,)))
    tracker.step(model, 0)
    with torch.no_grad():
        h = model(torch.from_numpy(points).float()).softmax(1)
    y = nn.functional.one_hot(torch.from_numpy(labels), 4)
    assert tracker.history.response == "softmax"
    assert tracker.history.total_errors[0, 0] == pytest.approx(float((h - y).norm() / y.double().norm()), rel=1e-5)


def test_more_inputs_than_the_limit_are_drawn_once_and_for_all():
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(300, 2)), rng.integers(0, 2, 300)
    options = {"measures": Filtering((0.3,)), "limit": 50}
    a, b, c = (ff.FrequencyTracker(points, labels, seed=seed, **options) for seed in (0, 0, 1))
    assert a.history.probes == b.history.probes != c.history.probes
    assert len(a._probes) == 50


def test_networks_of_dicts_and_objects():
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(11, 3)

        def forward(self, input_ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": (self.table(input_ids) * mask[..., None]).sum(1)}

    rng = np.random.default_rng(0)
    inputs = {"input_ids": rng.integers(0, 11, (40, 6)), "mask": np.ones((40, 6))}
    points, labels = rng.normal(size=(40, 2)), rng.integers(0, 3, 40)
    with pytest.raises(ValueError, match="expected `points`.*embeddings"):
        ff.FrequencyTracker(inputs, labels)
    tracker = ff.FrequencyTracker(inputs, labels, points=points, measures=Filtering((0.5,)))
    assert set(tracker.step(Words(), 0)) == {
        "total_error", "filtering/low, δ = 0.5", "filtering/high, δ = 0.5", "filtering/spectral_bias",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"measures": "fft"}, ValueError, "measure of \\['dft', 'projection', 'filtering'\\], got 'fft'"),
        ({"measures": [SINES, ExactDFT()]}, ValueError, "each kind once"),
        ({"measures": []}, ValueError, "expected measures"),
        ({"measures": [3]}, TypeError, "got 3"),
        ({"response": "sigmoid"}, ValueError, "got 'sigmoid'"),
        ({"every": 0}, ValueError, "`every` from 1"),
        ({"batch_size": 1.5}, TypeError, "`batch_size` as an integer"),
        ({"points": X[:4]}, ValueError, "as many `points`"),
        ({"points": np.full(24, np.nan)}, ValueError, "finite points"),
    ],
)
def test_refusals_of_settings(options, error, message):
    with pytest.raises(error, match=message):
        tracker_of(**options)


@pytest.mark.parametrize(
    ("inputs", "targets", "error", "message"),
    [
        (X[:5], Y, ValueError, "as many targets as inputs, got 24 and 5"),
        (X, np.full(24, np.inf), ValueError, "finite targets"),
        (X[:1], Y[:1], ValueError, "at least two"),
        (X, np.ones((24, 2), int), ValueError, "classes \\(n,\\) from 0"),
        (X, np.arange(24) - 1, ValueError, "least -1"),
        (X, Y + 1j, TypeError, "real numbers"),
        (object(), Y, TypeError, "expected `inputs` as a tensor"),
    ],
)
def test_refusals_of_probes(inputs, targets, error, message):
    with pytest.raises(error, match=message):
        ff.FrequencyTracker(inputs, targets, measures=SINES)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda x: torch.zeros(len(x), 2), ValueError, "returns 2 numbers for a probe, which has 1 numbers"),
        (lambda x: torch.zeros(1, 1), ValueError, "one output for each probe"),
        (lambda x: torch.zeros(len(x), 1).fill_(math.nan), FloatingPointError, "NaN or infinity for 24 of 24 probes"),
        (lambda x: torch.zeros(len(x), 1, dtype=torch.int64), TypeError, "tensor of floats"),
        (lambda x: "text", TypeError, "got str"),
    ],
    ids=["columns", "rows", "nan", "integers", "text"],
)
def test_refusals_of_outputs(net, answer, error, message):
    tracker, fresh = tracker_of(), tracker_of()
    tracker.step(net, 0)
    kept = tracker.history
    net.forward = answer
    with pytest.raises(error, match=message):
        fresh.step(net, 0)
    with pytest.raises(error) as caught:
        tracker.step(net, 1)
    assert "at step 1; the 1 records up to step 0 are kept" in caught.value.__notes__[0]
    assert np.array_equal(tracker.history.errors["dft"], kept.errors["dft"])


def test_outputs_that_change_their_shape_are_refused():
    points, labels = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 3
    tracker = ff.FrequencyTracker(points, labels, measures=Filtering((0.5,)))
    net = nn.Sequential(nn.Linear(2, 3))
    tracker.step(net, 0)
    with pytest.raises(ValueError, match="the network that was followed before"):
        tracker.step(nn.Sequential(nn.Linear(2, 5)), 1)
    net.forward = lambda x: torch.zeros(len(x), 5)
    with pytest.raises(ValueError, match=r"shape \(30, 3\) as at the steps before.*\(30, 5\) now"):
        tracker.step(net, 1)


def test_a_loss_that_is_not_finite_is_refused_and_what_came_before_is_in_the_file(net, tmp_path):
    tracker = tracker_of(path=tmp_path / "run.npz")
    for step in range(5):
        tracker.step(net, step, loss=torch.tensor(0.5))
    with pytest.raises(FloatingPointError, match="training has diverged"):
        tracker.step(net, 5, loss=math.nan)
    saved = ff.load(tmp_path / "run.npz")
    assert saved.steps.tolist() == [0, 1, 2, 3, 4] and (saved.losses == 0.5).all()


@pytest.mark.parametrize("loss", ["0.5", [0.5], torch.ones(2), 1j, True])
def test_a_loss_that_is_no_number_is_refused(net, loss):
    with pytest.raises(TypeError, match="expected `loss` as a number, got"):
        tracker_of().step(net, 0, loss=loss)


def test_steps_ascend(net):
    tracker = tracker_of(every=2)
    assert tracker.step(net, 1) == {} and not len(tracker.history.steps)
    assert tracker.step(net, 2)
    for step in (2, 0):
        with pytest.raises(ValueError, match=f"a step after 2, the last one recorded, got {step}"):
            tracker.step(net, step)
    with pytest.raises(TypeError, match="`step` as an integer"):
        tracker.step(net, 4.0)
    with pytest.raises(TypeError, match=r"torch.nn.Module, got function"):
        tracker.step(lambda x: x, 4)


# ---------------------------------------------------------------- files
def test_a_run_goes_on_where_its_file_ends(net, tmp_path):
    path, whole = tmp_path / "run.npz", tracker_of(run=4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for step in range(6):
        if step in (0, 3):
            tracker = tracker_of(run=4, path=path)  # a new process
        assert tracker.step(net, step) == whole.step(net, step)
        train(net, optimizer)
        if step in (2, 5):
            tracker.flush()
    found, expected = ff.load(path), whole.history
    for name in ("steps", "run_ids", "total_errors"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))
    assert np.array_equal(found.errors["dft"], expected.errors["dft"])


def test_records_of_a_past_that_was_left_are_put_aside(net, tmp_path):
    path = tmp_path / "run.npz"
    tracker = tracker_of(path=path)
    for step in range(4):
        tracker.step(net, step)
    tracker.flush()
    again = tracker_of(path=path)
    with pytest.warns(UserWarning, match="the 2 from 2 on are of a past that was left.*run-until-3.npz"):
        again.step(net, 2)
    again.flush()
    assert ff.load(path).steps.tolist() == [0, 1, 2]
    assert ff.load(tmp_path / "run-until-3.npz").steps.tolist() == [0, 1, 2, 3]


def test_a_file_of_another_request_is_refused(net, tmp_path):
    path = tmp_path / "run.npz"
    tracker = tracker_of(path=path)
    tracker.step(net, 0)
    tracker.flush()
    for options in ({"run": 1}, {"measures": ExactDFT(frequencies=[1])}, {"response": torch.tanh}):
        with pytest.raises(ValueError, match="a file of this very tracker"):
            tracker_of(path=path, **options)
    with pytest.raises(ValueError, match="the same probes"):
        ff.FrequencyTracker(X, Y + 1, measures=SINES, path=path)
    with pytest.raises(ValueError, match="the network that was followed before"):
        tracker_of(path=path).step(nn.Linear(1, 1), 1)
    with pytest.raises(FileNotFoundError):
        tracker_of(path=tmp_path / "absent" / "run.npz")


def test_records_survive_the_end_of_a_program(tmp_path):
    code = f"""
import numpy as np, torch, fastfreq as ff
x = np.arange(8) / 8
tracker = ff.FrequencyTracker(x[:, None], np.sin(2 * np.pi * x), measures=ff.training.ExactDFT(frequencies=[1]),
                              path={str(tmp_path / "run.npz")!r})
tracker._recording._next = float("inf")  # as if a file had just been written
net = torch.nn.Linear(1, 1)
for step in range(3):
    tracker.step(net, step)
raise SystemExit(3)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert ff.load(tmp_path / "run.npz").steps.tolist() == [0, 1, 2]


def test_a_tracker_that_is_dropped_writes_its_file_and_leaves_memory(net, tmp_path):
    import gc
    import weakref

    tracker = tracker_of(path=tmp_path / "run.npz")
    tracker._recording._next = float("inf")
    tracker.step(net, 0)
    seen = weakref.ref(tracker)
    assert not (tmp_path / "run.npz").exists()
    del tracker
    gc.collect()
    assert seen() is None and ff.load(tmp_path / "run.npz").steps.tolist() == [0]


def test_files_cost_a_twentieth_of_the_time_at_most(net, tmp_path, monkeypatch):
    tracker = tracker_of(path=tmp_path / "run.npz")
    saves = []
    monkeypatch.setattr(ff.training.FrequencyHistory, "save", lambda self, path: saves.append(len(self.steps)))
    now = iter(range(0, 10**6))
    monkeypatch.setattr("fastfreq.training._recording.time.monotonic", lambda: float(next(now)))
    for step in range(100):
        tracker.step(net, step)
    assert saves[0] == 1 and 3 <= len(saves) <= 7


# ---------------------------------------------------------------- histories
def history(run: int, steps: range, seed: int = 0) -> ff.training.FrequencyHistory:
    torch.manual_seed(seed)
    net, tracker = Small(), tracker_of(run=run)
    for step in steps:
        with torch.no_grad():
            net.last.weight.mul_(0.9)
        tracker.step(net, step)
    return tracker.history


def test_histories_add_up_by_steps_and_by_runs(tmp_path):
    parts = [history(run, steps, run) for run in (5, 2) for steps in (range(0, 3), range(3, 5))]
    whole = (parts[0] + parts[1]) + (parts[3] + parts[2])
    other = (parts[2] + parts[0]) + (parts[3] + parts[1])
    assert whole.run_ids.tolist() == [2, 5] and whole.steps.tolist() == [0, 1, 2, 3, 4]
    assert whole.errors["dft"].shape == (5, 2, 2)
    assert np.array_equal(whole.errors["dft"], other.errors["dft"])
    assert np.array_equal(whole.errors["dft"][:3, :, 1], parts[0].errors["dft"][:, :, 0])
    whole.save(tmp_path / "h.npz")
    loaded = ff.load(tmp_path / "h.npz")
    assert loaded.table() == whole.table() and repr(loaded) == repr(whole)
    assert str(loaded.summary()) == str(whole.summary())  # NaN where never below 0.2
    assert len(whole.to_dataframe()) == 2 * 2 * 5
    with pytest.raises(ValueError, match="different runs, 1 run ids are in both"):
        _ = parts[0] + parts[0]
    with pytest.raises(ValueError, match="same runs and other steps"):
        _ = parts[0] + parts[3]
    with pytest.raises(ValueError, match="the same probes"):
        tracker = ff.FrequencyTracker(X, 2 * Y, measures=SINES, run=9)
        tracker.step(Small(), 0)
        _ = parts[0] + tracker.history


def test_first_hits_are_held():
    errors = np.array([0.5, 0.1, 0.3, 0.1, 0.1, 0.1, 0.9, 0.1])
    base = history(0, range(8))
    made = {"dft": np.stack([errors, np.full(8, 0.5)], axis=1)[:, :, None]}
    import dataclasses

    held = dataclasses.replace(base, errors=made, steps=10 * base.steps)
    assert held.first_hit("dft", hold=1)[0, 0] == 10 and held.first_hit("dft", hold=3)[0, 0] == 30
    assert np.isnan(held.first_hit("dft", hold=4)).all() and np.isnan(held.first_hit("dft")).all()
    assert held.first_hit("dft", tolerance=0.6, hold=6)[1, 0] == 0
    with pytest.raises(ValueError, match="positive `tolerance`"):
        held.first_hit("dft", tolerance=0)
    for ask, error in [
        (lambda: held.error("fft"), KeyError),
        (lambda: held.error("dft", mode="phase"), ValueError),
        (lambda: held.low_high("dft"), ValueError),
        (lambda: held.first_hit("filtering"), KeyError),
    ]:
        with pytest.raises(error, match="expected"):
            ask()


def test_pictures(tmp_path):
    from fastfreq import plots

    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(60, 3)), rng.integers(0, 3, 60)
    tracker = ff.FrequencyTracker(points, labels, measures=[Filtering((0.3, 1.0)), Projection()])
    with pytest.raises(ValueError, match="at least one step"):
        tracker.history.plot()
    net = nn.Linear(3, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in (0, 1, 5):
            tracker.step(net, step)
            plots.figure_png(tracker.history.plot())
    figure = tracker.history.plot()
    maps = [axes for axes in figure.axes if axes.collections and axes.get_ylabel()]
    assert [t.get_text() for t in maps[0].get_yticklabels()] == list(tracker.history.labels["filtering"])
    values = maps[0].collections[0].get_array().reshape(4, 3)
    np.testing.assert_allclose(values, np.clip(tracker.history.errors["filtering"][:, :, 0], 0.1, 1).T)
    figure = plots._frame.new_figure(4, 3)
    assert tracker.history.plot(measure="projection", ax=figure.add_subplot()) is figure
    with pytest.raises(ValueError, match="one `measure`"):
        tracker.history.plot(ax=figure.axes[0])
    with pytest.raises(KeyError):
        tracker.history.plot(measure="dft")


def test_the_principle_on_two_tones():
    """A network that is trained learns the first tone of two before the second."""
    torch.manual_seed(1)
    x = torch.linspace(-1, 1, 65)[:-1, None]
    y = torch.sin(math.pi * x) + torch.sin(4 * math.pi * x)
    net = nn.Sequential(nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    tracker = ff.FrequencyTracker(x, y, measures="dft", every=5)
    for step in range(900):
        tracker.step(net, step)
        optimizer.zero_grad()
        (net(x) - y).square().mean().backward()
        optimizer.step()
    low, high = tracker.history.first_hit("dft", hold=5)[:, 0]
    assert tracker.history.labels["dft"] == ("1", "4") and low < high


@pytest.mark.parametrize("path", ["history.npz"])
def test_damaged_files_are_refused(tmp_path, path):
    good = history(0, range(3))
    import dataclasses

    for change, message in [
        ({"steps": np.array([0, 2, 1])}, "ascending"),
        ({"errors": {"dft": good.errors["dft"][:, :1]}}, "2 rows of 'dft'"),
        ({"errors": {}}, "2 rows of 'dft'"),
        ({"run_ids": np.array([0, 1])}, "r = 2"),
        ({"radii": {"dft": np.zeros(5)}}, "2 rows"),
    ]:
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(good, **change)
    file = Path(tmp_path / path)
    good.save(file)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        ff.load(file)


def test_a_file_stays_where_it_was_named_whatever_the_programs_folder_becomes(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    x = torch.arange(8.0)[:, None] / 8
    tracker = ff.FrequencyTracker(x, torch.sin(2 * torch.pi * x), measures="dft", path="history.npz")
    monkeypatch.chdir(tmp_path / "there")
    tracker.step(nn.Linear(1, 1), 0)
    tracker.flush()
    assert (tmp_path / "here/history.npz").exists() and not list((tmp_path / "there").iterdir())
