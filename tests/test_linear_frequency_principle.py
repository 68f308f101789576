"""What a wide two-layer network makes of samples: against interpolation, quadrature, matrix exponentials, training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from scipy.linalg import expm
from torch import nn

import fastfreq as ff
from fastfreq.training import (
    LFPKernel,
    TwoLayerReLU,
    fp_norm,
    generalization_bound,
    linear_frequency_principle,
)
from fastfreq.training.lfp_kernel import lattice_frequencies, mean_power
from fastfreq.training.linear_frequency_principle import _on_lattice

X = np.array([-0.93, -0.6, -0.15, 0.22, 0.31, 0.58, 0.97])
Y = np.array([0.3, -0.6, 0.8, 0.1, -0.7, 0.4, 1.1])
T = np.linspace(-0.93, 0.97, 301)

pytestmark = pytest.mark.usefixtures("one_thread")


def limit(kernel, x=X, y=Y, t=T, **options):
    return linear_frequency_principle(x, y, points=t, kernel=kernel, **options).predicted[-1]


# ---------------------------------------------------------------- limits
def test_linear_term_alone_is_linear_interpolation_and_constant_beyond():
    wide = np.linspace(-2, 2, 401)
    np.testing.assert_allclose(limit(LFPKernel(1, 0.0, 3.0), t=wide), np.interp(wide, X, Y), atol=1e-10)


@pytest.mark.parametrize("scale", [1.0, 250.0])
def test_cubic_term_alone_is_the_natural_cubic_spline(scale):
    spline = CubicSpline(X * scale, Y, bc_type="natural")
    np.testing.assert_allclose(limit(LFPKernel(1, 2.0, 0.0), X * scale, t=T * scale), spline(T * scale), atol=1e-10)


def test_both_terms_lie_between_and_pass_through_the_samples():
    result = linear_frequency_principle(X, Y, points=T, kernel=LFPKernel(1, 500.0, 5.0))
    assert np.abs(result.residuals).max() < 1e-10
    spline = CubicSpline(X, Y, bc_type="natural")(T)
    distance = [np.abs(result.predicted[-1] - other).max() for other in (spline, np.interp(T, X, Y))]
    assert min(distance) > 0.01


# ---------------------------------------------------------------- kernels
@pytest.mark.parametrize("form", ["offset", "bias"])
@pytest.mark.parametrize("dimension", [1, 2])
def test_kernel_is_the_integral_over_neurons(form, dimension):
    """A network whose parameters are a quadrature rule: what is linear or constant is taken out, the rest compared."""
    angles = [0.0, np.pi] if dimension == 1 else np.arange(180) * (2 * np.pi / 180)
    reach, count = 4.0, 20_000 if dimension == 1 else 800
    shift = (np.arange(count) + 0.5) / count * 2 * reach - reach
    angle, shift = (v.reshape(-1) for v in np.meshgrid(angles, shift, indexing="ij"))
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, :dimension]
    net = TwoLayerReLU(len(shift), dimension=dimension, form=form, reach=reach, inner_scale=1.7, outer_scale=0.8)
    with torch.no_grad():
        net.weight.copy_(torch.from_numpy(1.7 * unit))
        net.shift.copy_(torch.from_numpy(shift))
    x = np.random.default_rng(1).uniform(-1, 1, (7, dimension))
    truth = net.tangent_kernel(x, x)
    np.testing.assert_allclose(net.kernel()(x, x), truth, rtol=2e-5)
    rest = np.linalg.qr(np.hstack([np.ones((7, 1)), x]), mode="complete")[0][:, dimension + 1 :]
    found, wanted = (rest.T @ k @ rest for k in (net.limit_kernel()(x, x) * net.kernel().scale, truth))
    np.testing.assert_allclose(found, wanted, atol=2e-3 * np.abs(wanted).max())
    published = rest.T @ net.limit_kernel(published=True)(x, x) @ rest * net.kernel().scale
    off = np.abs(published - wanted).max() / np.abs(wanted).max()
    assert (off < 2e-3) == (dimension == 1 and form == "offset")  # where 1905.10264 is exact


@pytest.mark.parametrize("form", ["offset", "bias"])
def test_tangent_kernel_is_that_of_autograd(form):
    net = TwoLayerReLU(10, dimension=3, form=form, distribution="normal", seed=3)
    x, z = (np.random.default_rng(s).standard_normal((n, 3)) for s, n in ((1, 4), (2, 5)))

    def jacobian(points):
        rows = [torch.autograd.grad(net(torch.from_numpy(p[None]))[0, 0], net.parameters()) for p in points]
        return np.stack([np.concatenate([g.reshape(-1).numpy() for g in row]) for row in rows])

    np.testing.assert_allclose(net.tangent_kernel(x, z), jacobian(x) @ jacobian(z).T, rtol=1e-12, atol=1e-12)
    assert net.values(x).shape == (4,) and np.abs(net.values(x)).max() < 1e-12  # pairs cancel


@pytest.mark.parametrize(("d", "p"), [(1, 1), (2, 1), (3, 3), (5, 3)])
def test_mean_power_is_that_of_the_sphere(d, p):
    u = np.random.default_rng(0).standard_normal((200_000, d))
    assert mean_power(d, p) == pytest.approx(np.mean(np.abs(u[:, 0] / np.linalg.norm(u, axis=1)) ** p), rel=0.02)


def test_lattice_of_waves_gives_the_same():
    for a, b in ((1.0, 0.1), (18.0, 81.0)):
        kernel = LFPKernel(1, a, b)
        found, waves = (
            linear_frequency_principle(X, Y, points=T, kernel=kernel, **options)
            for options in ({}, {"method": "lattice", "period": 40, "cutoff": 2500})
        )
        assert np.abs(waves.residuals).max() < 1e-8
        assert np.abs(found.predicted - waves.predicted).max() < 0.02 and found.norm == pytest.approx(waves.norm, 0.02)


@pytest.mark.parametrize(("a", "b", "period", "cutoff"), [(1.0, 0.0, 64.0, 160), (0.0, 1.0, 6.0, 200)])
def test_lattice_in_two_dimensions_tells_the_same_transform(a, b, period, cutoff):
    """The constants between |v|^3, |v| and the powers of frequency, for d = 2, on what free functions leave.

    |v|^3 is mostly in low frequencies, which want a long period, |v| in high ones, which want many waves.
    """
    x = np.random.default_rng(4).uniform(-1, 1, (6, 2))
    rest = np.linalg.qr(np.hstack([np.ones((6, 1)), x]), mode="complete")[0][:, 3:]
    kernel = LFPKernel(2, a, b)
    waves, closed = (rest.T @ k @ rest for k in (_on_lattice(kernel, x, x, period, cutoff).inputs, kernel(x, x)))
    assert np.abs(waves - closed).max() < 0.03 * np.abs(closed).max()


def test_a_users_network_has_the_kernel_of_its_weights():
    ours = TwoLayerReLU(40, dimension=2, form="bias", inner_scale=0.5, reach=6.0)
    theirs = nn.Sequential(nn.Linear(2, 40), nn.ReLU(), nn.Linear(40, 1)).double()
    with torch.no_grad():
        theirs[0].weight.copy_(ours.weight)
        theirs[0].bias.copy_(ours.shift)
        theirs[2].weight.copy_(ours.outer[None])
    assert LFPKernel.of_network(theirs, inputs=np.eye(2)) == ours.limit_kernel()
    with pytest.raises(ValueError, match="expected biases spread at least as widely"):
        LFPKernel.of_network(theirs, inputs=1000 * np.eye(2))
    with pytest.raises(TypeError, match="expected nn.Sequential"):
        LFPKernel.of_network(nn.Sequential(nn.Linear(2, 40), nn.Tanh(), nn.Linear(40, 1)), inputs=np.eye(2))
    hooked = nn.Sequential(*theirs)
    handle = hooked[1].register_forward_hook(lambda _m, _a, output: output.square())
    with pytest.raises(TypeError, match="this one has hooks"):
        LFPKernel.of_network(hooked, inputs=np.eye(2))
    handle.remove()
    shortcut = type(
        "Shortcut", (nn.Sequential,), {"forward": lambda self, x: self[2](self[1](self[0](x)) + self[0](x))}
    )
    with pytest.raises(TypeError, match="expected nn.Sequential"):
        LFPKernel.of_network(shortcut(*theirs), inputs=np.eye(2))
    assert LFPKernel.of_network(hooked.float(), inputs=np.eye(2)).dimension == 2


# ---------------------------------------------------------------- time
def test_dynamics_are_the_matrix_exponential():
    kernel = TwoLayerReLU(200, reach=3.0).kernel()
    start, at = np.sin(3 * X), np.sin(3 * T)
    times = (0.0, 1e-5, 3e-4, 1e-2, math.inf)
    found = linear_frequency_principle(X, Y, points=T, kernel=kernel, times=times, initial=(start, at))
    dense = kernel(X, X)
    for k, time in enumerate(times[:-1]):
        left = expm(-dense * time) @ (start - Y)
        np.testing.assert_allclose(found.residuals[k], left, atol=1e-9)
        moved = kernel(T, X) @ np.linalg.solve(dense, (Y - start) + left)
        np.testing.assert_allclose(found.predicted[k], at + moved, atol=1e-7)
    assert np.abs(found.residuals[-1]).max() < 1e-9


def test_infinite_range_of_biases_is_the_limit_of_large_ones():
    near = [limit(TwoLayerReLU(200, reach=reach).kernel()) for reach in (30.0, 300.0)]
    exact = limit(TwoLayerReLU(200).limit_kernel())
    errors = [np.abs(v - exact).max() for v in near]
    assert errors[1] < 1e-3 and errors[1] < errors[0] / 5


def test_a_network_follows_the_prediction_in_its_own_time():
    net = TwoLayerReLU(6000, seed=5)
    fit = net.fit(X, Y, steps=60)
    assert fit.steps == 60 and not fit.converged
    found = linear_frequency_principle(
        X, Y, points=T, kernel=net.kernel(), times=[60 * fit.rate], trained=net.values(T)
    )
    assert found.rms < 0.03 and found.correlation > 0.99


@pytest.mark.parametrize("form", ["offset", pytest.param("bias", marks=pytest.mark.slow)])
def test_a_trained_network_ends_where_it_should(form):
    net = TwoLayerReLU(1000, seed=6, form=form, reach=3.0 if form == "offset" else 9.0)
    fit = net.fit(X, Y)
    assert fit.converged and fit.loss < 1e-8
    found = linear_frequency_principle(X, Y, points=T, kernel=net.limit_kernel(), trained=net.values(T))
    assert found.rms < 0.13 and found.correlation > 0.97


@pytest.mark.slow
def test_the_error_falls_as_one_over_the_root_of_the_width():
    widths, errors = (1250, 5000, 20_000), []
    for width in widths:
        seeds = []
        for seed in range(20, 26):
            net = TwoLayerReLU(width, seed=seed)
            assert net.fit(X, Y).converged
            found = linear_frequency_principle(X, Y, points=T, kernel=net.limit_kernel(), trained=net.values(T))
            seeds.append(found.rms)
        errors.append(np.sqrt(np.mean(np.square(seeds))))
    assert errors[-1] <= 0.03
    assert np.polyfit(np.log(widths), np.log(errors), 1)[0] == pytest.approx(-0.5, abs=0.1)


# ---------------------------------------------------------------- norms and bounds
def test_norm_of_a_wave_is_in_closed_form():
    kernel = LFPKernel(1, 2.0, 0.5)
    x = np.arange(33) / 33
    gamma = math.sqrt(2.0 / 3**4 + 4 * np.pi**2 * 0.5 / 3**2)
    assert fp_norm(4 * np.cos(2 * np.pi * 3 * x) + 7, kernel=kernel) == pytest.approx(4 / math.sqrt(2) / gamma)
    plane = LFPKernel(2, 2.0, 0.5)
    y, z = np.meshgrid(np.arange(15) / 15, np.arange(21) / 21, indexing="ij")
    gamma = math.sqrt(2.0 / 5**2.5 + 4 * np.pi**2 * 0.5 / 5**1.5)
    wave = np.cos(2 * np.pi * (y - 2 * z))
    assert fp_norm(wave, kernel=plane) == pytest.approx(1 / math.sqrt(2) / gamma)
    stretched = math.sqrt(2.0 / (5 / 4) ** 2.5 + 4 * np.pi**2 * 0.5 / (5 / 4) ** 1.5)
    assert fp_norm(wave, kernel=plane, period=2.0) == pytest.approx(1 / math.sqrt(2) / stretched)
    with pytest.raises(ValueError, match="expected a grid that resolves the function"):
        fp_norm(np.cos(np.pi * np.arange(8)), kernel=kernel)


def test_sum_of_gamma_is_the_series():
    long = np.arange(1, 200_001)[:, None].astype(float)
    kernel = LFPKernel(1, 2.0, 0.5)
    assert kernel.gamma_l2() == pytest.approx(math.sqrt(2 * kernel.gamma_squared(long).sum()), rel=1e-5)
    plane = LFPKernel(2, 2.0, 0.5)
    series = math.sqrt(plane.gamma_squared(lattice_frequencies(2, 400)).sum())
    assert series < plane.gamma_l2() < 1.02 * series


def test_bound_is_above_the_error_and_the_error_rises_with_frequency():
    kernel, rng = LFPKernel(1, 1.0, 1.0), np.random.default_rng(8)
    x, t = np.sort(rng.uniform(0, 1, 40)), np.arange(512) / 512
    errors, norms = [], []
    for k in (1, 2, 4, 8):
        target = np.sin(2 * np.pi * k * t)
        norms.append(fp_norm(target, kernel=kernel))
        found = limit(kernel, x, np.sin(2 * np.pi * k * x), t)
        errors.append(np.abs(found - target).mean())
        assert errors[-1] < generalization_bound(norms[-1], kernel=kernel, samples=40, largest=1.0)
    assert (np.diff(errors) > 0).all() and (np.diff(norms) > 0).all()


# ---------------------------------------------------------------- refusals, and what a result is
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inputs": np.array([0.0, 0.5, 0.5])}, "no two are in one place"),
        ({"inputs": np.array([0.0])}, "shape"),
        ({"targets": np.array([0.0, np.nan, 1.0])}, "expected finite `targets`"),
        ({"times": (1.0, 1.0)}, "expected `times` ascending"),
        ({"period": 40.0}, 'no `period` or `cutoff` with method "kernel"'),
        ({"method": "fast"}, 'expected `method` "kernel" or "lattice"'),
        ({"trained": np.zeros(2)}, "expected `trained` of shape"),
    ],
)
def test_wrong_use_is_named(change, words):
    given = {"inputs": np.array([0.0, 0.4, 1.0]), "targets": np.arange(3.0), "points": T, "kernel": LFPKernel(1, 1, 1)}
    given |= change
    with pytest.raises(ValueError, match=words):
        linear_frequency_principle(given.pop("inputs"), given.pop("targets"), **given)


def test_inputs_on_a_line_of_the_plane_are_refused():
    x = np.stack([X, 2 * X], axis=1)
    with pytest.raises(ValueError, match="expected inputs that no plane or line holds"):
        limit(LFPKernel(2, 1.0, 1.0), x, t=x)
    found = limit(TwoLayerReLU(100, dimension=2).kernel(), x, t=x)  # the way out that the message names
    np.testing.assert_allclose(found, Y, atol=1e-8)


def test_result_saves_draws_and_lists(tmp_path):
    net = TwoLayerReLU(50)
    found = linear_frequency_principle(
        X, Y, points=T, kernel=net.limit_kernel(), trained=net.values(T), times=(1e-3, math.inf)
    )
    found.save(tmp_path / "r.npz")
    again = ff.load(tmp_path / "r.npz")
    assert repr(again) == repr(found) and again.kernel == found.kernel
    assert len(found.table()) == 2 * len(T) and found.summary()[1]["rms_to_trained"] == found.rms
    assert found.plot().axes and math.isnan(limit_without_training().rms)


def limit_without_training():
    return linear_frequency_principle(X, Y, points=T, kernel=LFPKernel(1, 1.0, 1.0))
