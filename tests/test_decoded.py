"""Image files decoded once into a folder: the same batches as without it, whoever decodes, and never other pixels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fastfreq as ff
from fastfreq.cli import main
from fastfreq.data import Preprocessing, decoded

RNG = np.random.default_rng(0)
UNREADABLE = ("0/0.png", "0/3.png", "2/4.png")
GEOMETRY = Preprocessing((11, 14), 15)


@pytest.fixture
def folder(tmp_path):
    """15 images of 3 classes and of several sizes, the first and the last among those that cannot be read."""
    for i in range(15):
        path = tmp_path / "images" / str(i // 5) / f"{i % 5}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = RNG.integers(0, 256, (15 + i % 4, 19 + i % 3, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    for name in UNREADABLE:
        (tmp_path / "images" / name).write_bytes(b"no image")
    return tmp_path / "images"


@pytest.fixture
def no_decoder(monkeypatch):
    """Call it, and decoding fails from then on."""

    def refuse(*_args, **_options):
        raise AssertionError("decoded again")

    return lambda: monkeypatch.setattr(decoded, "in_order", refuse)


def load(folder, **options):
    return ff.load_data(folder, preprocessing=GEOMETRY, batch_size=4, **options)


@pytest.mark.filterwarnings("ignore:.* images could not be read")
@pytest.mark.parametrize("limit", [None, 7])
def test_batches_names_and_what_is_left_out_are_the_same(folder, tmp_path, no_decoder, limit):
    plain = load(folder, limit=limit)
    expected = list(plain)
    for time in range(2):
        mapped = load(folder, limit=limit, decoded=tmp_path / "pixels")
        found = list(mapped)
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert mapped.skipped == plain.skipped and mapped.names() == plain.names()
        if not time:
            no_decoder()
            found[0][0].zero_()  # the batch is the caller's, not the file


def test_files_in_another_geometry_or_of_another_time_are_decoded_anew(folder, tmp_path):
    for name in UNREADABLE:
        Image.fromarray(np.full((20, 20, 3), 7, np.uint8)).save(folder / name)
    whole = [next(iter(load(folder, decoded=tmp_path / "p")))[0]]
    assert int(whole[0][0].max()) == 7
    Image.fromarray(np.full((20, 20, 3), 9, np.uint8)).save(folder / "0/0.png")
    os.utime(folder / "0/0.png", ns=(1, 1))
    assert int(next(iter(load(folder, decoded=tmp_path / "p")))[0][0].max()) == 9
    other = ff.load_data(folder, preprocessing=Preprocessing((8, 8), 15), decoded=tmp_path / "p")
    assert next(iter(other))[0].shape == (15, 3, 8, 8)
    assert len(list((tmp_path / "p").glob("*.npy"))) == 3


def test_folders_whose_files_have_the_same_names_sizes_and_times_are_two(tmp_path):
    for value in (7, 9):
        file = tmp_path / str(value) / "class" / "0.ppm"
        file.parent.mkdir(parents=True)
        Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file)
        os.utime(file, ns=(1, 1))
    found = [next(iter(ff.load_data(tmp_path / f"{value}", decoded=tmp_path / "p")))[0] for value in (7, 9)]
    assert [int(images.max()) for images in found] == [7, 9]


@pytest.mark.filterwarnings("ignore:.* images could not be read")
@pytest.mark.parametrize("damage", ["a pixel", "pixels cut off", "checksums of others", "no archive"])
def test_other_pixels_than_were_written_are_refused(folder, tmp_path, damage):
    load(folder, decoded=tmp_path)
    (pixels,), (sums,) = tmp_path.glob("*.npy"), tmp_path.glob("*.npz")
    if damage == "a pixel":
        with pixels.open("rb+") as file:
            file.seek(-700, os.SEEK_END)
            value = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([value ^ 1]))
    elif damage == "pixels cut off":
        os.truncate(pixels, pixels.stat().st_size - 1)
    elif damage == "checksums of others":
        load(folder, limit=5, decoded=tmp_path / "few")
        (other,) = (tmp_path / "few").glob("*.npz")
        sums.write_bytes(other.read_bytes())
    else:
        sums.write_bytes(b"PK")
    with pytest.raises(ValueError, match=rf"{tmp_path}.*remove|{sums.name}"):
        list(load(folder, decoded=tmp_path))


def test_what_cannot_be_decoded_once_is_refused_and_leaves_nothing(folder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"images of one size, got .* \(0/1.png\) and .* \(0/2.png\)"):
        ff.load_data(folder, decoded=tmp_path / "p")
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 4, 4, 3), np.uint8), labels=np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="expected no `decoded` beside .*a.npz"):
        ff.load_data(tmp_path / "a.npz", decoded=tmp_path / "p")
    monkeypatch.setattr(decoded.shutil, "disk_usage", lambda _path: type("Usage", (), {"free": 10}))
    with pytest.raises(ValueError, match="expected 6930 bytes of room for the pixels of 15 images"):
        load(folder, decoded=tmp_path / "p")
    for name in list(folder.rglob("*.png")):
        name.write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of 15 could be read, the first: 0/0.png"):
        load(folder, decoded=tmp_path / "p")
    assert not [path for path in (tmp_path / "p").iterdir() if path.suffix != ".lock"]


def test_processes_that_ask_at_once_decode_once(folder, tmp_path):
    """The second waits for the first, and finds what it wrote."""
    program = (
        "import sys, time, pathlib\n"
        "from fastfreq.data import decoded, load_data, Preprocessing\n"
        "real = decoded.in_order\n"
        "def slow(*args, **options):\n"
        "    with open(sys.argv[3], 'a') as file: file.write('x')\n"
        "    time.sleep(1)\n"
        "    return real(*args, **options)\n"
        "decoded.in_order = slow\n"
        "data = load_data(sys.argv[1], preprocessing=Preprocessing((11, 14), 15), decoded=sys.argv[2])\n"
        "print(sum(int(x.sum()) for x, _ in data))\n"
    )
    words = [sys.executable, "-W", "ignore", "-c", program, str(folder), str(tmp_path / "p"), str(tmp_path / "said")]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    totals = {process.communicate(timeout=120)[0] for process in both}
    assert len(totals) == 1 and all(process.returncode == 0 for process in both)
    assert (tmp_path / "said").read_text() == "x"


def test_the_command_line_decodes_once(folder, tmp_path, no_decoder, capsys):
    for name in UNREADABLE:
        Image.fromarray(np.full((20, 20, 3), 7, np.uint8)).save(folder / name)
    words = ["image-spectrum", "--data", str(folder), "--crop", "8", "--resize", "15", "--json"]
    said = []
    for out in ("a", "b", "c"):
        once = [] if out == "a" else ["--decoded", str(tmp_path / "p")]
        assert main([*words, "--out", str(tmp_path / out), *once]) == 0
        said.append(capsys.readouterr().out)
        if out == "b":
            no_decoder()
    figures = [Path(tmp_path / out).glob("*.csv") for out in ("a", "b", "c")]
    tables = {next(files).read_text() for files in figures}
    assert len(tables) == 1
