"""The error that each accuracy guarantees, against LAPACK in complex128, on kernels with planted singular values."""

import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff
from fastfreq.layers.layer_singular_values import GUARANTEES

GRID = (6, 5)


def planted(c, spectrum, seed=0):
    """A kernel as large as the grid, so that the symbol at every frequency is free: U diag(spectrum) V^H."""
    rng = np.random.default_rng(seed)
    draw = rng.standard_normal((2, *GRID, c, c)) + 1j * rng.standard_normal((2, *GRID, c, c))
    symbols = (np.linalg.qr(draw[0])[0] * spectrum) @ np.linalg.qr(draw[1])[0]
    twin = np.roll(symbols[::-1, ::-1], 1, axis=(0, 1)).conj()
    first = np.arange(30).reshape(GRID) <= np.roll(np.arange(30).reshape(GRID)[::-1, ::-1], 1, axis=(0, 1))
    symbols = np.where(first[..., None, None], symbols, twin)
    for own in [(0, 0), (3, 0)]:  # frequencies that are their own twins have real symbols
        real = rng.standard_normal((2, c, c))
        symbols[own] = (np.linalg.qr(real[0])[0] * spectrum) @ np.linalg.qr(real[1])[0]
    kernel = np.fft.fft2(symbols, axes=(0, 1)) / 30  # symbols carry exp(+2 pi i)
    assert np.abs(kernel.imag).max() < 1e-12
    layer = nn.Conv2d(c, c, GRID, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(kernel.real.transpose(2, 3, 0, 1).copy()))
    return layer


SPECTRA = {
    "condition 1e2": lambda c: np.logspace(0, -2, c),
    "condition 1e4": lambda c: np.logspace(0, -4, c),
    "condition 1e6": lambda c: np.logspace(0, -6, c),
    "flat but one": lambda c: np.r_[np.ones(c - 1), 1e-6],
    "half flat": lambda c: np.r_[np.ones(c // 2), np.full(c - c // 2, 1e-6)],
    "rank one": lambda c: np.r_[1.0, np.full(c - 1, 1e-9)],
}


@pytest.mark.parametrize("accuracy", list(GUARANTEES))
@pytest.mark.parametrize("spectrum", list(SPECTRA))
@pytest.mark.parametrize("c", [3, 40])
def test_no_value_is_off_by_more_than_guaranteed(c, spectrum, accuracy):
    true = SPECTRA[spectrum](c)
    layer = planted(c, true)
    result = ff.singular_values(layer, input_size=GRID, accuracy=accuracy, padding="circular")
    assert result.values.shape == (*GRID, c)
    assert np.abs(result.values - true).max() <= GUARANTEES[accuracy]
    if accuracy == "exact":
        assert abs(result.condition / (true[0] / true[-1]) - 1) < 1e-5


@pytest.mark.parametrize("scale", [1e-20, 1e18])
@pytest.mark.parametrize("accuracy", list(GUARANTEES))
def test_any_scale_of_weights(scale, accuracy):
    layer = planted(40, np.logspace(0, -1, 40))
    with torch.no_grad():
        layer.weight.mul_(scale)
    result = ff.singular_values(layer.float(), input_size=GRID, accuracy=accuracy, padding="circular")
    assert abs(result.norm / scale - 1) < 1e-6 + GUARANTEES[accuracy]


BLUR = np.outer([1, 2, 1], [1, 2, 1]) / 16  # nothing is left at the highest frequency, only rounding errors
LEVELS = {
    "half small": lambda c: np.r_[np.ones(c // 2), np.full(c - c // 2, 4e-3)],
    "graded": lambda c: np.linspace(1, 0.02, c),
}


@pytest.mark.parametrize("spectrum", list(LEVELS))
@pytest.mark.parametrize("taps", [BLUR, np.random.default_rng(5).standard_normal((3, 3))], ids=["blur", "random"])
@pytest.mark.parametrize("c", [40, 64])
def test_frequencies_where_the_taps_cancel(c, taps, spectrum):
    rng = np.random.default_rng(c)
    u, v = np.linalg.qr(rng.standard_normal((2, c, c)))[0]
    layer = nn.Conv2d(c, c, 3, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(((u * LEVELS[spectrum](c)) @ v)[:, :, None, None] * taps))
    result = ff.singular_values(layer, input_size=(16, 12), accuracy="fast", padding="circular")
    response = np.abs(np.fft.fft2(taps, (16, 12)))
    true = response[..., None] * LEVELS[spectrum](c)
    assert np.abs(result.values - true).max() <= GUARANTEES["fast"] * true.max()


NEAR_THE_BOUND = {
    "one large": lambda c, low: np.r_[1.0, np.full(c - 1, low)],
    "flat but one": lambda c, low: np.r_[np.ones(c - 1), low],
    "half flat": lambda c, low: np.r_[np.ones(c // 2), np.full(c - c // 2, low)],
    "as if random": lambda c, low: np.r_[np.cos(np.pi / 2 * np.arange(c - 2) / c), low, low],
}


@pytest.mark.parametrize("spectrum", list(NEAR_THE_BOUND))
@pytest.mark.parametrize("c", [40, 96])
def test_float32_values_that_pass_as_resolved_are_within_the_guarantee(c, spectrum):
    from fastfreq.layers import _values
    from fastfreq.layers.symbols import conv_symbols_of

    passed = []
    for low in [6e-4, 1.5e-3, 8e-3]:
        true = NEAR_THE_BOUND[spectrum](c, low)
        symbols = conv_symbols_of(planted(c, true), input_size=GRID, padding="circular")
        taps, frequencies = symbols.taps.detach(), symbols.frequencies
        values = _values._Gram(taps, symbols, len(frequencies)).single().values(frequencies)
        resolved = _values._resolved(values)
        assert np.abs(values[0, resolved].numpy() - true).max(initial=0) <= GUARANTEES["fast"]
        passed.append(float(resolved.double().mean()))
    assert passed[0] == 0 and passed[-1] == 1


def test_fast_takes_float32_where_values_are_resolved_and_float64_where_not(monkeypatch):
    from fastfreq.layers import _values

    seen = []
    original = _values._Gram.values
    monkeypatch.setattr(
        _values._Gram,
        "values",
        lambda self, k, *rest: seen.append((self.gram.taps.dtype, len(k))) or original(self, k, *rest),
    )
    monkeypatch.setattr(_values, "_PROBE", 4)
    monkeypatch.setattr(_values, "_GRAM_PAYS", (30, 384))
    single, double = torch.float32, torch.float64
    for taken, spectrum in {
        ((double, 4), (single, 12)): np.logspace(0, -1, 40),
        ((double, 4), (double, 12)): np.logspace(0, -5, 40),
    }.items():
        seen.clear()
        ff.singular_values(planted(40, spectrum), input_size=GRID, accuracy="fast", padding="circular")
        assert tuple(seen) == taken


@pytest.mark.parametrize("spectrum", list(NEAR_THE_BOUND))
@pytest.mark.parametrize("c", [33, 64])
def test_fast_by_the_matrices_themselves_has_float32_errors_at_small_values_too(c, spectrum):
    for low in [0.0, 1e-6, 1e-3]:
        true = NEAR_THE_BOUND[spectrum](c, low)
        result = ff.singular_values(planted(c, true), input_size=GRID, accuracy="fast", padding="circular")
        assert np.abs(result.values - np.sort(true)[::-1]).max() <= 3e-6
