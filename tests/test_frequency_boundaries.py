"""Where the frequency principle holds: shares of the decrease, flows on the torus, tangent kernels, five failures."""

from __future__ import annotations

import copy
import functools
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from torch import nn

import fastfreq as ff
from fastfreq.plots import frequency_order as order_plots
from fastfreq.plots import high_frequency_share as share_plots
from fastfreq.training import (
    TwoLayerReLU,
    frequency_order,
    high_frequency_share,
    predicted_rates,
    tangent_kernel_decay,
    torus_flow,
)
from fastfreq.training._order_cases import weighted_modes
from fastfreq.training.high_frequency_share import regularity
from tests.in_place import InPlace

pytestmark = pytest.mark.usefixtures("one_thread")


def mlp(activation, *, width=50, seed=0, gain=1.0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(1, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, 1)
        ).eval()
    with torch.no_grad():
        net[0].weight.mul_(gain)
        net[0].bias.mul_(gain)
    return net


def target(points):
    return np.sin(2 * points[:, 0]) + np.sin(6 * points[:, 0])


# ---------------------------------------------------------------- general theory: shares of the decrease
def test_rates_and_losses_are_those_of_autograd_and_quadrature():
    net = mlp(nn.GELU, width=7, gain=4.0)
    found = high_frequency_share(net, target, cutoffs=(0.3, 0.8, 1.2), deviation=0.7, size=240)
    x = (torch.arange(240).double() - 120) * (2 * 14 * 0.7 / 240)
    net = copy.deepcopy(net).double()
    density = torch.exp(-(x**2) / (2 * 0.49)) / math.sqrt(2 * math.pi * 0.49)
    error = net(x[:, None])[:, 0] - torch.from_numpy(target(x[:, None].numpy()))
    assert found.loss[0] == pytest.approx(float(torch.trapezoid(error.detach() ** 2 * density, x)), rel=1e-9)

    spectrum = torch.fft.fft(error * density.sqrt(), norm="ortho").abs().square() * (x[1] - x[0])
    frequency = torch.fft.fftfreq(240, float(x[1] - x[0]), dtype=torch.float64).abs()
    whole = torch.autograd.grad(spectrum.sum(), net.parameters(), retain_graph=True)
    for k, eta in enumerate(found.cutoffs):
        high = spectrum[frequency > eta].sum()
        assert found.high_loss[0, k] == pytest.approx(high.item(), rel=1e-9)
        part = torch.autograd.grad(high, net.parameters(), retain_graph=True)
        ratio = sum((a * b).sum() for a, b in zip(part, whole, strict=True)) / sum((b * b).sum() for b in whole)
        assert found.rate_share[0, k] == pytest.approx(abs(ratio.item()), rel=1e-7)


@pytest.mark.parametrize(
    ("activation", "order"),
    [(nn.ReLU, 1), (nn.LeakyReLU, 1), (nn.ELU, 2), (nn.Tanh, math.inf), (nn.GELU, math.inf), (nn.SiLU, math.inf)]
    + [(nn.Mish, math.inf)],
)
def test_kinks_give_powers_and_smooth_activations_fall_faster(activation, order):
    found = high_frequency_share(mlp(activation, gain=8.0, seed=3), target)
    assert found.regularity == order and found.guaranteed == 2 * order - 1
    assert found.decay() == ("super-polynomial" if math.isinf(order) else "power law")
    if math.isfinite(order):
        # at least what the theory promises, and near what jumps of a derivative give: from 2 k to 2 k + 1
        assert 2 * order - 1 <= found.exponent() < 2 * order + 2
    else:
        assert found.initial[4] < 1e-6 * found.initial[0] and found.local_exponents()[-1] > 10


def test_training_is_recorded_and_the_model_left_alone():
    net = mlp(nn.Tanh, gain=3.0)
    before = copy.deepcopy(net.state_dict())
    with torch.inference_mode():
        found = high_frequency_share(net, target, steps=30, records=8, size=512, cutoffs=(1, 2))
    assert found.steps[0] == 0 and found.steps[-1] == 30 and found.loss[-1] < found.loss[0]
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items()) and not net.training
    change = (found.high_loss[found.half] - found.high_loss[0]) / (found.loss[found.half] - found.loss[0])
    np.testing.assert_allclose(found.intermediate, np.abs(change))


