"""`activation_decay`: stated constants within 1 %, closed forms of amplitudes, functions of one's own, refusals."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastfreq as ff


@pytest.fixture(scope="module")
def every():
    return ff.training.activation_decay()


def test_every_measured_law_is_the_stated_one_within_one_percent(every):
    assert len(every.names) == 14
    for row in every.table():
        assert row["off"] is not None and abs(row["off"]) <= 0.01, row


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("ReLU", lambda k: 1 / k**2),
        ("ReLU^2", lambda k: 2 / k**3),
        ("ELU", lambda k: 1 / (k**2 * np.sqrt(1 + k**2))),
        ("tanh", lambda k: math.pi / np.sinh(math.pi * k / 2)),
        ("sigmoid", lambda k: math.pi / np.sinh(math.pi * k)),
        ("softplus", lambda k: math.pi / k / np.sinh(math.pi * k)),
        ("SiLU", lambda k: math.pi**2 * np.cosh(math.pi * k) / np.sinh(math.pi * k) ** 2),
        ("GELU", lambda k: np.exp(-(k**2) / 2) * (1 + 1 / k**2)),
    ],
)
def test_amplitudes_are_those_of_the_closed_form(every, name, exact):
    i = every.names.index(name)
    seen = every.seen[i] & (every.frequencies <= 40)  # beyond, samples of what has kinks show
    k = every.frequencies[seen]
    assert len(k) >= 15
    np.testing.assert_allclose(every.amplitudes[i][seen], exact(k), rtol=0.01)


def test_functions_of_ones_own():
    """tanh(2 x) has its pole half as far away; a bump of two kinks has zeros; torch's softplus has a jump at 20."""
    result = ff.training.activation_decay(
        {
            "steep": lambda x: torch.tanh(2 * x),
            "bump": lambda x: F.relu(1 - x.abs()),
            "module": nn.SELU(inplace=True),
            "torch softplus": nn.Softplus(),
            "Gaussian": lambda x: torch.exp(-(x**2)),
        }
    )
    rows = {row["activation"]: row for row in result.table()}
    assert rows["steep"]["law"] == "exponential" and rows["steep"]["constant"] == pytest.approx(math.pi / 4, rel=0.01)
    assert rows["bump"]["law"] == "power" and rows["bump"]["constant"] == pytest.approx(2, rel=0.02)
    assert rows["module"]["law"] == "power" and rows["module"]["constant"] == pytest.approx(2, rel=0.01)
    assert rows["torch softplus"]["law"] == "power" and rows["torch softplus"]["constant"] == pytest.approx(1, rel=0.01)
    assert rows["Gaussian"]["law"] == "Gaussian" and rows["Gaussian"]["constant"] == pytest.approx(0.25, rel=0.01)
    assert rows["steep"]["stated"] == "" and rows["steep"]["off"] is None


def test_saves_loads_and_plots(every, tmp_path):
    every.save(tmp_path / "decay.npz")
    loaded = ff.load(tmp_path / "decay.npz")
    assert loaded.table() == every.table() and loaded.laws == every.laws
    assert len(every.plot().axes) == 2 and "ReLU k^-1.99" in repr(every)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["ReLU", "swish"], r"got \['swish'\]; pass your own as a dict"),
        ([], "at least one activation"),
        ({"softmax": lambda x: x.softmax(0)}, "each element alone"),
        ({"sum": lambda x: x.sum()}, "each element alone"),
        ({"root": torch.sqrt}, "each element alone|finite values"),
        ({"inverse": lambda x: 1 / x}, "finite values of 'inverse'"),
        ({"half": lambda x: x.half()}, "keep float64, got torch.float16"),
        ({"sine": torch.sin}, "settle to a polynomial"),
        ({"line": lambda x: x}, "above rounding"),
    ],
)
def test_refusals(given, message):
    with pytest.raises(ValueError, match=message):
        ff.training.activation_decay(given)


def test_what_it_says_of_itself_has_no_empty_line():
    said = repr(ff.training.activation_decay(["ReLU"])).splitlines()
    assert said[0] == "<ActivationDecay" and all(line.strip() for line in said)


def residues(k):
    """2 pi |sum of residues| of GELU's tanh approximation, x/2 / (sqrt(2 / pi) (1 + 3 a x^2)) exp(i k x), a = 0.044715.

    Its poles are where sqrt(2 / pi) (x + a x^3) = (m + 1/2) pi i.
    """
    a, total = 0.044715, 0
    for m in range(-40, 40):
        for x in np.roots([a, 0, 1, -1j * (2 * m + 1) * (math.pi / 2) ** 1.5]):
            if x.imag > 0:
                total += x / 2 / (math.sqrt(2 / math.pi) * (1 + 3 * a * x * x)) * np.exp(1j * k * x)
    return 2 * math.pi * np.abs(total)


def test_poles_off_the_axis_make_a_transform_that_oscillates(every):
    """Those of GELU's tanh approximation next to the real axis are at +-0.634 + 2.755 i: not a Gaussian's decay."""
    i = every.names.index("GELU (tanh)")
    seen = every.seen[i] & (every.frequencies >= 2)  # below, the sum over poles has not converged
    np.testing.assert_allclose(every.amplitudes[i][seen], residues(every.frequencies[seen]), rtol=1e-4, atol=1e-13)
    assert every.stated[i] == pytest.approx(2.7547706, abs=1e-7)
    assert every.oscillations[i] == pytest.approx(0.634368, rel=0.01)
    assert not every.oscillations[:i].any() and np.isnan(every.measured).sum() == 0
    own = ff.training.activation_decay({"two": lambda x: torch.tanh(x - 1) + torch.tanh(x + 1)})
    assert own.laws == ("exponential",) and own.measured[0] == pytest.approx(math.pi / 2, rel=1e-3)
    assert own.oscillations[0] == pytest.approx(1, rel=1e-3) and "cos(1 k)" in own.headline()


def test_a_transform_that_follows_no_law_has_no_constant(every, tmp_path):
    """A Gaussian's at k = 6 and -6 together: no sum of exponentials, however well each value is told from the last."""
    assert every.residuals.max() < 0.03
    with pytest.warns(UserWarning, match="no law fits the transform of 'packet'"):
        result = ff.training.activation_decay({"packet": lambda x: torch.exp(-x * x) * torch.cos(6 * x)})
    assert result.laws == ("none",) and np.isnan(result.measured[0]) and "no law" in repr(result)
    result.plot()
    result.save(tmp_path / "packet.npz")
    assert np.isnan(ff.load(tmp_path / "packet.npz").measured[0])
