"""`ff.approximation_curve` against bases written out, and the rates of theory on a picture with an edge."""

import math

import numpy as np
import pytest
import torch

import fastfreq as ff
from fastfreq.features import frames

pywt = pytest.importorskip("pywt")


def disc(side=512, radius=0.3, samples=4):
    """A disc whose edge is smoothed by samples^2 points in each pixel: without it the grid sets the rate."""
    x = (np.arange(side * samples) + 0.5) / (side * samples) - 0.5
    inside = (np.hypot(x[:, None] - 0.02, x[None, :] + 0.013) < radius).astype(np.float32)
    return inside.reshape(side, samples, side, samples).mean(axis=(1, 3))[None, None]


def real_fourier(h, w):
    """(h w, h, w) the orthonormal real Fourier basis, from the definition."""
    y, x = np.mgrid[:h, :w]
    found, seen = [], set()
    for k in range(h):
        for j in range(w):
            if (-k % h, -j % w) in seen:
                continue
            seen.add((k, j))
            angle = 2 * np.pi * (k * y / h + j * x / w)
            for wave in (np.cos(angle), np.sin(angle)):
                if (norm := np.linalg.norm(wave)) > 1e-6:
                    found.append(wave / norm)
    return np.stack(found)


@pytest.mark.parametrize("shape", [(1, 7, 9), (3, 6, 8), (3, 5, 4), (1, 1, 3), (1, 8, 1)], ids=str)
def test_errors_are_those_of_the_basis_written_out(shape):
    images = np.random.default_rng(0).random((3, *shape)).astype(np.float32)
    counts = sorted({0, 1, 2, shape[1] * shape[2] // 2, math.prod(shape)})
    result = ff.approximation_curve(torch.from_numpy(images), counts=counts)
    basis = real_fourier(*shape[1:]).reshape(-1, shape[1] * shape[2])
    np.testing.assert_allclose(basis @ basis.T, np.eye(shape[1] * shape[2]), atol=1e-12)
    values = images.astype(float).reshape(3, shape[0], -1) @ basis.T
    squares = np.sort(np.square(values).reshape(3, -1), axis=1)[:, ::-1]
    expected = [squares[:, count:].sum(axis=1) / math.prod(shape) for count in counts]
    np.testing.assert_allclose(result.errors, expected, atol=1e-12)


@pytest.mark.parametrize("name", ["haar", "db4", "sym5"])
def test_wavelet_errors_are_those_of_pywavelets(name):
    images = np.random.default_rng(1).random((2, 1, 24, 40))
    result = ff.approximation_curve(images, frame="wavelet", wavelet=name, counts=(1, 30, 200))
    for i, image in enumerate(images.astype(np.float32)[:, 0]):
        levels, rest = [], image.astype(float)
        for _ in range(3):
            rest, details = pywt.dwt2(rest, name, "periodization")
            levels += list(details)
        values = np.sort(np.concatenate([v.ravel() for v in (rest, *levels)]) ** 2)[::-1]
        np.testing.assert_allclose(result.errors[:, i], [values[n:].sum() / 960 for n in (1, 30, 200)], atol=1e-12)
    assert result.frame == f"wavelet {name}"


def test_rates_on_a_disc_are_those_of_theory():
    counts = np.unique(np.geomspace(100, 2000, 12).astype(int))
    rates = {
        kind: ff.approximation_curve(disc(), frame=kind, counts=counts).rate().alpha for kind in ("fourier", "wavelet")
    }
    assert 0.45 <= rates["fourier"] <= 0.65
    assert 0.95 <= rates["wavelet"] <= 1.3


@pytest.mark.slow
def test_curvelets_approximate_edges_best():
    pytest.importorskip("curvelets.torch")
    counts = np.unique(np.geomspace(100, 2000, 8).astype(int))
    assert ff.approximation_curve(disc(), frame="curvelet", counts=counts).rate().alpha > 1.6


def test_curvelets_of_one_size_are_as_many_terms_as_they_are():
    pytest.importorskip("curvelets.torch")
    grey = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    counts = (2, 4, 6, 12)
    one = ff.approximation_curve(grey, frame="curvelet", counts=counts).errors[:, 0] * grey.numel()
    rgb = (
        ff.approximation_curve(grey.repeat(1, 3, 1, 1), frame="curvelet", counts=counts).errors[:, 0] * 3 * grey.numel()
    )
    zero = float(grey.double().square().sum())
    # three channels alike: the first term is in one of them, the third complete what one channel's first is
    np.testing.assert_allclose(rgb, [2 * zero + one[0], zero + 2 * one[0], 3 * one[0], 3 * one[1]], rtol=1e-6)


def test_the_curvelet_frame_is_tight():
    library = pytest.importorskip("curvelets.torch")
    image = torch.rand(64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    coefficients = library.UDCT(shape=(64, 96), num_scales=3, wedges_per_direction=3).forward(image)
    energy = sum(float(v.abs().square().sum()) for v in frames._leaves(coefficients))
    assert abs(energy / float(image.square().sum()) - 1) < 1e-5
    result = ff.approximation_curve(image[None, None].float(), frame="curvelet", counts=(0, 10, 6144))
    assert (np.diff(result.error) < 0).all() and result.error[0] == pytest.approx(
        float(image.square().mean()), rel=1e-5
    )


def test_the_rate_is_a_power_laws_and_has_an_interval():
    counts = np.array([10, 20, 40, 80])
    errors = np.array([[1.0, 2.0, 0.5]]) * (counts[:, None] ** -np.array([1.0, 1.2, 1.4]))
    result = ff.features.approximation_curve(np.random.default_rng(0).random((3, 1, 16, 16)), counts=counts)
    fitted = type(result)(**{**vars(result), "errors": errors}).rate(lowest=10, highest=80)
    assert fitted.alpha == pytest.approx(1.2) and fitted.low < 1.2 < fitted.high and fitted.images == 3
    assert math.isnan(ff.approximation_curve(disc(64), counts=counts).rate(lowest=10, highest=80).low)


def test_what_cannot_be_is_refused():
    images = np.random.default_rng(0).random((2, 1, 7, 8))
    with pytest.raises(ValueError, match=r"expected even sides for an orthonormal wavelet basis, got \(7, 8\)"):
        ff.approximation_curve(images, frame="wavelet")
    with pytest.raises(ValueError, match="expected an orthogonal wavelet, such as .* got 'bior2.2'"):
        ff.approximation_curve(images, frame="wavelet", wavelet="bior2.2")
    with pytest.raises(ValueError, match="expected the name of a discrete wavelet of PyWavelets"):
        ff.approximation_curve(images, frame="wavelet", wavelet="morl")
    with pytest.raises(ValueError, match="expected `frame` of"):
        ff.approximation_curve(images, frame="shearlet")
    with pytest.raises(ValueError, match="expected a `wavelet` with frame='wavelet' alone, got 'db4'"):
        ff.approximation_curve(images, wavelet="db4")
    with pytest.raises(ValueError, match="expected `counts` from 0 to the 56 numbers of an image"):
        ff.approximation_curve(images, counts=(1, 57))
    with pytest.raises(ValueError, match="expected at least three of the counts from 5 to 6 terms"):
        ff.approximation_curve(images, counts=(1, 5, 20)).rate(lowest=5, highest=6)
    with pytest.raises(ValueError, match="expected sides of at least 32 for curvelets"):
        ff.approximation_curve(images, frame="curvelet")
    pytest.importorskip("curvelets.torch")
    for shape in ((33, 48), (48, 50), (132, 128)):  # errors of .1 to 2 in images given again, before
        with pytest.raises(ValueError, match="expected sides that are multiples of (4|8) for curvelets"):
            ff.approximation_curve(np.zeros((1, 1, *shape)), frame="curvelet", counts=(1, 2, 3))


def test_black_images_have_no_error_and_no_rate():
    result = ff.approximation_curve(np.zeros((2, 1, 16, 16)), counts=(1, 2, 3))
    assert not result.errors.any() and "no rate" in result.headline()


def test_frames_do_not_mix():
    images = np.random.default_rng(0).random((4, 1, 8, 8))
    shards = [
        ff.approximation_curve(images, counts=(1, 2), shard=(i, 2), frame="wavelet", wavelet=name)
        for i, name in enumerate(("haar", "db2"))
    ]
    with pytest.raises(ValueError, match=r"frame"):
        shards[0] + shards[1]
