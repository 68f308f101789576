"""`fastfreq train-demo`: from nothing to a page that shows and explains what a network learns first."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import fastfreq as ff
from fastfreq.cli import main

pytestmark = pytest.mark.usefixtures("one_thread")


def test_it_trains_saves_draws_and_explains(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train-demo", "--epochs", "4", "--json"]) == 0
    out = Path("fastfreq-report/train-demo")
    frequencies, coarse = ff.load(out / "frequencies.npz"), ff.load(out / "coarse-images.npz")
    assert frequencies.measures == ("filtering", "projection") and frequencies.steps.tolist() == list(range(5))
    assert coarse.measured == "filter_curve" and coarse.steps.tolist() == list(range(5))
    low, high = frequencies.low_high()
    assert frequencies.meaningful().all() and (low < high).all()  # low frequencies first, at every epoch and width
    assert coarse[4].table()[-1]["accuracy"] > 0.5
    printed = json.loads(capsys.readouterr().out)
    assert [each["kind"] for each in printed] == ["frequency_history", "measurement_history"]
    page = (out / "report.html").read_text()
    assert "<h2>What was learned first</h2>" in page and "<h2>Measured during training</h2>" in page
    text = re.sub(r"\s+", " ", page)
    assert "Part of what it has to learn is coarse" in text and "frequency principle" in text
    assert page.count("data:image/png") == 2 and (out / "frequency-history.png").stat().st_size > 20_000
    # the same words again, the same figures and the same place
    assert main(["train-demo", "--epochs", "4", "--quiet"]) == 0
    again = ff.load(out / "frequencies.npz")
    assert again.table() == frequencies.table() and not Path("fastfreq-report/train-demo-2").exists()
    assert main(["train-demo", "--epochs", "1", "--seed", "7", "--quiet"]) == 0  # another run goes beside it
    other = ff.load("fastfreq-report/train-demo-2/frequencies.npz")
    assert other.run_ids.tolist() == [7] and other.errors["filtering"][0, 0, 0] != again.errors["filtering"][0, 0, 0]
    assert main(["train-demo", "--epochs", "1", "--quiet", "--out", str(out)]) == 2
    assert "is the result of another run" in capsys.readouterr().err
    assert main(["repeat", "fastfreq-report/train-demo-2/frequencies.npz"]) == 0
    assert "to the last bit" in capsys.readouterr().out


def test_an_interrupted_training_writes_what_it_has(tmp_path, monkeypatch, capsys):
    steps = ff.FrequencyTracker.step

    def interrupted(tracker, model, step, **options):
        if step == 2:
            raise KeyboardInterrupt
        return steps(tracker, model, step, **options)

    monkeypatch.setattr(ff.FrequencyTracker, "step", interrupted)
    assert main(["train-demo", "--epochs", "4", "--out", str(tmp_path)]) == 130
    assert "interrupted after 1 of 4 epochs" in capsys.readouterr().out
    assert ff.load(tmp_path / "frequencies.npz").steps.tolist() == [0, 1] and (tmp_path / "report.html").exists()
