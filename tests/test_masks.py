from __future__ import annotations

import math

import numpy as np
import pytest

from fastfreq.vocabulary import fourier, masks

SHAPES = [(32, 32), (31, 31), (33, 40), (8, 5), (1, 6)]


def bandwidths(shape):
    return range(max(shape) + 1)


def spectrum_of_noise(shape, n=20):
    return np.fft.fft2(np.random.default_rng(0).standard_normal((n, *shape)))


@pytest.mark.parametrize("name", masks.MASKS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_filtered_images_are_real_to_rounding(name, shape):
    spectrum = spectrum_of_noise(shape, 3)
    for bandwidth in bandwidths(shape):
        mask = masks.MASKS[name].build(shape, bandwidth)
        assert mask.shape == shape and mask.dtype == np.bool_
        filtered = np.fft.ifft2(spectrum * mask)
        assert np.abs(filtered.imag).max() < 1e-14 * (1 + np.abs(filtered.real).max())


@pytest.mark.parametrize("name", ["yin_low", "yin_high", "radial", "radial_open", "diamond"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_masks_grow_with_their_bandwidth_up_to_everything(name, shape):
    family = masks.stack(name, shape, list(bandwidths(shape)))
    assert (family[:-1] <= family[1:]).all()
    assert not family[0].any() or name in ("radial", "diamond")  # a closed disc of radius 0 is zero frequency
    assert family[-1].all()


def test_squares_are_those_of_the_paper():
    low = masks.yin_low((32, 32), 3)
    assert {tuple(k) for k in fourier.signed(np.argwhere(low), (32, 32))} == {
        (a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)
    }
    high = fourier.signed(np.argwhere(masks.yin_high((32, 32), 27)), (32, 32))
    assert len(high) == 729 and (np.abs(high).min(axis=0) == 3).all()
    assert not masks.yin_high((32, 32), 31)[0].any()  # also the axes go: not the complement of a low pass


@pytest.mark.parametrize("n", [5, 8, 31, 32])
def test_a_lopsided_square_keeps_what_it_shares_with_its_mirror_image(n):
    for bandwidth in range(n):
        start = (n - bandwidth + 1) // 2  # the window in the centred plane, as published code cuts it
        for name, centre in (("yin_low", -(n // 2)), ("yin_high", 0)):
            window = np.zeros(n, dtype=bool)
            window[(np.arange(start, start + bandwidth) + centre) % n] = True
            mirrored = window[-np.arange(n) % n]
            assert (masks.stack(name, (n, n), [bandwidth])[0].any(axis=1) == (window & mirrored)).all(), (name, n)


def test_white_noise_keeps_the_published_share_of_its_energy():
    spectrum = spectrum_of_noise((32, 32), 400)
    kept = np.abs(np.fft.ifft2(spectrum * masks.yin_high((32, 32), 27))) ** 2
    total = np.abs(np.fft.ifft2(spectrum)) ** 2
    assert kept.sum() / total.sum() == pytest.approx((27 / 32) ** 2, abs=0.005)


@pytest.mark.parametrize("name", masks.MASKS)
def test_low_and_complement_split_image_and_energy(name):
    shape = (33, 40)
    spectrum = spectrum_of_noise(shape, 2)
    mask = masks.MASKS[name].build(shape, 6)
    parts = [np.fft.ifft2(spectrum * m).real for m in (mask, masks.complement(mask))]
    image = np.fft.ifft2(spectrum).real
    np.testing.assert_allclose(sum(parts), image, atol=1e-14)
    assert sum((p**2).sum() for p in parts) == pytest.approx((image**2).sum(), rel=1e-13)  # Parseval


def test_closed_and_open_discs_differ_by_the_circle():
    rim = masks.radial((32, 32), 5) & ~masks.radial((32, 32), 5, inclusive=False)
    on = {tuple(k) for k in fourier.signed(np.argwhere(rim), (32, 32))}
    assert on == {(a, b) for a in range(-5, 6) for b in range(-5, 6) if a * a + b * b == 25}
    assert masks.diamond((32, 32), 2).sum() == 13


def test_rounding_does_not_move_a_frequency_across_the_rim():
    # 11 * (15 / 22) < 7.5, and 5 * sqrt(2) squared is more than 50
    assert masks.radial((15, 22), 7.5)[0, 11] and not masks.radial((15, 22), 7.5, inclusive=False)[0, 11]
    assert masks.radial((32, 32), 5 * math.sqrt(2))[5, 5]
    assert not masks.radial((32, 32), 5 * math.sqrt(2), inclusive=False)[5, 5]
    assert masks.octave((32, 32), 5)[5, 5] and not masks.octave((32, 32), 10)[5, 5]
    for n in (30, 33, 39):  # thirds are not exact in binary
        rim = masks.radial((32, n), min(32, n) / 3) & ~masks.radial((32, n), min(32, n) / 3, inclusive=False)
        ky, kx = np.abs(fourier.signed(np.argwhere(np.ones((32, n))), (32, n))).T
        assert rim.sum() == (9 * ((ky * n) ** 2 + (kx * 32) ** 2) == (32 * n) ** 2).sum()
    assert masks.diamond((15, 22), 7.5)[0, 11]


def test_discs_are_isotropic_in_cycles_per_pixel():
    mask = masks.radial((32, 64), 8)
    assert mask[8, 0] and not mask[9, 0] and mask[0, 16] and not mask[0, 17]


def test_octaves_tile_the_plane_from_the_corner_down():
    centres = [16 / 2**j for j in range(6)]
    bands = masks.stack("band", (32, 32), centres)
    assert (bands.sum(axis=0) == 1).sum() == 32 * 32 - 1 and not bands[:, 0, 0].any()
    assert fourier.radius(np.argwhere(bands[1]), (32, 32)).max() <= 8 * math.sqrt(2)


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_equal_energy_rings_share_the_energy(distance):
    shape = (64, 48)
    radius = fourier.radius(np.moveaxis(np.indices(shape), 0, -1), shape)
    power = 1 / np.maximum(radius, 1) ** 2
    rings = masks.equal_energy_rings(power, 4, distance=distance)
    assert (masks.check_symmetric(rings, shape) == rings).all()
    assert rings.sum() == 64 * 48 - 1 and not rings[:, 0, 0].any()
    energy = (power * rings).sum(axis=(1, 2)) / (power.sum() - power[0, 0])
    np.testing.assert_allclose(energy, 0.25, atol=0.06)
    with pytest.raises(ValueError, match="ring .* is empty; ask for fewer"):
        masks.equal_energy_rings(power, 400)
    with pytest.raises(ValueError, match="not zero everywhere"):
        masks.equal_energy_rings(np.zeros(shape), 2)


@pytest.mark.parametrize(
    ("distance", "heavy", "count", "inner"),
    [  # bins of 5 x 5 by |ky| + |kx|: 4, 8, 8, 4 at 1, 2, 3, 4; by ky^2 + kx^2: 4, 4, 4, 8, 4 at 1, 2, 4, 5, 8
        ("l1", 1, 2, [{1, 2}, {3, 4}]),  # 12 of 24 each
        ("l2", 1, 2, [{1, 2, 4}, {5, 8}]),
        ("l1", 6, 2, [{1}, {2, 3, 4}]),  # 24 of 44: the middle of distance 2 is beyond the half
        ("l1", 1, 3, [{1}, {2}, {3, 4}]),  # middles at 2, 8, 16 and 22 of 24
        ("l2", 1, 4, [{1}, {2, 4}, {5}, {8}]),  # at 2, 6, 10, 16 and 22 of 24
    ],
)
@pytest.mark.parametrize("shape", [(5, 5), (5, 15)], ids=str)
def test_equal_energy_rings_worked_by_hand(distance, heavy, count, inner, shape):
    """`heavy` times the power at distance 1; the mean of the image, however large, counts for nothing."""
    ky, kx = np.abs(np.rint(np.fft.fftfreq(5, 1 / 5)))[:, None], np.abs(np.rint(np.fft.fftfreq(5, 1 / 5)))[None, :]
    far = ky + kx if distance == "l1" else ky**2 + kx**2
    power, step = np.where(far == 1, heavy, 1.0), shape[1] // 5
    power[0, 0] = 1e9
    wide = np.zeros(shape)  # three times as wide, a wave of thrice the cycles is as far out
    columns = np.arange(-2, 3) * step
    wide[:, columns] = power[:, np.arange(-2, 3)]
    rings = masks.equal_energy_rings(wide, count, distance=distance)
    for ring, expected in zip(rings, inner, strict=True):
        np.testing.assert_array_equal(ring[:, columns], np.isin(far, list(expected))[:, np.arange(-2, 3)])


@pytest.mark.parametrize(
    ("power", "count", "message"),
    [
        (np.ones(4), 2, r"`power` \(h, w\), finite and not negative, got an array of shape \(4,\)"),
        (-np.ones((4, 4)), 2, "finite and not negative"),
        (np.full((4, 4), np.nan), 2, "finite and not negative"),
        (np.ones((4, 4)), 0, "a positive `count` of rings, got 0"),
    ],
)
def test_powers_without_rings_are_refused(power, count, message):
    with pytest.raises(ValueError, match=message):
        masks.equal_energy_rings(power, count)


def test_usual_bandwidths():
    assert masks.default_bandwidths("yin_low", (32, 32)) == [0, 3, 7, 11, 15, 19, 23, 27, 31, 32]
    assert masks.default_bandwidths("complement_radial", (32, 32)) == [4, 8, 12, 16, 20, 24]
    assert masks.default_bandwidths("octave", (224, 224)) == [1.75, 3.5, 7, 14, 28, 56, 112]
    for shape in SHAPES:
        for name in masks.MASKS:
            assert masks.stack(name, shape, masks.default_bandwidths(name, shape)).shape[1:] == shape


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: masks.yin_low((32, 32), 33), "expected an integer bandwidth from 0 to 32 for images of 32 x 32"),
        (lambda: masks.yin_high((32, 32), 2.5), "expected an integer bandwidth"),
        (lambda: masks.radial((32, 20), -1), "expected a radius from 0 to 32"),
        (lambda: masks.diamond((32, 20), math.nan), "expected a radius from 0 to 32"),
        (lambda: masks.named("gauss"), "expected a mask of .*'low'.*, got 'gauss'"),
        (lambda: masks.check_symmetric(np.ones((2, 3, 4)), (3, 5)), r"expected masks of shape \(b, 3, 5\)"),
        (lambda: masks.check_symmetric(np.full((1, 3, 5), 0.5), (3, 5)), "expected masks of 0 and 1"),
        (lambda: masks.check_symmetric(np.eye(4, k=1)[None], (4, 4)), r"mask 0 is not symmetric"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
