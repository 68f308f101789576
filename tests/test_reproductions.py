"""The published experiments: their data and measures against closed forms, each script for a few steps."""

import gzip
import importlib
import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from reproductions.wen2024_training import (
    Claim,
    FrequencyAdam,
    band_pass,
    circular_fit,
    first_phase,
    read_idx,
    table,
)

from fastfreq.layers.cyclic import CyclicNet

SCRIPTS = Path(__file__).parents[1] / "benchmarks" / "reproductions"


@pytest.fixture
def script(monkeypatch):
    """A script as a module; the threads and denormals that it sets are put back."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def digits(tmp_path):
    """240 random images of 28 x 28 with labels 0 and 1, one file packed and one not, as MNIST comes."""
    rng = np.random.default_rng(3)
    images, labels = tmp_path / "images.gz", tmp_path / "labels"
    images.write_bytes(gzip.compress(idx(rng.integers(0, 256, (240, 28, 28), dtype=np.uint8))))
    labels.write_bytes(idx(np.arange(240, dtype=np.uint8) % 2))
    return ["--images", str(images), "--labels", str(labels)]


@pytest.mark.parametrize(
    ("name", "pictures"),
    [
        ("figure1", ["figure1.png"]),
        ("figure2", ["figure2.png", "figure2_edit_0_0.png", "figure2_edit_0_1.png", "figure2_edit_1_0.png"]),
        ("figure3", ["figure3.png"]),
        ("figure4", ["figure4.png", "figure4_edit.png"]),
    ],
)
def test_script_writes_numbers_and_figures(name, pictures, script, digits, tmp_path, monkeypatch):
    small = ["--steps", "2", "--layers", "4", "--channels", "3", "--batch", "4", "--out", str(tmp_path / "out")]
    data = digits if name in {"figure1", "figure2"} else []
    monkeypatch.setattr(sys, "argv", [name, *small, *data])
    script(f"wen2024_{name}").main()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([f"{name}.json", *pictures])
    text = json.loads((tmp_path / "out" / f"{name}.json").read_text())
    assert text["here"]["steps"] == 2
    assert len(text["gaps"]) == 4
    assert not all(claim["holds"] for claim in text["claims"])  # two steps teach nothing, and the claims say so


def test_idx_file_is_read_packed_or_not(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (3, 5, 2), dtype=np.uint8)
    (tmp_path / "plain").write_bytes(idx(array))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(idx(array)))
    for name in ("plain", "packed.gz"):
        np.testing.assert_array_equal(read_idx(tmp_path / name), array)
    (tmp_path / "other").write_bytes(b"\x89PNG0000")
    with pytest.raises(ValueError, match="expected an idx file of bytes, such as t10k-images-idx3-ubyte.gz"):
        read_idx(tmp_path / "other")


def test_phase_of_a_moved_dot_is_its_place():
    images = np.zeros((7, 9, 7))
    images[np.arange(7), (2 * np.arange(7)) % 9, np.arange(7)] = 1
    for axis, place in ((0, (2 * np.arange(7)) % 9 / 9), (1, np.arange(7) / 7)):
        turned = np.exp(1j * first_phase(images, axis)) * np.exp(-2j * np.pi * place)
        np.testing.assert_allclose(turned, 1, atol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_circular_fit_sees_through_turns_and_signs(sign):
    rng = np.random.default_rng(5)
    place = rng.uniform(-20, 20, 500)
    assert circular_fit(sign * place + 1.3, place) == pytest.approx(1)
    noisy = circular_fit(sign * place + rng.normal(0, 0.2, 500), place)
    assert noisy == pytest.approx(1 - 0.04 / (np.pi**2 / 3), abs=0.005)  # variance of the uniform angle: pi^2 / 3
    assert circular_fit(rng.uniform(-3, 3, 500), place) < 0.2


def test_patterned_images_have_energy_around_the_pattern_only(script):
    images = script("wen2024_figure3").make_images(20, torch.Generator().manual_seed(0))
    energy = torch.fft.fft2(images[:, 0].double()).abs().square().mean(dim=0).numpy()
    k = np.fft.fftfreq(15, 1 / 15)
    away = np.minimum(*(np.abs(k[:, None] - s) + np.abs(k[None] - s) for s in (5, -5)))
    assert energy[away > 2].sum() < 1e-10 * energy.sum()
    assert (energy[away <= 2] > 1e-5 * energy.sum()).all()


def test_kept_frequencies_are_split_by_place(script):
    kept = {(0, 0): 3, (1, -1): 1, (-1, 1): 1, (5, 4): 1, (-5, -4): 1, (5, -5): 2, (-5, 5): 2}
    assert script("wen2024_figure3").split(kept) == (2, 2, 2)


def test_ball_falls_and_its_velocity_is_read_from_phases(script):
    figure4 = script("wen2024_figure4")
    movies, path, velocity = figure4.make_movies(300, torch.Generator().manual_seed(2))
    frames = movies.double().numpy()
    y, x = (np.stack([first_phase(frames[:, t], axis) for t in range(8)]) * 15 / (2 * np.pi) for axis in (0, 1))
    turn = lambda difference: (difference + 7.5) % 15 - 7.5  # noqa: E731
    np.testing.assert_allclose(turn(np.diff(turn(np.diff(y, axis=0)), axis=0)), 0.25, atol=0.02)
    np.testing.assert_allclose(turn(np.diff(x, axis=0)), np.tile(velocity[:, 1], (7, 1)), atol=0.02)
    np.testing.assert_allclose(turn(np.stack([y, x], axis=2) - path.transpose(0, 1).numpy()), 0, atol=0.02)
    wave = lambda t, k: np.exp(2j * np.pi * k * x[t] / 15)  # noqa: E731
    for waves in ({(0, 1): [wave(2, 1), wave(3, 1)]}, {(0, 1): [wave(2, 1)], (0, 2): [wave(3, 2)]}):
        assert figure4.velocity_fit(waves, velocity[:, 1].numpy()) > 0.95
        assert figure4.velocity_fit(waves, velocity[:, 0].numpy()) < 0.1


def test_first_step_moves_every_frequency_by_the_rate():
    torch.manual_seed(1)
    net = CyclicNet([1, 2, 3], (4, 7), beta=0.5, classes=5)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    net(torch.randn(6, 1, 4, 7)).square().sum().backward()
    FrequencyAdam(net, 0.24).step()
    for old, parameter in zip(before, net.parameters(), strict=True):
        change = (parameter.detach() - old).double().numpy()
        moved = np.abs(np.fft.fft2(change)) ** 2 if change.ndim == 4 else change**2
        moved = moved.mean(axis=(0, 1)[: change.ndim])
        np.testing.assert_allclose(moved, 0.24**2, rtol=1e-4)


def test_frequency_adam_is_adam_where_there_is_one_channel():
    """Bias and filter of one entry: the second moment is Adam's own."""
    nets = [CyclicNet([1, 1], (1,), beta=0.0) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    ours = FrequencyAdam(nets[0], 0.1)
    adam = torch.optim.Adam(nets[1].parameters(), lr=0.1, betas=(0.9, 0.99), eps=0)
    for x in (1.0, -3.0, 0.5):
        for net, optimizer in zip(nets, (ours, adam), strict=True):
            optimizer.zero_grad()
            (net(torch.full((1, 1, 1), x)) - 2).square().sum().backward()
            optimizer.step()
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(a, b)


def test_table_has_a_row_per_claim():
    text = table([Claim("rank", "6", "7", holds=False), Claim("R2", "high", 0.98765, holds=True)])
    assert text.splitlines() == [
        "claim  published  measured  holds",
        "rank   6          7         no",
        "R2     high       0.988     yes",
    ]


def test_training_is_repeatable():
    first, second = (band_pass(seed=4, steps=3) for _ in range(2))
    assert first[1] == second[1]
    for a, b in zip(first[0].parameters(), second[0].parameters(), strict=True):
        assert torch.equal(a, b)
