"""The commands for a card, tried without one: tiny sizes, kernels in Triton's interpreter, each in its own process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import fastfreq_kernels
import pytest

pytest.importorskip("triton")
ROOT = Path(__file__).parents[1]
GPU = ROOT / "benchmarks" / "gpu"


def command(name, *words):
    """The exit code and the last words of a command that needs no installation."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    settings = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    settings.pop("TRITON_INTERPRET", None)
    words = [sys.executable, GPU / name, *words]
    done = subprocess.run(words, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=600)
    return done.returncode, (done.stdout + done.stderr)[-6000:]


def test_everything_is_tried(tmp_path):
    code, said = command("prove.py", "--out", tmp_path, "--dry")
    found = json.loads((tmp_path / "prove.json").read_text())
    assert code == 0 and found["dry"], said
    assert {phase["state"] for phase in found["phases"].values()} == {"done"}, said
    operations = {file.parent.name for file in Path(fastfreq_kernels.__file__).parent.glob("*/_triton.py")}
    checked = {name.split()[0] for name, row in found["rows"].items() if row.get("ok")}
    assert operations <= checked | {"channel_svd"} and "fourier_signs," in checked
    assert any(name.startswith("toolkit") for name in found["rows"])


def test_a_phase_that_fails_stops_no_other(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(GPU))
    from proving import Proof

    proof = Proof(tmp_path / "found.json", "cpu", dry=True, seconds=60)
    proof.phase("breaks", 10, lambda p: p.row("wrong", ok=False) or 1 / 0)
    assert proof.phases["breaks"]["why"].startswith("ZeroDivisionError") and proof.code == 1
    proof.phase("goes on", 10, lambda p: p.row("right", ok=True))
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["phases"]["goes on"]["state"] == "done" and found["rows"]["right"] == {"ok": True}

    late = Proof(tmp_path / "late.json", "cpu", dry=False, seconds=0.5)
    late.phase("never ends", 0.2, lambda p: [p.row("count", i=i) for i in iter(int, 1)])
    assert late.phases["never ends"]["state"] == "out of time" and late.code == 2
    late.phase("has no time", 600, lambda p: p.row("none"))
    assert late.phases["has no time"]["state"] == "no time left"
    slow = Proof(tmp_path / "slow.json", "cpu", dry=False, seconds=60)
    slow.phase("misses", 10, lambda p: p.row("slow", met=False))
    assert slow.code == 3


def test_without_a_card_everything_is_a_prediction(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a card")
    code, said = command("prove.py", "--out", tmp_path)
    found = json.loads((tmp_path / "prove.json").read_text())
    assert code == 0 and "predicted, not yet measured" in said
    assert {row["state"] for row in found["rows"].values()} == {"predicted, not yet measured"}
    assert any(name.startswith("streaming perturb_kernel") for name in found["rows"])


def test_settings_are_tuned_into_the_same_file(tmp_path, monkeypatch):
    code, said = command("tune.py", "--out", tmp_path, "--dry")
    assert code == 0, said
    rows = json.loads((tmp_path / "tuned.json").read_text())["rows"]
    assert rows["SIGNS_BLOCK"]["ms"].keys() == {"64", "256"}
    written = (tmp_path / "_configs.py").read_text()
    assert f"SIGNS_BLOCK = {rows['SIGNS_BLOCK']['chosen']}  # signs of one program; measured on a dry run" in written

    monkeypatch.syspath_prepend(str(GPU))
    from knobs import works
    from tune import rewritten

    text = (ROOT / "kernels/fastfreq_kernels/_configs.py").read_text()
    knobs = [knob for work in works() for knob in work.knobs]  # every one stands in the file
    again = {str(knob): {"chosen": knob.get()} for knob in knobs}
    once = rewritten(text, again, "card A")
    assert once.count("card A") > 15 and rewritten(rewritten(once, again, "card B"), again, "card A") == once
    values = {}
    exec(compile(once, "_configs.py", "exec"), {"__name__": "fastfreq_kernels._configs"}, values)
    assert values["SIGNS_BLOCK"] == 256 and values["RINGS_GROUP_BYTES"] == 24 << 20


def test_files_of_gpu_tests_run_one_by_one(tmp_path):
    code, said = command("gpu_tests.py", "--out", tmp_path, "--dry")
    rows = json.loads((tmp_path / "tests.json").read_text())["rows"]
    assert code == 0 and rows["test_gram_iteration"]["tests"] > 0, said


def test_resources_are_added_by_version(tmp_path):
    file = tmp_path / "resources.json"
    file.write_text('{"triton": {"0.1": {"old_kernel": {"sm_90": [1, 0, 0]}}}}')
    words = ("--to", file, "--targets", "cuda 90", "--only", "gram_iteration")
    code, said = command("resources.py", *words)
    table = json.loads(file.read_text())["triton"]
    assert code == 0 and table.pop("0.1"), said
    (found,) = table.values()
    assert all(
        name.startswith("square_kernel") and spilled == 0 for name, by in found.items() for _, spilled, _ in by.values()
    )
