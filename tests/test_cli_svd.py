"""`fastfreq svd`, and its files in `merge` and `report`."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

import fastfreq as ff
from fastfreq.cli import main
from fastfreq.layers.singular_values import singular_values

NETS = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 1),
        nn.Conv2d(6, 5, 3, stride=2, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(5 * 4 * 5, 3),
    )

def untraceable():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)
        def forward(self, x):
            return torch.cumsum(self.conv(x), dim=1)
    return Net()

def one():
    return nn.Conv2d(3, 3, 3, padding=1)
"""
SIZE = ["--input-size", "3", "8", "10"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


def svd(*words, out="out", model="build"):
    return main(["svd", "--model", f"nets.py:{model}", *SIZE, "--out", out, *words])


def test_svd_writes_the_result_its_table_and_pictures(folder, capsys):
    assert svd("--accuracy", "exact") == 0
    spectrum = ff.load("out/model.npz")
    truth = singular_values(ff.load_model("nets.py:build").model, input_size=(3, 8, 10), accuracy="exact")
    assert spectrum.norms == truth.norms and spectrum.model == "nets.py:build"
    with Path("out/model.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == ["0", "3", "4"]
    assert [float(row["norm"]) for row in rows] == list(truth.norms.values())
    assert rows[0]["weight_shape"] == "4 x 3 x 3 x 3"
    assert {path.name for path in Path("out/layers").iterdir()} == {"0.png", "4.png"}  # 1 x 1 kernels have no map
    assert Path("out/model.png").stat().st_size > 5_000
    text = capsys.readouterr().out
    assert f"<= {truth['0'].norm:.4g}" in text and f"{truth['4'].condition:.4g}" in text
    assert "left out: 1 Linear (linear, not a convolution" in text
    bound = float(text.split("at most ")[1].split()[0])
    assert bound > 0.99 * math.prod(singular_values(ff.load_model("nets.py:build").model, input_size=(3, 8, 10),
                                                    linear=True, fold_batch_norm=True).norms.values())  # fmt: skip


def test_options_reach_the_analysis(folder):
    assert svd("--linear", "--fold-batch-norm", "--padding", "circular", "--accuracy", "fast") == 0
    spectrum = ff.load("out/model.npz")
    assert list(spectrum) == ["0", "3", "4", "6"] and all(layer.exact for layer in spectrum.values())
    assert spectrum.details["batch_norm"] == "folded" and spectrum["0"].accuracy == "fast"


def test_shards_of_layers_merge_and_are_reported(folder, capsys):
    assert svd(out="whole") == 0
    assert svd("--layers", "0", "3", out="first") == 0
    assert "Lipschitz" not in capsys.readouterr().out.rpartition("wrote whole")[2]  # these are not the whole network
    assert svd("--layers", "4", out="second") == 0
    assert main(["merge", "first/model.npz", "second/model.npz", "--out", "merged.npz"]) == 0
    merged, whole = ff.load("merged.npz"), ff.load("whole/model.npz")
    assert merged.norms == whole.norms
    merged["4"].save("layer.npz")
    assert main(["report", "merged.npz", "layer.npz", "--out", "page"]) == 0
    page = Path("page/report.html").read_text()
    assert "Singular values: nets.py:build" in page and "Singular values: 4" in page
    assert f"&lt;= {whole['0'].norm:.4g}" in page and "How to read this map" not in page
    assert page.count("data:image/png") == 2


def test_a_model_that_cannot_be_traced_has_no_bound_but_values(folder, capsys):
    assert svd(model="untraceable") == 0
    text = capsys.readouterr().out
    product = ff.load("out/model.npz").product_of_norms
    assert f"product of the norms: {product:.3g}; no Lipschitz bound of the network: expected functions" in text


def test_one_convolution_is_a_model_too(folder):
    assert svd(model="one") == 0
    assert list(ff.load("out/model.npz")) == ["0"]


def test_mistakes_end_in_one_line(folder, capsys):
    spectrum = singular_values(ff.load_model("nets.py:one").model, input_size=(5, 5))
    spectrum.save("layer.npz")
    for words, message in (
        (["svd", "--model", "nets.py:build"], "expected --input-size C H W"),
        (["svd", "--model", "nets.py:build", *SIZE, "--layers", "9"], "expected `layers` among the convolutions"),
        (["svd", "--model", "nets.py:build", "--input-size", "4", "8", "10"], "expected a model that runs on zeros"),
        (["merge", "layer.npz", "layer.npz", "--out", "merged.npz"], "holds a LayerSpectrum, which is whole"),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert message in error and error.startswith("fastfreq ") and "Traceback" not in error


def test_help_needs_no_extras(monkeypatch, capsys):
    for name in ("matplotlib", "timm", "torchvision", "pandas", "scipy", "sklearn"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(SystemExit) as done:
        main(["--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in ("heatmap", "gradient", "svd", "merge", "report"))


@pytest.mark.parametrize("verb", ["heatmap", "gradient", "svd", "merge", "report"])
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as done:
        main([verb, "--help"])
    assert done.value.code == 0 and "--out" in capsys.readouterr().out