def test_a_loss_that_diverges_keeps_what_was_seen():
    with pytest.warns(UserWarning, match="the loss was not finite at step"):
        found = high_frequency_share(
            mlp(nn.ReLU), target, steps=60, size=512, cutoffs=(1, 2), optimizer=lambda p: torch.optim.SGD(p, 50.0)
        )
    assert 1 <= len(found.steps) < 40 and np.isfinite(found.loss).all()


def test_networks_that_work_in_place_and_optimizers_that_look_twice():
    kept, net = None, mlp(nn.GELU, width=5)
    for inplace in (False, True):
        front = InPlace(copy.deepcopy(net), inplace)
        found = high_frequency_share(front, target, steps=3, records=4, size=128, cutoffs=(1,))
        kept = kept or found
    assert found.table() == kept.table() and found.loss.tolist() == kept.loss.tolist()
    twice = high_frequency_share(net, target, steps=3, size=128, cutoffs=(1,), optimizer=torch.optim.LBFGS)
    assert twice.loss[-1] < found.loss[-1]
    with pytest.raises(TypeError, match="`optimizer` to make an optimizer of torch, got list"):
        high_frequency_share(net, target, steps=3, size=128, cutoffs=(1,), optimizer=list)


def test_unknown_modules_have_no_known_regularity():
    class Own(nn.Module):
        def forward(self, x):
            return x.abs()

    assert math.isnan(regularity(nn.Sequential(nn.Linear(1, 4), Own(), nn.Tanh(), nn.Linear(4, 1))))
    found = high_frequency_share(
        nn.Sequential(nn.Linear(1, 4), Own(), nn.Linear(4, 1)), target, size=512, cutoffs=(1, 2)
    )
    assert "the theory promises nothing known" in found.headline()


def test_shares_refuse_what_they_cannot_tell():
    with pytest.raises(ValueError, match="expected `cutoffs` from 0 to 4.571, half the grid's largest"):
        high_frequency_share(mlp(nn.ReLU), target, size=512)
    with pytest.raises(ValueError, match="expected outputs of the targets' shape"):
        high_frequency_share(mlp(nn.ReLU), lambda p: np.zeros((len(p), 2)), size=512, cutoffs=(1,))
    with pytest.raises(ValueError, match="expected `stage` as one of"):
        high_frequency_share(mlp(nn.ReLU), target, size=512, cutoffs=(1,)).exponent("middle")


# ---------------------------------------------------------------- flows on the torus
@pytest.mark.parametrize("order", [0, 1, 2])
def test_flow_is_the_matrix_exponential(order):
    """Features sigma(x - w) on a grid of 31, loss on spectral derivatives: the definition, as dense matrices."""
    n, rng = 31, np.random.default_rng(0)
    x = np.arange(n) * 2 * np.pi / n
    sigma, wanted, start = np.exp(np.cos(x)), rng.standard_normal(n), rng.standard_normal(n)
    features = sigma[(np.arange(n)[:, None] - np.arange(n)[None]) % n]  # sigma(x_i - w_j)
    gap = (x[:, None] - x[None]) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        sign = (-1.0) ** (np.arange(n)[:, None] - np.arange(n)[None])
        derivative = np.where(np.eye(n) > 0, 0.0, sign / (2 * np.sin(gap)))  # of trigonometric interpolation, odd n
    power = np.linalg.matrix_power(derivative, order)
    generator = features @ features.T / n**2 @ power.T @ power
    times = (0.0, 0.3, 2.0, 9.0)
    found = torus_flow(wanted, transform=np.fft.fft(sigma, norm="forward"), order=order, times=times, initial=start)
    for k, time in enumerate(times):
        truth = wanted + expm(-generator * time) @ (start - wanted)
        np.testing.assert_allclose(found.values[k], truth, atol=1e-12 * 10**order)


def test_flow_in_two_dimensions_of_odd_sides():
    wanted = np.random.default_rng(1).standard_normal((5, 7))
    found = torus_flow(wanted, transform=lambda k: 1 / (1 + np.square(k).sum(axis=1)), times=(0.0, 1.0, 1e9))
    np.testing.assert_allclose(found.values[0], 0, atol=1e-14)
    np.testing.assert_allclose(found.values[-1], wanted, atol=1e-12)
    place = np.flatnonzero((found.frequencies == (1, -2)).all(axis=1))[0]
    assert found.errors[1, place] == pytest.approx(math.exp(-1 / 36)) and found.principle() == "holds"


