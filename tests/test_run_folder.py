"""Run directories: what a run was of, what it has finished when it stops, one run of several processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import fastfreq as ff
from fastfreq import demo
from fastfreq.cli import main
from fastfreq.results import folds

NETS = """
from pathlib import Path
from torch import nn
from fastfreq.demo import load_network

class Stopping(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = load_network("natural")

    def forward(self, x):
        left = Path("passes")
        if left.exists():
            left.write_text(str(int(left.read_text()) - 1))
            if int(left.read_text()) < 0:
                raise KeyboardInterrupt
        return self.net(x)

def natural():
    return Stopping().eval()
"""
WORDS = ["--model", "nets.py:natural", "--data", "digits.npz", "--size", "3", "--batch-size", "8", "--no-channels-last"]
HEATMAP = ["heatmap", *WORDS, "--eps", "2.5"]
NAME = "heatmap-nets.py-natural"


@pytest.fixture
def job(tmp_path, monkeypatch, one_thread):
    """A working folder with a model that stops where a file says so, and 40 digits; pictures are files of nothing."""
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS)
    images, labels = demo.load_digits()
    np.savez("digits.npz", images=images[:40].numpy(), labels=labels[:40].numpy())

    def write(_figure: Figure, file: Any, **_: Any) -> None:
        file.write(b"\x89PNG\r\n\x1a\n")

    monkeypatch.setattr(Figure, "savefig", write)
    return tmp_path


def stopped(*words: str, out: str = "out", passes: int = 20) -> None:
    """A run that is interrupted after some forward passes."""
    Path("passes").write_text(str(passes))
    assert main([*HEATMAP, "--out", out, "--quiet", *words]) == 130
    Path("passes").unlink()


def said(folder: str = "out", name: str = NAME) -> dict[str, Any]:
    """What a run wrote down."""
    return json.loads(Path(folder, f"{name}.run", "run.json").read_text())


def assert_same(first: str, second: str) -> None:
    """Every field that is no text, bit for bit."""
    a, b = ff.load(first), ff.load(second)
    for name, fold in folds.folds(a).items():
        assert fold.how == "text" or folds.equal(getattr(a, name), getattr(b, name)), name


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The line of a refusal."""
    assert main(words) == 2
    return capsys.readouterr().err


def test_a_run_says_what_it_was_of(job):
    assert main([*HEATMAP, "--out", "out", "--quiet"]) == 0
    found = said()
    assert found["config"]["eps"] == 2.5 and found["config"]["data"] == "digits.npz" and found["finished"]
    assert found["environment"]["processes"] == 1 and found["environment"]["threads"] == 1
    prints = found["fingerprints"]
    assert prints["weights"] == ff.load(f"out/{NAME}.npz").model.weights and prints["normalisation"] is None
    assert prints["images"] == 40 and len(prints["data_sha256"]) == 64 and prints["code_unknown"] == []
    assert [file.name for file in Path("out", f"{NAME}.run").iterdir()] == ["run.json"]
    Path("nets.py").write_text(NETS.replace("self.net(x)", "self.net(x) * 2"))
    assert main([*HEATMAP, "--out", "other", "--quiet"]) == 0
    other = said("other")["fingerprints"]
    assert other["weights"] == prints["weights"] and other["code"] != prints["code"]


def test_the_list_of_images_is_kept(job):
    for name in ("a/1.png", "b/2.png", "b/3.png"):
        Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 12, 3), 99, np.uint8)).save(Path("photos", name))
    assert main(["image-spectrum", "--data", "photos", "--out", "out", "--quiet"]) == 0
    listed = Path("out/image-spectrum-photos.run/images.txt").read_text()
    assert listed.splitlines() == ["a/1.png\t0", "b/2.png\t0", "b/3.png\t0"]


def test_a_stopped_run_goes_on_and_only_when_asked(job, capsys):
    stopped()
    run = Path("out", f"{NAME}.run")
    assert "with --resume goes on" in capsys.readouterr().err
    assert said()["finished"] is None and 0 < ff.load(run / "partial.npz").n_images < 40
    assert "--resume" in refused([*HEATMAP, "--out", "out"], capsys)
    assert "--out: expected names that no other run has" in refused([*HEATMAP, "--seed", "1", "--out", "out"], capsys)
    assert "--resume" in refused(["merge", "out", "--out", "m.npz"], capsys)
    assert main([*HEATMAP, "--out", "out", "--resume", "--quiet"]) == 0
    assert main([*HEATMAP, "--out", "whole", "--quiet"]) == 0
    assert_same(f"out/{NAME}.npz", f"whole/{NAME}.npz")
    assert said()["finished"] and [file.name for file in run.iterdir()] == ["run.json"]


