from __future__ import annotations

import math

import numpy as np
import pytest

from fastfreq.vocabulary import fourier

SHAPES = [(31, 31), (32, 48), (33, 40), (32, 32)]


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [((32, 32), None, 514), ((224, 224), None, 25_090), ((224, 224), (63, 63), 1_985), ((31, 31), None, 481)],
)
def test_number_of_unique_frequencies(shape, size, expected):
    assert len(fourier.unique_frequencies(shape, size)[0]) == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_every_cell_finds_its_frequency_or_its_twin(shape):
    frequencies, cells = fourier.unique_frequencies(shape)
    grid = fourier.centred_grid(shape)
    found = frequencies[cells]
    same = (found == fourier.signed(grid, shape)).all(axis=-1)
    mirrored = (found == fourier.twin(grid, shape)).all(axis=-1)
    assert (same | mirrored).all()
    assert cells[shape[0] // 2, shape[1] // 2] == np.flatnonzero((frequencies == 0).all(axis=1))[0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("phase", [0.0, math.pi / 4])
def test_basis_images_equal_the_delta_pair_of_the_authors_code(shape, phase):
    # the authors put (1 + i) / 2 at k and its conjugate at -k and take the real part; at phase 0 the pair is real
    h, w = shape
    for ky, kx in [(0, 0), (1, 2), (-3, 5), (h // 2, 0), (h // 2, w // 2), (0, w // 2), (4, -7)]:
        image = fourier.basis_image((ky, kx), shape, phase)
        own_twin = (2 * ky) % h == 0 and (2 * kx) % w == 0
        spectrum = np.zeros(shape, complex)
        spectrum[ky % h, kx % w] += 1 if own_twin else np.exp(1j * phase) / math.sqrt(2)
        if not own_twin:
            spectrum[-ky % h, -kx % w] += np.exp(-1j * phase) / math.sqrt(2)
        np.testing.assert_allclose(image, np.fft.ifft2(spectrum, norm="ortho").real, atol=1e-13)
        assert np.linalg.norm(image) == pytest.approx(1, abs=1e-12)


def test_canonical_is_one_of_the_pair_and_the_same_for_both():
    grid = fourier.centred_grid((33, 40))
    a, b = fourier.canonical(grid, (33, 40)), fourier.canonical(-grid, (33, 40))
    assert (a == b).all()
    assert (fourier.canonical(a, (33, 40)) == a).all()


def test_multiplicities_count_the_whole_plane():
    for shape in SHAPES:
        frequencies, _ = fourier.unique_frequencies(shape)
        assert fourier.multiplicity(frequencies, shape).sum() == math.prod(shape)


def test_radius_is_isotropic_in_cycles_per_pixel():
    assert fourier.radius(np.array([[3, 4]]), (32, 32)) == pytest.approx([5])
    # 6 cycles along 48 pixels are the same wave as 4 along 32
    np.testing.assert_allclose(fourier.radius(np.array([[4, 0], [0, 6]]), (32, 48)), [4, 4])
