from __future__ import annotations

import dataclasses
import math

import fastfreq_kernels as kernels
import numpy as np
import pytest
import torch

from fastfreq.vocabulary import fourier
from fastfreq.vocabulary.conventions import CONVENTIONS, Convention

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


# ---------------------------------------------------------------- whose phase
def published_bases(shape):
    """(centred cell of the first member, basis image) as published: 0.5 + 0.5i at it, 0.5 - 0.5i at its twin.

    Cells are visited in row-major order of the centred plane, twins of visited cells are skipped.
    """
    h, w = shape
    seen = np.zeros(shape, bool)
    for a, b in np.ndindex(h, w):
        ky, kx = a - h // 2, b - w // 2
        if seen[ky % h, kx % w]:
            continue
        seen[ky % h, kx % w] = seen[-ky % h, -kx % w] = True
        spectrum = np.zeros(shape, complex)
        spectrum[ky % h, kx % w] = 0.5 + 0.5j
        spectrum[-ky % h, -kx % w] = 0.5 - 0.5j if (ky % h, kx % w) != (-ky % h, -kx % w) else 1
        yield (ky, kx), np.fft.ifft2(spectrum, norm="ortho").real


@pytest.mark.parametrize("shape", [(32, 32), (31, 31), (24, 37), (2, 5), (1, 4)], ids=str)
@pytest.mark.parametrize("name", ["yin2019", "rai"])
def test_every_basis_image_is_the_published_one(shape, name):
    given, images = zip(*published_bases(shape), strict=True)
    convention, frequencies = CONVENTIONS[name], np.array(given)
    assert len(frequencies) == len(fourier.unique_frequencies(shape)[0])
    for asked in (frequencies, -frequencies, fourier.canonical(frequencies, shape)):
        oriented = convention.oriented(asked, shape)
        ours = [fourier.basis_image(tuple(k), shape, convention.phase) for k in oriented]
        np.testing.assert_allclose(ours, images, atol=1e-13)
    phases = convention.phase * fourier.orientation(frequencies, shape, convention.phase_of)
    pairs = zip(fourier.canonical(frequencies, shape), phases, strict=True)
    ours = [fourier.basis_image(tuple(k), shape, phase) for k, phase in pairs]
    np.testing.assert_allclose(ours, images, atol=1e-13)


@pytest.mark.parametrize("shape", [(32, 32), (24, 37)], ids=str)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_kernel_draws_the_published_images(shape, backend):
    given, images = zip(*published_bases(shape), strict=True)
    oriented = CONVENTIONS["yin2019"].oriented(fourier.canonical(np.array(given), shape), shape)
    waves = kernels.fourier_perturb(
        torch.zeros(1, 1, *shape), torch.from_numpy(oriented), torch.ones(len(oriented), 1, 1, dtype=torch.int8),
        eps=1.0, phase=math.pi / 4, clip=False, backend=backend,
    )  # fmt: skip
    np.testing.assert_allclose(waves[:, 0].numpy(), images, atol=2e-6)


@pytest.mark.parametrize("shape", [(8, 8), (6, 9), (7, 7)], ids=str)
def test_phase_0_images_are_those_of_a_real_half_spectrum(shape):
    # fhmap: one real coefficient, an inverse real transform, unit norm; neither member is preferred
    for ky, kx in fourier.unique_frequencies(shape)[0]:
        if (2 * kx) % shape[1] == 0 and (2 * ky) % shape[0] != 0:
            continue  # in these columns irfft2 needs both members, where fhmap sets one
        half = np.zeros((shape[0], shape[1] // 2 + 1), complex)
        half[ky, kx % shape[1]] = 1
        truth = np.fft.irfft2(half, s=shape)
        for k in ((ky, kx), (-ky, -kx)):
            image = fourier.basis_image(k, shape, CONVENTIONS["fhmap"].phase)
            np.testing.assert_allclose(image, truth / np.linalg.norm(truth), atol=1e-13)


def test_a_convention_saved_before_there_was_a_choice_means_the_canonical_member():
    header = {"name": "yin2019", "phase": math.pi / 4, "signs": "channel", "clip": True}
    old = Convention.from_header(header)
    assert old == Convention("yin2019, phase_of=canonical", math.pi / 4, "channel", True, "canonical")
    assert old != CONVENTIONS["yin2019"]
    assert Convention.from_header({**header, "name": "fhmap", "phase": 0.0}) == CONVENTIONS["fhmap"]
    for convention in CONVENTIONS.values():
        assert Convention.from_header(dataclasses.asdict(convention)) == convention
    changed = CONVENTIONS["rai"].replace(phase_of="canonical")
    assert changed.name == "rai, phase_of=canonical" and changed.phase_of == "canonical"
    with pytest.raises(ValueError, match="the 'first' or the 'canonical' member of each pair, got 'last'"):
        CONVENTIONS["rai"].replace(phase_of="last")  # pyright: ignore[reportArgumentType]


# ---------------------------------------------------------------- frequencies
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