def test_a_refused_run_leaves_its_name_free(job, capsys):
    for _ in range(2):
        assert main([*HEATMAP, "--layers", "nowhere"]) == 2
        assert "got 'nowhere'" in capsys.readouterr().err
    assert not [path for path in Path("fastfreq-report").rglob("*") if path.name != NAME]


def test_forced_runs_begin_again(job):
    stopped()
    partial = Path("out", f"{NAME}.run", "partial.npz")
    for words in ([], ["--seed", "1"]):
        assert partial.exists()
        assert main([*HEATMAP, *words, "--out", "out", "--force", "--quiet"]) == 0
        assert not partial.exists()
        stopped("--seed", "1", "--force")


def test_the_default_folder_of_a_stopped_run_is_its_own(job):
    Path("passes").write_text("20")
    assert main([*HEATMAP, "--quiet"]) == 130
    Path("passes").unlink()
    assert main([*HEATMAP, "--seed", "1", "--quiet"]) == 0
    assert main([*HEATMAP, "--resume", "--quiet"]) == 0
    assert ff.load(f"fastfreq-report/{NAME}/{NAME}.npz").seed == 0
    assert ff.load(f"fastfreq-report/{NAME}-2/{NAME}.npz").seed == 1


def test_directories_of_shards_merge(job, capsys):
    for i in range(3):
        assert main([*HEATMAP, "--shard", f"{i}/3", "--out", f"runs/{i}", "--quiet"]) == 0
    assert main(["merge", "runs/0", "runs/1", "runs/2", "--out", "merged.npz"]) == 0
    assert main([*HEATMAP, "--out", "whole", "--quiet"]) == 0
    assert_same("merged.npz", f"whole/{NAME}.npz")
    Path("empty").mkdir()
    assert "expected results in empty" in refused(["merge", "empty", "--out", "m.npz"], capsys)


@pytest.mark.filterwarnings("always:. of 3 shards are not among these:UserWarning")
def test_shards_of_other_images_and_shards_that_are_missing_are_said(job, capsys):
    images, labels = demo.load_digits()
    np.savez("other.npz", images=images[40:80].numpy(), labels=labels[40:80].numpy())
    asked = {"a": ["--shard", "0/3"], "b": ["--shard", "1/3"], "c": ["--shard", "2/3"]}
    asked |= {"other": [*asked["b"], "--data", "other.npz"], "few": [*asked["b"], "--limit", "20"]}
    for out, words in asked.items():
        assert main([*HEATMAP, *words, "--out", out, "--quiet"]) == 0
    assert "of --data digits.npz, " in (text := refused(["merge", "a", "other", "--out", "m.npz"], capsys))
    assert "of --data other.npz, whose contents differ; measure one of them again" in text
    assert "is of --limit nothing, few/" in refused(["merge", "a", "few", "--out", "m.npz"], capsys)
    assert main(["merge", "a", "few", "--out", "forced.npz", "--force", "--quiet"]) == 0
    assert main(["merge", "a", "c", "--out", "part.npz", "--quiet"]) == 0
    assert "warning: 1 of 3 shards are not among these, the first: 1/3" in capsys.readouterr().err
    assert main(["merge", "part.npz", "b", "--out", "whole.npz", "--quiet"]) == 0 and not capsys.readouterr().err
    assert "--shard" not in ff.load("whole.npz").details["command"]
    assert "whole.npz does not fit: " in (text := refused(["merge", "a", "whole.npz", "--out", "m.npz"], capsys))
    assert "is one of them a sum of others?" in text and "--shards" not in text
    nobody = [*HEATMAP, "--shard", "70/80", "--out", "none"]
    assert "got none in shard 70 of 80; make fewer shards" in refused(nobody, capsys)


def test_torchrun_gives_the_figures_of_one_process(job):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    root = str(Path(ff.__file__).parents[1])
    environment = {"PYTHONPATH": f"{root}:{root}/kernels", "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(
        [*command, "-m", "fastfreq", *HEATMAP, "--out", "out", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
        start_new_session=True,
    )  # fmt: skip
    try:
        printed, errors = run.communicate(timeout=100)
    finally:
        with contextlib.suppress(ProcessLookupError):  # none of the processes is left behind
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 0, errors
    (found,) = json.loads(printed)
    assert main([*HEATMAP, "--out", "whole", "--quiet"]) == 0
    assert found["headline"] == ff.load(f"whole/{NAME}.npz").headline()
    assert_same(f"out/{NAME}.npz", f"whole/{NAME}.npz")
    assert said()["environment"]["processes"] == 2
    names = sorted(path.name for path in Path("out").iterdir())
    assert names == sorted(path.name for path in Path("whole").iterdir())