@pytest.mark.parametrize(("order", "principle"), [(0, "holds"), (2, "holds"), (4, "neutral"), (5, "reversed")])
def test_derivatives_turn_the_order(order, principle):
    """sigma(x) = (x (2 pi - x))^2 has sigma^(k) = -24 / k^4."""
    n = 4096
    x = np.arange(n) * 2 * np.pi / n
    sigma = np.fft.fft(np.square(x * (2 * np.pi - x)), norm="forward")[1:9]
    np.testing.assert_allclose(np.abs(sigma), 24 / np.arange(1, 9) ** 4.0, rtol=1e-6)
    rates = predicted_rates(sigma, frequencies=np.arange(1, 9), order=order)
    np.testing.assert_allclose(rates / rates[0], np.arange(1.0, 9) ** (2 * order - 8), rtol=1e-5)
    flow = torus_flow(
        np.sin(x[:64] * 64), transform=lambda k: 24 / np.maximum(np.abs(k[:, 0]), 1) ** 4, order=order, times=[1]
    )
    assert flow.principle(1, 8) == principle


def test_flows_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="expected a `transform` for 8 frequencies"):
        torus_flow(np.ones(8), transform=np.ones(9), times=[1])
    with pytest.raises(ValueError, match="expected a `transform` of a real function"):
        torus_flow(np.ones(8), transform=np.arange(8.0), times=[1])
    with pytest.raises(ValueError, match="expected `times` ascending"):
        torus_flow(np.ones(8), transform=np.ones(8), times=[2, 1])
    with pytest.raises(ValueError, match="an `order` of at least 0"):
        predicted_rates(np.ones(3), frequencies=np.arange(3), order=-1)


# ---------------------------------------------------------------- tangent kernels
class Hostile(nn.Module):
    """Shared weights, in-place activations, batch statistics, a frozen layer, two outputs."""

    def __init__(self):
        super().__init__()
        self.inner, self.norm, self.frozen = nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Linear(5, 5)
        self.again, self.head = self.inner, nn.Linear(5, 2)
        self.frozen.requires_grad_(False)

    def forward(self, x):
        x = nn.functional.relu_(self.norm(self.inner(x)))
        return self.head(torch.tanh_(self.again(self.frozen(x))))


@pytest.fixture
def hostile():
    with torch.random.fork_rng():
        torch.manual_seed(2)
        net = Hostile().double()
        net(torch.randn(40, 5).double())
    return net.eval()


def test_decay_is_that_of_the_dense_kernel_chunk_by_chunk(hostile):
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((23, 5)))
    where = np.random.default_rng(1).uniform(0, 1, 23)
    with torch.no_grad():  # what the caller is in does not matter
        found = tangent_kernel_decay(hostile, x, frequencies=[0, 1, 2.5], coordinates=where, eigenvalues=6, chunk=7)
    rows = []
    parameters = [p for p in hostile.parameters() if p.requires_grad]
    for output in hostile(x).reshape(-1):
        gradients = torch.autograd.grad(output, parameters, retain_graph=True)
        rows.append(torch.cat([g.reshape(-1) for g in gradients]).numpy())
    jacobian = np.stack(rows)
    kernel = jacobian @ jacobian.T / 23
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(kernel)[::-1][:6], rtol=1e-9)
    assert found.parameters == jacobian.shape[1] and found.eigen_error.max() < 1e-8
    for k, wave in enumerate(found.frequencies[:, 0]):
        pair = np.stack([np.cos(2 * np.pi * wave * where), np.sin(2 * np.pi * wave * where)], axis=1)
        basis = np.linalg.qr(pair[:, :1] if wave == 0 else pair)[0]
        unit = np.stack([np.kron(phi, e) for phi in basis.T for e in np.eye(2)])
        rates = np.einsum("vi,ij,vj->v", unit, kernel, unit)
        assert found.rates[k] == pytest.approx(rates.mean(), rel=1e-9)
        assert found.alignment[k] == pytest.approx((rates / np.linalg.norm(unit @ kernel, axis=1)).mean(), rel=1e-9)


