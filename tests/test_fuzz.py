"""A seeded sample of the fuzzer's cases (`tests/proofs/fuzz.py`), and the defects that it found, each mended."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fastfreq as ff
from fastfreq.cli import _arguments, main
from fastfreq.engine import tuning
from fastfreq.inputs.corruption_sources import FolderSource
from tests.proofs import fuzz, fuzz_words

SAMPLE = {"table": 800, "data": 500, "safetensors": 200, "pickled": 150, "photograph": 200, "corrupted": 250,
          "pace": 200, "model name": 300}  # fmt: skip


@pytest.fixture(scope="module")
def guard():
    return fuzz.Guard()


def found(name: str, count: int, guard: fuzz.Guard, folder: Path) -> dict[str, object]:
    session = fuzz.Session(fuzz_words.TARGETS[name], guard, folder, seed=7)
    try:
        session.run(count)
    finally:
        session.close()
    assert session.done == count and session.refused + session.taken >= count
    return session.found


@pytest.mark.filterwarnings("ignore")  # numpy's, of NaN in what was changed
@pytest.mark.parametrize("name", SAMPLE)
def test_hostile_input_is_read_or_refused(name, guard, tmp_path, one_thread):
    assert not found(name, SAMPLE[name], guard, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", fuzz_words.TARGETS)
def test_more_hostile_input_is_read_or_refused(name, guard, tmp_path, one_thread):
    assert not found(name, 2_000, guard, tmp_path)


@pytest.mark.parametrize("does", ["write", "read", "start", "loop", "grow"])
def test_the_fuzzer_sees_what_none_may_do(does, guard, tmp_path, monkeypatch):
    if does == "loop":
        monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    grown = iter(range(0, 1000, 300))
    monkeypatch.setattr(fuzz, "_most", lambda: next(grown) << 20 if does == "grow" else 0)

    def run(_content: bytes, _folder: Path) -> None:
        if does == "write":
            (tmp_path / "outside").write_text("x")
        elif does == "read":
            (tmp_path / "secret").read_text()
        elif does == "start":
            os.posix_spawn("/bin/true", ["true"], {})
        elif does == "loop":
            while True:
                pass

    (tmp_path / "secret").write_text("x")
    target = fuzz_words.Target("bad", lambda: [b"a"], [lambda content, _rng: content], run, 1)
    session = fuzz.Session(target, guard, tmp_path / "state", seed=0)
    session.run(64 if does == "grow" else 1)
    session.close()
    assert len(session.found) == 1


# ---------------------------------------------------------------- what was found
def test_a_fraction_too_large_for_a_float_is_refused():
    with pytest.raises(_arguments.argparse.ArgumentTypeError, match="expected a number or a fraction"):
        _arguments.number("9" * 400 + "/1")


def test_names_that_are_no_utf8_are_taken(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    odd = os.fsdecode(b"\xff")
    Path("photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    for name in ("a.png", f"{odd}.png"):
        Image.fromarray(pixels).save(tmp_path / "a", "PNG")
        (tmp_path / "a").rename(Path("photos", name))
    with monkeypatch.context() as patch:
        patch.setattr("fastfreq.report.write_report", lambda _shown, path, **_: path)
        assert main(["image-spectrum", "--data", "photos", "--out", f"out{odd}"]) == 0
    assert "\\udcff" in capsys.readouterr().out
    (listed,) = Path(f"out{odd}").rglob("images.txt")
    assert listed.read_text().splitlines() == ["a.png\t0", "\\udcff.png\t0"]
    (file,) = Path(f"out{odd}").glob("*.npz")
    assert main(["merge", str(file), "--out", f"{odd}.npz"]) == 0


def test_a_device_without_numbers_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", images=np.zeros((2, 8, 8), np.uint8), labels=np.zeros(2, int))
    words = ["image-spectrum", "--data", "data.npz"]
    assert main([*words, "--device", "meta"]) == 2
    assert "--device: expected a device of this machine" in capsys.readouterr().err


@pytest.mark.parametrize("side", [10**6, 10**12, 2**64])
def test_an_input_larger_than_memory_is_refused(side):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    with pytest.raises(ValueError, match="expected an `input_size` whose zeros fit into memory"):
        ff.singular_values(net, input_size=(3, side, 10**6))


@pytest.mark.parametrize("labels", [np.arange(3), np.array(["a"] * 10), np.zeros(10)])
def test_labels_of_corrupted_images_must_fit_them(tmp_path, labels):
    np.save(tmp_path / "fog.npy", np.zeros((10, 5, 6, 3), np.uint8))
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(ValueError, match=r"expected .*labels\.npy with an integer for each of the \[10\] rows"):
        FolderSource(tmp_path)


def test_a_damaged_array_of_corrupted_images_is_named(tmp_path):
    np.save(tmp_path / "fog.npy", np.zeros((10, 5, 6, 3), np.uint8))
    content = (tmp_path / "fog.npy").read_bytes()
    for damaged in (content[:-1], content + b"0", content[:90], content.replace(b"(10,", b"(9e,"), b""):
        (tmp_path / "fog.npy").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"fog\.npy is damaged"):
            FolderSource(tmp_path)


def test_a_remembered_batch_size_is_a_number(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTFREQ_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tuning, "_REMEMBERED", {})
    (tmp_path / "pace.json").write_text(json.dumps({"key": [True, True, 0.5], "other": [3, True, 0.5]}))
    assert tuning._remembered("key") is None and tuning._remembered("other") == (3, True, 0.5)
