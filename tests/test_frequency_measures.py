"""The three measures of a frequency tracker against NumPy and the definitions written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff
from fastfreq.training import ExactDFT, Filtering, Projection
from fastfreq.training import filtering as filtering_module
from fastfreq.training.projection import principal_component

pytestmark = pytest.mark.usefixtures("one_thread")


class Table(nn.Module):
    """Returns what it was told, whatever goes in."""

    def __init__(self, outputs: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("outputs", torch.from_numpy(outputs.copy()))
        self.place = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.place = 0 if self.place >= len(self.get_buffer("outputs")) else self.place
        self.place += len(x)
        return self.get_buffer("outputs")[self.place - len(x) : self.place]


def looked(points: np.ndarray, targets: np.ndarray, outputs: np.ndarray, measure, **options):
    """A history of one look."""
    tracker = ff.FrequencyTracker(points, targets, measures=measure, batch_size=7, **options)
    tracker._probes._steady = True  # `Table` counts its calls: no look at whether neighbours matter
    tracker.step(Table(outputs), 3)
    return tracker.history


def grid_points(grid: tuple[int, ...]) -> np.ndarray:
    axes = [np.linspace(-1, 1, n, endpoint=False) + 0.1 * i for i, n in enumerate(grid)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(grid))


@pytest.fixture
def rng():
    return np.random.default_rng(7)


# ---------------------------------------------------------------- exact DFT
@pytest.mark.parametrize("grid", [(9,), (10,), (5, 8), (7, 6), (3, 5, 4), (1, 6)])
def test_exact_dft_is_numpys(grid, rng):
    n = math.prod(grid)
    f, h = rng.normal(size=(2, n, 2))
    F, H = (np.fft.fftn(v.reshape(*grid, 2), axes=range(len(grid))).reshape(n, 2) / n for v in (f, h))
    every = np.stack(np.meshgrid(*[np.rint(np.fft.fftfreq(s) * s) for s in grid], indexing="ij"), -1).reshape(n, -1)
    history = looked(grid_points(grid), f, h, ExactDFT(frequencies=every.astype(int)))
    norm = np.linalg.norm(F, axis=1)
    np.testing.assert_allclose(history.amplitudes["dft"], norm, rtol=1e-10)
    np.testing.assert_allclose(history.error("dft")[0, :, 0], np.linalg.norm(H - F, axis=1) / norm, rtol=1e-9)
    moduli = np.linalg.norm(np.abs(H) - np.abs(F), axis=1) / norm
    np.testing.assert_allclose(history.error("dft", mode="magnitude")[0, :, 0], moduli, rtol=1e-9)
    total = np.linalg.norm(h - f) / np.linalg.norm(f)
    np.testing.assert_allclose(history.total_errors, total, rtol=1e-12)  # and Parseval:
    np.testing.assert_allclose(np.linalg.norm(H - F) / np.linalg.norm(F), total, rtol=1e-12)


def test_bands_and_rings_collect_energy(rng):
    grid = (6, 9)
    f, h = rng.normal(size=(2, 54, 1))
    F, H = (np.fft.fft2(v.reshape(grid)) for v in (f, h))
    i, j = np.meshgrid(np.fft.fftfreq(6) * 6, np.fft.fftfreq(9) * 9, indexing="ij")
    radius = np.hypot(i, j * 6 / 9)  # cycles per shorter side
    bands = looked(grid_points(grid), f, h, ExactDFT(bands=(0.5, 1.5, 4)))
    rings = looked(grid_points(grid), f, h, "dft")
    for history, edges in ((bands, [(0.5, 1.5), (1.5, 4)]), (rings, [(0.5, 1.5), (1.5, 2.5), (2.5, 3.5)])):
        inside = [(radius >= low) & (radius < high) for low, high in edges]
        expected = [np.linalg.norm((H - F)[m]) / np.linalg.norm(F[m]) for m in inside]
        np.testing.assert_allclose(history.errors["dft"][0, :, 0], expected, rtol=1e-9)
    assert rings.labels["dft"] == ("1", "2", "3")


def test_peaks_are_the_tones_of_the_target():
    x = np.arange(64) / 64
    y = 2 * np.sin(2 * np.pi * 3 * x) + np.cos(2 * np.pi * 11 * x) + 1e-3 * np.sin(2 * np.pi * 20 * x)
    history = looked(x, y, 0 * y, "dft")
    assert history.labels["dft"] == ("3", "11")  # that of a thousandth is no peak
    np.testing.assert_allclose(history.amplitudes["dft"], [1, 0.5], rtol=1e-6)


def test_a_shift_is_seen_by_phases_alone():
    x = np.arange(50) / 50
    history = looked(x, np.sin(2 * np.pi * 4 * x), np.sin(2 * np.pi * 4 * (x + 0.05)), ExactDFT(frequencies=[4]))
    expected = abs(np.exp(2j * np.pi * 4 * 0.05) - 1)
    assert history.error("dft")[0, 0, 0] == pytest.approx(expected, rel=1e-6)
    assert history.error("dft", mode="magnitude")[0, 0, 0] == pytest.approx(0, abs=1e-6)


def test_spectral_bias_compares_halves_of_the_target():
    x = np.arange(60) / 60
    tone = {k: np.sin(2 * np.pi * k * x) for k in (1, 4, 9)}
    target = 1 + tone[1] + tone[4] + np.sqrt(2) * tone[9]  # halves: 1 and 4, and 9; the mean is left out
    partly = tone[1] + 0.5 * tone[4]  # an eighth of the low half is left
    for outputs, expected in [
        (0 * x, 0.0), (tone[1] + tone[4], 1.0), (np.sqrt(2) * tone[9], -1.0), (partly, (1 - 0.125) / 1.125),
    ]:  # fmt: skip
        history = looked(x, target, outputs, ExactDFT(frequencies=[1, 4, 9]))
        assert history.spectral_bias("dft")[0, 0] == pytest.approx(expected, abs=1e-6)
    one_tone = looked(x, tone[4], 0 * x, ExactDFT(frequencies=[4]))
    assert np.isnan(one_tone.spectral_bias("dft")).all()  # there are no two halves


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.random.default_rng(0).normal(size=(20, 2)), "regular grid for the exact DFT.*20 x 20 distinct"),
        (np.array([0, 1, 2, 4.0]), "regular grid"),
        (grid_points((4, 5))[::-1], "last coordinate fastest"),
        (grid_points((4, 5)).reshape(4, 5, 2).transpose(1, 0, 2).reshape(20, 2), "last coordinate fastest"),
        (np.zeros((6, 7)), "7 coordinates"),
    ],
    ids=["scattered", "uneven", "backwards", "first fastest", "many"],
)
def test_exact_dft_refuses_what_is_no_grid(points, message):
    with pytest.raises(ValueError, match=message):
        ff.FrequencyTracker(points, np.arange(len(points)) * 1.0, measures="dft")


def test_exact_dft_refuses_other_questions():
    x = np.arange(8) / 8
    y = np.sin(2 * np.pi * x)
    for measure, message in [
        (ExactDFT((3, 3)), "3 x 3 = 9, got 8 probes"),
        (ExactDFT(frequencies=[5]), "another's alias"),
        (ExactDFT(frequencies=[1, -7]), "up to half"),
        (ExactDFT(frequencies=[1, 1]), "each once"),
        (ExactDFT(frequencies=[1.5]), "integers"),
        (ExactDFT(frequencies=[3]), "that the target has, it has none at \\['3'\\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            ff.FrequencyTracker(x, y, measures=measure)
    with pytest.raises(ValueError, match="got both"):
        ExactDFT(frequencies=[1], bands=[0, 1])
    with pytest.raises(ValueError, match="has none inside"):
        ff.FrequencyTracker(x, np.arange(8.0), measures="dft")
    with pytest.raises(ValueError, match="limit=8"):
        ff.FrequencyTracker(x, y, measures="dft", limit=7)
    with pytest.raises(ValueError, match="constant|none inside"):
        ff.FrequencyTracker(grid_points((4, 5)), np.ones(20), measures="dft")


# ---------------------------------------------------------------- projection
@pytest.mark.parametrize("shape", [(40, 3), (15, 30), (700, 600)], ids=["tall", "wide", "large"])
def test_principal_component_is_that_of_numpys_svd(shape, rng):
    points = rng.normal(size=shape) * np.geomspace(3, 0.03, shape[1])
    _, _, vectors = np.linalg.svd(points - points.mean(0), full_matrices=False)
    for index in (0, 1):
        found = principal_component(torch.from_numpy(points), index).numpy()
        assert abs(found @ vectors[index]) == pytest.approx(1, abs=1e-8)
        assert found[np.abs(found).argmax()] > 0


@pytest.mark.parametrize("direction", [None, 1, [1.0, -2.0, 0.5]], ids=["principal", "second", "own"])
def test_projection_is_the_transform_along_a_line(direction, rng):
    points = rng.normal(size=(60, 3)) * [3, 1.5, 0.3] + 5
    f, h = rng.normal(size=(2, 60, 4))
    centred = points - points.mean(0)
    own = np.linalg.svd(centred, full_matrices=False)[2]
    p = own[direction or 0] if not isinstance(direction, list) else np.array(direction)
    p = p * np.sign(p[np.abs(p).argmax()]) if not isinstance(direction, list) else p
    t = points @ p
    t = (t - t.min()) / np.ptp(t)
    k = np.arange(40)
    F, H = (np.exp(-2j * np.pi * np.outer(k, t)) @ v / 60 for v in (f, h))
    single = looked(points, f, h, Projection(direction, frequencies=k))
    expected = np.linalg.norm(H - F, axis=1) / np.linalg.norm(F, axis=1)
    np.testing.assert_allclose(single.errors["projection"][0, :, 0], expected, rtol=1e-7)
    bands = looked(points, f, h, Projection(direction))
    energy = [np.linalg.norm((H - F)[a:b]) / np.linalg.norm(F[a:b]) for a, b in ((0, 3), (3, 8), (8, 16), (16, 40))]
    np.testing.assert_allclose(bands.errors["projection"][0, :, 0], energy, rtol=1e-7)
    assert bands.labels["projection"] == ("0 to 3", "3 to 8", "8 to 16", "16 to 40")


def test_projection_refuses_what_is_no_direction(rng):
    points, y = rng.normal(size=(20, 3)), rng.normal(size=20)
    for measure, message in [
        (Projection([1.0, 2.0]), "3 finite numbers"),
        (Projection([0.0, 0.0, 0.0]), "not all zero"),
        (Projection(3), "from 0 to 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            ff.FrequencyTracker(points, y, measures=measure)
    circle = np.stack([np.cos(a := np.arange(12) * np.pi / 6), np.sin(a)], axis=1)
    with pytest.raises(ValueError, match="no one direction"):
        ff.FrequencyTracker(circle, y[:12], measures="projection")
    with pytest.raises(ValueError, match="one point there"):
        ff.FrequencyTracker(np.eye(3)[[0, 0, 0]], y[:3], measures=Projection([0.0, 1.0, 0.0]))
    with pytest.raises(ValueError, match="from 0, got -1"):
        Projection(frequencies=[-1, 2])


# ---------------------------------------------------------------- filtering
@pytest.mark.parametrize(("n", "d"), [(50, 1), (61, 5), (300, 70)])
def test_filtering_is_the_definition(n, d, rng):
    points = rng.normal(size=(n, d)) + 30  # far from zero, where squares lose digits
    f, h = rng.normal(size=(2, n, 3)) + points[:, :1]
    deltas = (0.1 * d, 0.5 * d, 2.0 * d)
    history = looked(points, f, h, Filtering(deltas))
    square = ((points[:, None] - points[None]) ** 2).sum(-1)
    for j, delta in enumerate(deltas):
        G = np.exp(-square / (2 * delta))
        G /= G.sum(1, keepdims=True)
        e_low = np.linalg.norm(G @ (h - f)) / np.linalg.norm(G @ f)
        e_high = np.linalg.norm((h - f) - G @ (h - f)) / np.linalg.norm(f - G @ f)
        low, high = history.low_high()
        assert low[0, j, 0] == pytest.approx(e_low, rel=2e-5) and high[0, j, 0] == pytest.approx(e_high, rel=2e-5)
        assert history.self_weights["filtering"][j] == pytest.approx(np.diag(G).mean(), rel=2e-5)
        share = np.linalg.norm(f - G @ f) / np.linalg.norm(f)
        assert history.high_shares["filtering"][j] == pytest.approx(share, rel=2e-5)


def test_rows_of_the_kernel_sum_to_one_and_parts_to_the_whole(rng):
    points = torch.from_numpy(rng.normal(size=(90, 4)))
    kernel = filtering_module._Kernel(filtering_module.squared_distances(points))
    values = torch.from_numpy(rng.normal(size=(90, 2)))
    deltas = (1e-6, 0.01, 1.0, 100.0, 1e6)
    weights = kernel.weigh(deltas)
    ones = kernel.low(torch.ones(90, 1, dtype=torch.float64), deltas)
    assert max(float((part - 1).abs().max()) for part in ones) < 1e-6
    low = kernel.low(values, deltas)
    torch.testing.assert_close(low[-1], values.mean(0).float().expand(90, 2), rtol=0, atol=1e-5)
    torch.testing.assert_close(low[0].double(), values, rtol=0, atol=1e-6)
    assert weights[0] == pytest.approx(1) and weights[-1] == pytest.approx(1 / 90, rel=1e-4)
    distances = filtering_module.squared_distances(points)
    assert torch.equal(distances, distances.T) and not distances.diagonal().any()


def test_a_kernel_of_half_the_width_is_the_square_of_another(rng):
    points, values = rng.normal(size=(70, 3)), torch.from_numpy(rng.normal(size=(70, 2)))
    kernel = filtering_module._Kernel(filtering_module.squared_distances(torch.from_numpy(points)))
    deltas = (0.05, 0.1, 0.14, 0.2, 0.28, 3.0)
    assert [deltas[j] for j in filtering_module._order(deltas)] == [3.0, 0.28, 0.14, 0.2, 0.1, 0.05]
    kernel.weigh(deltas)
    together = kernel.low(values, deltas)
    square = ((points[:, None] - points[None]) ** 2).sum(-1)
    for delta, part in zip(deltas, together, strict=True):
        G = np.exp(-square / (2 * delta))
        np.testing.assert_allclose(part, (G / G.sum(1, keepdims=True)) @ values.numpy(), rtol=1e-4, atol=2e-6)


def test_a_gaussian_filter_halves_a_tone_where_its_transform_does():
    """Low part of sin(k x) on a long line: e^(-delta k^2 / 2) of it."""
    x = np.arange(1500) * 0.1
    history = looked(x, np.sin(2 * x), 0 * x, Filtering((0.1,)))
    left = np.exp(-0.1 * 2**2 / 2)
    assert history.amplitudes["filtering"][0] * np.sqrt(2) == pytest.approx(left, rel=5e-3)
    assert history.high_shares["filtering"][0] == pytest.approx(1 - left, rel=2e-2)


def test_default_widths_split(rng):
    points = rng.normal(size=(800, 2))
    labels = (np.sin(3 * points[:, 0]) + 0.3 * rng.normal(size=800) > 0).astype(int)
    tracker = ff.FrequencyTracker(points, labels)
    history = tracker.history
    assert 2 <= len(history.widths["filtering"]) <= 5 and history.meaningful().all()
    with pytest.raises(ValueError, match=r"Take more probes, or give Filtering\(deltas=...\)"):
        ff.FrequencyTracker(rng.normal(size=(12, 50)), np.arange(12) % 3)


def test_filtering_refuses_widths_and_targets(rng):
    for deltas, message in [((0.0, 1.0), "positive"), ((2.0, 1.0), "ascending"), ((), "ascending")]:
        with pytest.raises(ValueError, match=message):
            Filtering(deltas)
    points = rng.normal(size=(30, 2))
    with pytest.raises(ValueError, match="one of them is zero"):
        ff.FrequencyTracker(points, np.ones(30), measures=Filtering((1.0,)))
    with pytest.raises(ValueError, match="at different points"):
        ff.FrequencyTracker(np.ones((30, 2)), np.arange(30) % 2)
    with pytest.raises(ValueError, match="at most 16,384 probes"):
        ff.FrequencyTracker(np.zeros((16385, 1)), np.zeros(16385), limit=20000)
