"""Precisions other than those that are cast to: int8, and the faster of two."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff
from fastfreq.engine import tuning
from fastfreq.engine.network import Network
from fastfreq.models import load_weights
from fastfreq.vocabulary import statistics
from tests.contract import subjects

pytestmark = pytest.mark.filterwarnings("ignore:the map is flat")
SIZE = {"eps": 4.0, "size": (3, 5), "channels_last": False}
X86 = "x86" in torch.backends.quantized.supported_engines
int8 = pytest.mark.skipif(not X86, reason="torch multiplies int8 on x86 only")


@pytest.fixture(autouse=True)
def alone(one_thread, monkeypatch, tmp_path):
    subjects.EVENTS.reset()
    monkeypatch.setenv("FASTFREQ_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(tuning, "_FASTER", {})


def plain_net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)).eval()


def data(n: int = 40):
    images = torch.rand(n, 3, 11, 14, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return images, plain_net()(images).argmax(dim=1)


# ---------------------------------------------------------------- int8
@int8
def test_int8_is_one_network_whatever_the_batch_or_shard():
    images, labels = data()
    engine = torch.backends.quantized.engine
    whole = ff.heatmap(plain_net(), images, labels, **SIZE, precision="int8", batch_size=16)
    parts = [
        ff.heatmap(plain_net(), images, labels, **SIZE, precision="int8", batch_size=7, shard=(i, 2)) for i in range(2)
    ]
    np.testing.assert_array_equal((parts[1] + parts[0]).wrong, whole.wrong)
    assert whole.details["precision"] == "int8" and "of the first 40 images" in whole.details["int8"]
    assert "precision=int8" in whole.model.numerics and torch.backends.quantized.engine == engine
    exact = ff.heatmap(plain_net(), images, labels, **SIZE)
    with pytest.raises(ValueError, match="precision"):
        exact + whole
    low, high = statistics.wilson(exact.wrong_counts, len(images))
    assert ((low <= whole.wrong_counts / len(images)) & (whole.wrong_counts / len(images) <= high)).all()
    assert not np.array_equal(whole.model.probe, np.zeros_like(whole.model.probe))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain_net()

    def forward(self, x):
        return self.net(x) if x.mean() > -1 else self.net(-x)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.again, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 5)

    def forward(self, x):
        return self.last(self.again(self.again(self.first(x))).mean(dim=(2, 3)))


@int8
def test_what_cannot_run_in_int8_is_refused_by_name():
    images, labels = data()
    cases = [
        (ff.heatmap, plain_net(), SIZE | {"layers": ["0"]}, "no hidden layers"),
        (ff.heatmap, plain_net(), SIZE | {"clip": False, "share_stem": True}, "share_stem=False"),
        (ff.heatmap, plain_net(), SIZE | {"compile": True}, "compile=False"),
        (ff.heatmap, Branching().eval(), SIZE, r"trace .* Branching is none \(TraceError"),
        (ff.gradient_heatmap, plain_net(), {}, "without gradients"),
        (ff.heatmap, Twice().eval(), SIZE, "layer 'again' runs 2 times"),
    ]
    for function, model, options, message in cases:
        with pytest.raises(ValueError, match=message):
            function(model, images, labels, **options, precision="int8")


@int8
@pytest.mark.filterwarnings("ignore:the model is right on")
def test_a_network_that_int8_breaks_is_said():
    """Activations a thousand times larger for one image than for any photograph of the calibration."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = plain_net()

        def forward(self, x):
            return self.net(torch.pow(x, 9) * 1e3)  # in float32, then rounded

    images = 0.2 * data()[0]
    with torch.no_grad():
        labels = Scaled().eval()(images).argmax(dim=1)
    with pytest.warns(UserWarning, match="changes the class of"):
        ff.heatmap(Scaled().eval(), images, labels, **SIZE, precision="int8")


@int8
def test_every_count_of_a_trained_network_stays_within_its_interval(shared_data):
    net = cifar_network(shared_data)
    images, labels = next(iter(ff.load_data(shared_data / "cifar10" / "cifar10_subset.npz", limit=250, batch_size=250)))
    some = {"eps": 4.0, "frequencies": [(0, 1), (1, 2), (3, 0), (5, 7), (11, 2), (16, 16), (9, 12)]}
    for clip in (True, False):  # pixels far outside [0, 1] are not clipped in int8 either
        exact = ff.heatmap(net, images, labels, **some, clip=clip)
        fast = ff.heatmap(net, images, labels, **some, clip=clip, precision="int8")
        low, high = statistics.wilson(exact.wrong_counts, 250)
        assert ((low <= fast.wrong_counts / 250) & (fast.wrong_counts / 250 <= high)).all()
    assert 0 < (np.asarray(exact.wrong) != np.asarray(fast.wrong)).mean() < 0.05


def cifar_network(folder):
    spec = importlib.util.spec_from_file_location("nets", folder / "cifar_nets.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = module.CifarResNet(3).eval()
    load_weights(net, folder / "weights" / "cifar10_resnet20.safetensors")
    return ff.NormalizedModel(net, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)).eval()


# ---------------------------------------------------------------- "fastest"
@pytest.mark.parametrize(("bf16", "chosen"), [(0.5, "bf16"), (0.95, "fp32"), (2.0, "fp32")])
def test_the_faster_precision_is_recorded_as_if_it_had_been_named(bf16, chosen, monkeypatch, recwarn):
    images, labels = data()
    times = {"fp32": 1.0, "bf16": bf16}
    monkeypatch.setattr(tuning, "_seconds", lambda _net, _few, names, rounds=2: [times[name] for name in names])
    found = ff.heatmap(plain_net(), images, labels, **SIZE, batch_size=8, precision="fastest")
    named = ff.heatmap(plain_net(), images, labels, **SIZE, batch_size=8, precision=chosen)
    assert found.details["precision"] == chosen and f"precision={chosen}" in found.model.numerics
    np.testing.assert_array_equal(found.wrong, named.wrong)
    assert found.model.numerics == named.model.numerics
    monkeypatch.setattr(tuning, "_FASTER", {})  # a new process
    monkeypatch.setattr(tuning, "_seconds", lambda *_, **__: pytest.fail("timed again"))
    again = Network(plain_net(), precision="fp32", channels_last=True, device=None)
    assert tuning.faster_precision(again, images) == chosen


def test_a_run_that_goes_on_takes_the_precision_of_its_checkpoint(monkeypatch, tmp_path):
    images, labels = data()
    run = SIZE | {"batch_size": 8, "checkpoint": tmp_path / "a.npz"}
    monkeypatch.setattr(tuning, "_seconds", lambda *_, **__: [1.0, 0.5])
    first = ff.heatmap(plain_net(), images[:20], labels[:20], **run, precision="fastest")
    assert first.details["precision"] == "bf16"
    monkeypatch.setattr(tuning, "_FASTER", {})
    monkeypatch.setattr(tuning, "_read", dict)
    monkeypatch.setattr(tuning, "_seconds", lambda *_, **__: [0.5, 1.0])
    whole = ff.heatmap(plain_net(), images, labels, **run, precision="fastest")
    assert whole.details["precision"] == "bf16" and whole.n_images == 40


def test_other_names_are_refused_with_all_of_them():
    with pytest.raises(ValueError, match="'int8', 'fastest'.*'fp8'"):
        ff.heatmap(plain_net(), *data(), **SIZE, precision="fp8")