def test_a_convolutional_network_in_any_layout_and_mode_of_the_caller(make_net):
    net = make_net()
    x = torch.rand(9, 3, 11, 14).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        inside = torch.rand(9, 3, 11, 14)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    direction = x.flatten(1).double().numpy() @ np.random.default_rng(0).standard_normal(3 * 11 * 14) / 20
    a = tangent_kernel_decay(net, x, frequencies=[0, 1, 2], coordinates=direction)
    b = tangent_kernel_decay(net, x.contiguous(), frequencies=[0, 1, 2], coordinates=direction, chunk=2)
    np.testing.assert_allclose(a.rates, b.rates, rtol=1e-4)
    assert a.outputs == 5 and all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    assert np.isfinite(tangent_kernel_decay(net, inside, frequencies=[1], coordinates=direction).rates).all()
    half = tangent_kernel_decay(copy.deepcopy(net).half(), x.half(), frequencies=[0, 1, 2], coordinates=direction)
    np.testing.assert_allclose(half.rates, a.rates, rtol=0.02)
    with pytest.raises(ValueError, match="expected a model in evaluation mode"):
        tangent_kernel_decay(net.train(), x, frequencies=[0], coordinates=direction)


class OldStyle(torch.autograd.Function):
    """A user's own derivative, as most are written: without a forward mode, unknown to torch.func."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.tanh())
        return x.tanh()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (1 - ctx.saved_tensors[0] ** 2)


class Small(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.inner, self.head, self.unused = nn.Linear(1, 9), nn.Linear(9, 1), nn.Linear(3, 3)
        self.activation = activation

    def forward(self, x):
        return {"logits": self.head(self.activation(self.inner(x)))}


def test_users_own_derivatives_are_measured_in_several_threads():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Small(OldStyle.apply).double().eval()
    plain = copy.deepcopy(net)
    plain.activation = torch.tanh
    x = torch.linspace(0, 1, 12).double()[:, None]
    with ThreadPoolExecutor(3) as pool:
        measure = functools.partial(tangent_kernel_decay, inputs=x, frequencies=[0, 1, 2], eigenvalues=3)
        found = list(pool.map(measure, [net, plain, net, plain]))
    for other in found[1:]:
        np.testing.assert_allclose(other.alignment, found[0].alignment, rtol=1e-10)
        np.testing.assert_allclose(other.eigenvalues, found[0].eigenvalues, rtol=1e-8)


def test_waves_on_the_circle_are_eigenfunctions_of_wide_networks():
    net = TwoLayerReLU(8000, dimension=2, reach=2.0).eval()
    angle = np.arange(48) * 2 * np.pi / 48
    circle = torch.from_numpy(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    found = tangent_kernel_decay(net, circle, frequencies=range(4), coordinates=angle / (2 * np.pi), eigenvalues=5)
    assert (found.alignment > 0.9).all() and (np.diff(found.rates) < 0).all()
    assert found.eigen_frequencies.tolist() == [0, 1, 1, 2, 2] and (found.eigen_shares > 0.95).all()
    phi = np.cos(3 * angle) / np.linalg.norm(np.cos(3 * angle))
    assert found.rates[3] == pytest.approx(phi @ net.tangent_kernel(circle, circle) @ phi / 48, rel=0.02)


def test_tangent_kernels_refuse_what_does_not_fit(hostile):
    x = torch.zeros(4, 5, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"expected finite `frequencies` of shape \(f, 5\)"):
        tangent_kernel_decay(hostile, x, frequencies=[1, 2])
    with pytest.raises(ValueError, match=r"expected finite `coordinates` of shape \(4, d\)"):
        tangent_kernel_decay(hostile, x, frequencies=[1], coordinates=np.zeros(3))
    with pytest.raises(ValueError, match="expected finite gradients"):
        tangent_kernel_decay(hostile, x * math.nan, frequencies=[1], coordinates=np.arange(4))
    with pytest.raises(ValueError, match="parameters that require gradients"):
        tangent_kernel_decay(copy.deepcopy(hostile).requires_grad_(False), x, frequencies=[1], coordinates=np.arange(4))


# ---------------------------------------------------------------- five modes
def test_density_turns_the_order_of_waves_but_not_of_eigenfunctions():
    even, crowded = (frequency_order("density", fails=fails) for fails in (False, True))
    assert even.order() == "holds" and crowded.order() == "reversed"
    decay = np.exp(-np.outer(even.times, 1 / (1 + np.array([1.0, 8]) ** 2)))
    np.testing.assert_allclose(even.errors, decay, atol=1e-9)  # without a density the flow is in closed form
    weights = np.random.default_rng(0).uniform(0.1, 1, 128)
    values, waves = weighted_modes(weights / weights.sum())
    assert (values >= 0).all() and np.abs(waves.T @ waves - np.eye(128)).max() < 1e-10


def test_small_weights_wait_on_a_plateau_and_learn_what_is_large_first():
    lazy, rich = (frequency_order("feature_learning", fails=fails, seed=4) for fails in (False, True))
    assert lazy.order() == lazy.predicted_order == "holds"
    assert rich.order() == "reversed" and rich.predicted_order == "holds"  # the kernel at the start knows nothing of it
    # u = v: p = u v is logistic, dp/dt = 2 s p (g - s p) with s = 1 / k; gradient descent with steps of .02 is near it
    k, goal = rich.frequencies.astype(float), rich.amplitudes
    start = (1 - rich.errors[0]) * goal
    growth = np.exp(2 * np.outer(rich.times * 0.02, goal / k))
    logistic = 1 / (1 + (goal / start - 1) / growth)
    assert np.abs((1 - rich.errors) - logistic).max() < 0.2
    assert (rich.errors[200] > 0.9).all()


@pytest.mark.parametrize(("mode", "steps"), [("activation", 120), ("amplitude", 60), ("derivative_loss", 330)])
def test_networks_that_fail_do_so(mode, steps):
    found = frequency_order(mode, fails=True, seed=12, steps=steps)
    assert found.order() == "reversed"
    again = frequency_order(mode, fails=True, seed=12, steps=2)
    np.testing.assert_array_equal(again.errors, found.errors[:3])  # one seed, one course
    if mode == "amplitude":
        assert found.order("relative") == "holds"
    if mode == "activation":  # gradient descent by steps of .01 on the mean square: errors fall as e^(-.02 rate t)
        assert found.predicted_order == "reversed"
        np.testing.assert_allclose(found.hits(), np.log(1 / 0.3) / (0.02 * found.predicted), rtol=0.35)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["derivative_loss", "activation", "amplitude"])
@pytest.mark.parametrize("seed", [31, 32, 33, 34])
def test_networks_hold_and_fail_for_every_seed(mode, seed):
    assert frequency_order(mode, seed=seed, steps=900).order() == "holds"
    assert frequency_order(mode, fails=True, seed=seed, steps=900).order() == "reversed"


def test_orders_refuse_what_they_do_not_know():
    with pytest.raises(ValueError, match="expected `mode` as one of derivative_loss, activation, density"):
        frequency_order("depth")
    with pytest.raises(ValueError, match="expected `steps` of at least 1"):
        frequency_order("density", steps=0)


# ---------------------------------------------------------------- results
def test_results_save_draw_and_list(tmp_path, hostile):
    results = [
        high_frequency_share(mlp(nn.ReLU), target, size=512, cutoffs=(1, 2)),
        torus_flow(np.sin(np.arange(16)), transform=np.ones(16), times=(0.0, 1.0)),
        tangent_kernel_decay(
            hostile, torch.ones(3, 5).double(), frequencies=[0, 1], coordinates=np.arange(3) / 3, eigenvalues=2
        ),
        frequency_order("density", fails=True, steps=40),
    ]
    for i, result in enumerate(results):
        result.save(tmp_path / f"{i}.npz")
        again = ff.load(tmp_path / f"{i}.npz")
        assert repr(again) == repr(result) and str(again.table()) == str(result.table())
        assert result.plot().axes and result.headline() and result._repr_html_()
    assert share_plots.plot_many({"a": results[0], "b": results[0]}).axes
    assert order_plots.plot_many([results[3], frequency_order("density", steps=40)]).axes


def test_a_network_that_takes_samples_together_is_named():
    net = nn.Sequential(nn.Linear(1, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.Tanh(), nn.Linear(6, 1))
    with pytest.warns(UserWarning, match="as batch norm without running statistics does"):
        tangent_kernel_decay(net.eval(), torch.linspace(-1, 1, 12)[:, None], frequencies=[1], chunk=6)
