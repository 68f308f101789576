"""Spectral bias: spectra against closed forms, stacks of networks against single ones, every experiment in small."""

from __future__ import annotations

import copy
import dataclasses
import functools

import numpy as np
import pytest
import scipy.spatial
import torch
from torch import nn

import fastfreq as ff
from fastfreq.results.registry import load
from fastfreq.training import Recipe, _checkpoint, relu_network
from fastfreq.training.spectral_bias import _ensemble, _spectra, _training
from fastfreq.training.spectral_bias.neighbour_spectra import nearest_means
from fastfreq.training.spectral_bias.recipe import make_network
from fastfreq.vocabulary import streams

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = functools.partial(relu_network, depth=3, width=16)
ADAM = functools.partial(torch.optim.Adam, lr=3e-3)


def recipe(steps=20, **changed):
    return Recipe(**{"network": SMALL, "optimizer": ADAM, "steps": steps, "record_every": 10} | changed)


def images(n=40, seed=0):
    generator = np.random.default_rng(seed)
    return generator.random((n, 3, 5)), generator.integers(3, 5, n) * 5 - 12  # labels 3 and 8


def sinusoids(seeds=(3, 5), **changed):
    return ff.training.sinusoid_learning((1, 3, 5), samples=33, seeds=seeds, recipe=recipe(**changed))


EXPERIMENTS = {
    "sinusoid_learning": sinusoids,
    "parameter_robustness": lambda seeds=(3, 5), **changed: ff.training.parameter_robustness(
        (1, 3, 5), deltas=(0.5, 2.0), directions=7, samples=33, seeds=seeds, recipe=recipe(**changed)
    ),
    "manifold_learning": lambda seeds=(3, 5), **changed: ff.training.manifold_learning(
        (0, 3), frequencies=(1, 3, 5), samples=33, seeds=seeds, recipe=recipe(**changed)
    ),
    "manifold_classification": lambda seeds=(3, 5), **changed: ff.training.manifold_classification(
        (1, 3), shapes=(0, 3, 4), samples=33, seeds=seeds, recipe=recipe(**changed)
    ),
    "label_noise": lambda seeds=(3, 5), **changed: ff.training.label_noise(
        *images(), validation=images(20, 1), frequencies=(0, 0.1, 2), seeds=seeds, recipe=recipe(**changed)
    ),
    "kernel_learning": lambda seeds=(3, 5), **changed: ff.training.kernel_learning(
        *images(), per_bin=7, seeds=seeds, recipe=recipe(**changed)
    ),
    "delta_fit": lambda seeds=(3, 5), **changed: ff.training.delta_fit(
        (2, 3), widths=(8, 16), clips=(0.1, 0.5), base=(3, 16, None), samples=15, seeds=seeds,
        recipe=recipe(network=relu_network, **changed),
    ),
    "neighbour_spectra": lambda seeds=(3, 5), **changed: ff.training.neighbour_spectra(
        (1, 2), points=30, grid=33, seeds=seeds, recipe=recipe(**changed)
    ),
}  # fmt: skip


@functools.cache
def whole(kind):
    return EXPERIMENTS[kind]()


def same(a, b):
    """Every number of two results."""
    from fastfreq.results.codec import encode

    one, other = (encode({f: getattr(r, f) for f in r._folds()}) for r in (a, b))
    return one[0] == other[0] and all(np.array_equal(v, other[1][k], equal_nan=True) for k, v in one[1].items())


# ---------------------------------------------------------------- spectra
@pytest.mark.parametrize("n", [33, 40, 101])
def test_waves_are_those_of_sinusoids_and_of_the_sum_written_out(n):
    z, k = _spectra.uniform(n), np.array([1, 5, 16])
    f = _spectra.sum_of_sinusoids(z, k, np.array([2.0, 0.5, 1.0]), np.array([0.3, 2.0, 5.0]))
    np.testing.assert_allclose(np.abs(_spectra.waves(f, k)), [2.0, 0.5, 1.0], rtol=1e-12)
    noise = np.random.default_rng(0).standard_normal((3, n))
    written = [2 / n * (noise * np.exp(-2j * np.pi * one * z)).sum(axis=1) for one in k]
    np.testing.assert_allclose(_spectra.waves(noise, k), np.stack(written, axis=1), atol=1e-12)


def test_first_hit_waits_for_the_records_in_a_row_that_were_asked_for():
    reached = np.array([[0, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 1]], dtype=bool)
    steps = np.array([0, 10, 20, 30, 35])
    np.testing.assert_array_equal(_spectra.first_hit(reached, steps), [10, 0, np.inf, 35])
    np.testing.assert_array_equal(_spectra.first_hit(reached, steps, hold=2), [30, 0, np.inf, 35])
    with pytest.raises(ValueError, match="expected a `hold` from 1, got 0"):
        _spectra.first_hit(reached, steps, hold=0)


def test_radial_amplitude_falls_as_jumps_and_kinks_do():
    """In the plane a jump along a curve gives radius^-3/2, a kink radius^-5/2, a wave one ring under the window."""
    n = 256
    axis = (np.arange(n) + 0.5) / n - 0.47
    r = np.hypot(axis[:, None], axis[None] * 1.2)
    fields = np.stack([np.where(r < 0.3, 1.0, 0.0), np.maximum(0.3 - r, 0)])
    radius, amplitude = _spectra.radial_amplitude(fields)
    band = (radius > 8) & (radius < n / 4)
    slopes = [np.polyfit(np.log(radius[band]), np.log(each[band]), 1)[0] for each in amplitude]
    assert slopes == pytest.approx([-1.5, -2.5], abs=0.15)
    wave = np.cos(2 * np.pi * (9 * np.arange(n)[:, None] + 12 * np.arange(n)[None]) / n)
    assert _spectra.radial_amplitude(wave)[1].argmax() + 1 == 15
    ramp = _spectra.radial_amplitude(axis[:, None] + 2 * axis)[1]  # its edges do not meet: the window hides that
    assert ramp[8] < 1e-2 * ramp[0] and ramp[60] < 1e-5 * ramp[0]


# ---------------------------------------------------------------- stacks
class Wide(nn.Module):
    """Like relu_network, but no chain."""

    def __init__(self, inputs, width=16):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, 1)

    def forward(self, x):
        return self.head(self.body(x))


def plainly(network, x, y, steps, optimizer=ADAM):
    """The training loop as anyone writes it."""
    network = copy.deepcopy(network)
    chosen = optimizer(network.parameters())
    for _ in range(steps):
        chosen.zero_grad()
        (network(x)[:, 0] - y).square().mean().backward()
        chosen.step()
    return network(x)[:, 0].detach().numpy()


@pytest.mark.parametrize("own", [False, True], ids=["one input", "inputs of their own"])
@pytest.mark.parametrize("stacked", [True, False])
def test_networks_beside_each_other_are_trained_as_each_alone(stacked, own):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(3, 37, 2, generator=generator), torch.randn(3, 37, generator=generator)
    if not own:
        x[:] = x[:1]
    networks = [SMALL(2) if stacked else Wide(2) for _ in range(3)]
    assert _ensemble.stackable(networks) == stacked
    alone = [plainly(network, x[i], y[i], 30) for i, network in enumerate(networks)]
    fit = _training.Fit(recipe(30), networks, x if own else x[0], y, names="abc", seeds=(1, 2, 3))
    outputs = fit.run(lambda _, each: {"outputs": each})[1]["outputs"]
    np.testing.assert_allclose(outputs[-1], alone, atol=2e-5)
    with torch.no_grad():  # and the modules hold what was trained
        held = [m(x[i])[:, 0].numpy() for i, m in enumerate(fit.networks.modules())]
    np.testing.assert_allclose(held, outputs[-1], atol=1e-6)


def hooked(network):
    network[0].register_forward_hook(lambda *_: None)
    return network


def frozen(network):
    network[0].weight.requires_grad_(False)
    return network


@pytest.mark.parametrize(
    "change",
    [
        hooked,
        frozen,
        lambda n: nn.Sequential(*n, nn.BatchNorm1d(1)),
        lambda n: nn.Sequential(nn.Dropout(0.5), *n),
        lambda n: nn.Sequential(n[0], n[1], n[2], n[3], n[2], n[3], n[4]),
        lambda n: nn.Sequential(nn.utils.parametrizations.spectral_norm(n[0]), *list(n)[1:]),
        lambda n: nn.Sequential(*n, nn.PReLU()),
    ],
    ids=["hooked", "frozen", "batch norm", "dropout", "tied", "parametrized", "own parameters"],
)
def test_what_is_more_than_a_chain_is_trained_alone(change):
    assert _ensemble.stackable([SMALL(2), SMALL(2)])
    networks = [change(SMALL(2)), change(SMALL(2))]
    assert not _ensemble.stackable(networks)
    assert isinstance(_ensemble.ensemble(networks, ADAM, seeds=(1, 2)), _ensemble.OneByOne)


def test_optimisers_that_mix_numbers_get_one_network_each():
    lbfgs = functools.partial(torch.optim.LBFGS, max_iter=4)
    found = sinusoids(optimizer=lbfgs, steps=5)
    assert found.training.optimizer.startswith("LBFGS")
    alone = sinusoids(seeds=(5,), optimizer=lbfgs, steps=5)
    np.testing.assert_array_equal(found.runs[5].amplitude, alone.runs[5].amplitude)
    assert found.runs[3].loss[-1] < 0.9 * found.runs[3].loss[0]


# ---------------------------------------------------------------- promises of all experiments
@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_a_seed_gives_the_same_bits_alone_and_in_company_and_shards_add_up(kind):
    every = whole(kind)
    shards = [EXPERIMENTS[kind](seeds=(seed,)) for seed in (5, 3)]
    merged = shards[0] + shards[1]
    assert merged.seeds == every.seeds == (3, 5) and str(merged.table()) == str(every.table())
    assert same(shards[1] + shards[0], every)
    with pytest.raises(ValueError, match="1 are in both"):
        merged + shards[0]


@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_what_was_trained_otherwise_does_not_mix(kind):
    with pytest.raises(ValueError, match="the same training"):
        whole(kind) + EXPERIMENTS[kind](seeds=(7,), optimizer=functools.partial(torch.optim.SGD, lr=0.01))


@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_results_are_saved_loaded_tabled_and_drawn(kind, tmp_path):
    found = whole(kind)
    assert found.kind == kind and callable(getattr(ff.training, kind))
    found.save(tmp_path / "result.npz")
    back = load(tmp_path / "result.npz")
    assert type(back) is type(found) and same(back, found) and repr(back) == repr(found)
    rows = found.table()
    assert rows and len({tuple(row) for row in rows}) == 1 and {row["seed"] for row in rows} == {3, 5}
    assert all(isinstance(v, (int, float, str)) for row in rows for v in row.values())
    assert found.headline() and len(found.plot().axes) >= 1


@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_callers_are_left_as_they_were(kind):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with torch.inference_mode():
        found = EXPERIMENTS[kind]()
    assert torch.equal(before, torch.get_rng_state()) and torch.is_grad_enabled()
    assert same(found, whole(kind))


def test_any_module_and_any_schedule_can_be_trained():
    schedule = functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=20)
    found = sinusoids(network=Wide, schedule=schedule)
    assert found.layers == ("body.0", "body.2", "head") and found.training.schedule == "CosineAnnealingLR"
    stacked = sinusoids(schedule=schedule)
    assert not np.array_equal(stacked.runs[3].loss, whole("sinusoid_learning").runs[3].loss)
    doubles = sinusoids(network=lambda inputs: SMALL(inputs).double())
    np.testing.assert_allclose(doubles.runs[3].amplitude, whole("sinusoid_learning").runs[3].amplitude, rtol=1e-3)


class Hostile(Wide):
    """Writes over its input, drops units at random, counts batches."""

    def __init__(self, inputs):
        super().__init__(inputs)
        self.norm, self.drop = nn.BatchNorm1d(16), nn.Dropout(0.4)

    def forward(self, x):
        return self.head(self.drop(self.norm(self.body(x.mul_(2)))))


def test_networks_that_draw_and_write_give_one_answer_too():
    both = sinusoids(network=Hostile)
    torch.manual_seed(12)  # what the caller's generator holds is not what a network draws from
    state = torch.get_rng_state()
    alone = sinusoids(network=Hostile, seeds=(5,))
    for name in ("amplitude", "error", "loss"):
        np.testing.assert_array_equal(getattr(both.runs[5], name), getattr(alone.runs[5], name))
    often = sinusoids(network=Hostile, seeds=(5,), record_every=1)
    np.testing.assert_array_equal(often.runs[5].loss[::10], alone.runs[5].loss)  # looking changes nothing
    assert torch.equal(state, torch.get_rng_state())


def test_autocast_of_the_caller_is_not_that_of_the_training():
    with torch.autocast("cpu", torch.bfloat16):
        found = sinusoids()
    assert same(found, whole("sinusoid_learning"))


@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_files_whose_runs_do_not_fit_are_refused(kind):
    found = whole(kind)
    name = next(iter(found._shapes()))
    short = dataclasses.replace(found.runs[3], **{name: getattr(found.runs[3], name)[:-1]})
    with pytest.raises(ValueError, match=f"expected `{name}` of seed 3 of shape"):
        dataclasses.replace(found, runs={3: short})


def test_records_before_a_divergence_stay():
    with pytest.warns(RuntimeWarning, match="the network of seed 3 is no number from step 10 on"):
        found = sinusoids(seeds=(3,), optimizer=functools.partial(torch.optim.SGD, lr=1e9))
    run = found.runs[3]
    assert np.isfinite(run.amplitude[0]).all() and np.isfinite(run.norms[0]).all() and not np.isfinite(run.loss[-1])
    assert np.isinf(found.first_hit(by="error")).all() and found.plot() is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frequencies": (1, 20)}, "below half of the 33 samples, got 1 to 20; take more `samples`"),
        ({"frequencies": (3, 1)}, "expected `frequencies` ascending"),
        ({"seeds": (1, 1)}, "at least one of `seeds`, each once"),
        ({"amplitudes": (1, 2)}, "expected 3 `amplitudes` or one"),
        ({"amplitudes": (1, -2, 1)}, "expected positive `amplitudes`"),
        ({"target": lambda z: np.sin(2 * np.pi * z)}, "a `target` that has all of `frequencies`, it has none of"),
        ({"target": lambda z: z[:3]}, "expected `target` to give 33 finite values of z"),
        ({"recipe": recipe(network=lambda _: nn.Linear(1, 2))}, "expected a network with one output per sample"),
        (
            {"recipe": recipe(network=lambda _: nn.Sequential(nn.Linear(1, 3), nn.Flatten(0)))},
            "expected one output for each of the 33 samples",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, message):
    given = {"frequencies": (1, 3, 5), "samples": 33, "seeds": (0,), "recipe": recipe(1)} | arguments
    with pytest.raises(ValueError, match=message):
        ff.training.sinusoid_learning(**given)


def test_recipes_are_checked():
    with pytest.raises(ValueError, match="expected `steps` from 1, got 0"):
        Recipe(steps=0)
    with pytest.raises(TypeError, match="expected `recipe` as fastfreq.training.Recipe, got dict"):
        ff.training.sinusoid_learning(recipe={"steps": 3})
    with pytest.raises(TypeError, match="expected `network` to make a torch module, got int"):
        sinusoids(network=lambda _: 3)
    with pytest.raises(TypeError, match="expected `network` as a function that makes one for each seed, got a Module"):
        Recipe(network=SMALL(1))
    with pytest.raises(ValueError, match="expected a `depth` from 2"):
        relu_network(1, depth=1)
    with pytest.raises(TypeError, match=r"expected `seeds` as a sequence such as \(0, 1, 2\), got 3"):
        sinusoids(seeds=3)
    assert [m.in_features for m in relu_network(5) if isinstance(m, nn.Linear)] == [5, 256, 256, 256, 256, 256]


# ---------------------------------------------------------------- single experiments
def test_amplitudes_and_norms_are_those_of_the_trained_network():
    found = sinusoids(seeds=(3,))
    network = make_network(recipe(), 1, 3)
    z, k = torch.arange(33) / 33, np.array([1, 3, 5])
    phase = _spectra.phases(3, 3)
    target = sum(torch.sin(2 * torch.pi * int(f) * z + p) for f, p in zip(k, phase, strict=True)).float()
    outputs = plainly(network, z[:, None], target, 20)
    spectrum = 2 / 33 * np.fft.rfft(outputs)[k]
    wanted = np.exp(1j * (phase - np.pi / 2))  # sin(a) has the coefficient exp(i (a - pi / 2))
    np.testing.assert_allclose(found.runs[3].amplitude[-1], np.abs(spectrum), atol=1e-4)
    np.testing.assert_allclose(found.runs[3].error[-1], np.abs(spectrum - wanted), atol=1e-4)
    first = [torch.linalg.matrix_norm(m.weight, 2).item() for m in network if isinstance(m, nn.Linear)]
    np.testing.assert_allclose(found.runs[3].norms[0], first, rtol=1e-5)
    np.testing.assert_array_equal(found.steps, [0, 10, 20])


def test_low_frequencies_come_first_at_equal_and_growing_amplitudes():
    network, adam = functools.partial(relu_network, depth=4, width=32), functools.partial(torch.optim.Adam, lr=6e-3)
    settings = recipe(steps=600, record_every=30, network=network, optimizer=adam)
    for amplitudes in (1.0, (0.5, 1.0, 1.5)):
        found = ff.training.sinusoid_learning((1, 3, 6), amplitudes=amplitudes, samples=33, seeds=(4,), recipe=settings)
        assert found.rank_correlation() == pytest.approx(1.0) and found.target_amplitudes == pytest.approx(amplitudes)
        assert found.first_hit()[0, 0] < 200 and found.amplitude_correlation(600).shape == (1,)
        assert found.mean_norms[-1].sum() > found.mean_norms[0].sum()


class Waves(nn.Module):
    """Amplitudes are its parameters."""

    def __init__(self, amplitudes, k):
        super().__init__()
        self.amplitudes, self.k = nn.Parameter(torch.tensor(amplitudes)), k

    def forward(self, z):
        return torch.sin(2 * torch.pi * z * torch.tensor(self.k)) @ self.amplitudes[:, None]


def test_robustness_of_a_network_whose_amplitudes_are_its_parameters():
    k, a = (1, 3, 5), np.array([4.0, 2.0, 1.0])
    network = Waves(a, k).train()
    found = ff.training.parameter_robustness(
        k, deltas=(0.0, 1.0, 3.0), directions=200, samples=33, seeds=(6,), networks=[network]
    )
    generator = streams.generator("perturbation", 6)
    v = np.stack([generator.standard_normal(3) for _ in range(200)])
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    for index, delta in enumerate((0.0, 1.0, 3.0)):
        ratios = np.abs(a + delta * v) / a
        np.testing.assert_allclose(found.runs[6].ratio[index], ratios.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(found.runs[6].deviation[index], ratios.std(axis=0), atol=1e-6)
    assert torch.equal(network.amplitudes, torch.tensor(a)) and network.training
    with pytest.raises(ValueError, match="expected `recipe` or trained `networks`, got both"):
        ff.training.parameter_robustness(k, samples=33, networks=[network], recipe=recipe())
    with pytest.raises(ValueError, match="expected one of the deltas"):
        found.rank_correlation(0.3)


@pytest.mark.parametrize("seed", [3, 5])
def test_every_network_along_a_curve_has_its_own_points_and_target(seed):
    """Before the first step all is known: the network of the seed at the points of each curve."""
    learnt, classes = whole("manifold_learning"), whole("manifold_classification")
    z, k = _spectra.uniform(33), np.array([1, 3, 5])
    phase, network = _spectra.phases(seed, 3), make_network(recipe(), 2, seed)
    target = sum(np.sin(2 * np.pi * f * z + p) for f, p in zip(k, phase, strict=True))
    for index, petals in enumerate((0, 3, 4)):
        outputs = network(torch.tensor(ff.training.petals(z, petals)).float()).detach().numpy()[:, 0]
        if petals < 4:
            spectrum = 2 / 33 * np.abs(np.fft.rfft(outputs)[k])
            np.testing.assert_allclose(learnt.runs[seed].amplitude[index, 0], spectrum, atol=1e-5)
            assert (
                learnt.late_loss[learnt.seeds.index(seed), index] == learnt.runs[seed].loss[index, -1]
            )  # of 3 records
            assert learnt.runs[seed].loss[index, 0] == pytest.approx(np.square(outputs - target).mean(), rel=1e-4)
        for row, f in enumerate((1, 3)):
            sign = np.sign(np.sin(2 * np.pi * f * z + phase[0]))
            run = classes.runs[seed]
            assert run.loss[row, index, 0] == pytest.approx(np.log1p(np.exp(-sign * outputs)).mean(), rel=1e-4)
            assert run.accuracy[row, index, 0] == pytest.approx((np.sign(outputs) == sign).mean())


def test_petals_and_their_distances():
    z = _spectra.uniform(41)
    np.testing.assert_allclose(np.hypot(*ff.training.petals(z, 0).T), 1, rtol=1e-15)
    r = np.hypot(*ff.training.petals(z, 3).T)
    np.testing.assert_allclose(r, 1 + 0.5 * np.sin(6 * np.pi * z), rtol=1e-12)
    with pytest.raises(ValueError, match="expected `manifold` to give 33 finite points"):
        ff.training.manifold_learning((0,), frequencies=(1,), samples=33, manifold=lambda z, _: z)


def test_label_noise_of_frequency_0_is_none_and_bytes_are_pixels():
    x, y = images()
    pixels = np.random.default_rng(2).integers(0, 256, (20, 3, 5), dtype=np.uint8)
    call = functools.partial(ff.training.label_noise, x, y, seeds=(1,), recipe=recipe())
    found = call(validation=(pixels, y[:20]), frequencies=(0, 0.3))
    again = call(validation=(pixels / 255, np.where(y[:20] == 3, 3, 8)), frequencies=(0,))
    np.testing.assert_array_equal(found.runs[1].validation_loss[0], again.runs[1].validation_loss[0])
    norm = np.sqrt((x.reshape(40, -1) ** 2).sum(axis=1))
    assert found.norms == pytest.approx((norm.mean(), norm.std()))
    targets = torch.tensor(np.where(y == 8, 1, -1) + np.sin(2 * np.pi * 0.3 * norm)).float()
    first = make_network(recipe(), 15, 1)(torch.tensor(x).float().flatten(1))[:, 0].detach()
    assert found.runs[1].training_loss[1, 0] == pytest.approx((first - targets).square().mean().item(), rel=1e-5)
    with pytest.raises(ValueError, match="expected labels of two classes"):
        call(validation=(pixels, np.arange(20)), frequencies=(0,))
    with pytest.raises(ValueError, match="expected validation images of 15 numbers each, got 14"):
        call(validation=(np.zeros((20, 14)), y[:20]), frequencies=(0,))


def test_kernel_and_its_coefficients():
    x, y = images()
    flat = x.reshape(40, -1)
    kernel = ff.training.rbf_kernel(flat, width=1.25)
    squares = scipy.spatial.distance.cdist(flat, flat, "sqeuclidean")
    np.testing.assert_allclose(kernel, np.exp(-squares / (2 * 1.25**2)), atol=1e-12)
    found = ff.training.kernel_learning(x, y, noise="none", per_bin=1, seeds=(2,), recipe=recipe(1))
    values, vectors = scipy.linalg.eigh(kernel)
    np.testing.assert_allclose(found.eigenvalues, values[::-1], atol=1e-10)
    targets = np.where(y == 8, 1.0, -1.0)
    np.testing.assert_allclose(found.runs[2].target, np.abs(vectors.T @ targets)[::-1], atol=1e-7)
    assert np.square(found.runs[2].target).sum() == pytest.approx(40)  # Parseval
    outputs = make_network(recipe(), 15, 2)(torch.tensor(flat).float())[:, 0].detach().numpy()
    error = np.abs(vectors.T @ (outputs - targets)) / np.abs(vectors.T @ targets)
    np.testing.assert_allclose(found.runs[2].error[0], error[::-1], rtol=1e-3)
    white = whole("kernel_learning").runs[3]
    noise = streams.generator("training_data", 3).uniform(-1, 1, 40)
    np.testing.assert_allclose(white.target[0], np.abs(vectors.T @ (targets + noise))[::-1][:7].mean(), rtol=1e-6)
    binned = ff.training.kernel_learning(x, y, noise="growing", per_bin=7, seeds=(2,), recipe=recipe(1))
    assert binned.bins.tolist() == [0, 7, 14, 21, 28, 40]
    with pytest.raises(ValueError, match="expected `kernel` to give a symmetric"):
        ff.training.kernel_learning(x, y, per_bin=7, kernel=lambda x: np.triu(np.ones((40, 40))))


def test_clipped_parameters_stay_within_and_the_target_is_flat():
    found = whole("delta_fit")
    assert found.varied == ("depth",) * 2 + ("width",) * 2 + ("clip",) * 2
    assert found.parameters.tolist() == [49, 321, 97, 321, 321, 321]
    np.testing.assert_array_equal(found.frequencies, np.arange(1, 8))
    made = recipe(network=functools.partial(relu_network, depth=2, width=16))
    target, z = np.zeros(15), torch.arange(15)[:, None] / 15
    target[7] = np.sqrt(15)
    plain = plainly(make_network(made, 1, 5), z, torch.tensor(target).float(), 20)
    np.testing.assert_allclose(found.runs[5].loss[0], np.square(plain - target).mean(), rtol=1e-3)
    ratio = np.abs(np.fft.rfft(plain)[1:8] / np.fft.rfft(target)[1:8])
    np.testing.assert_allclose(found.runs[5].amplitude[0], ratio, atol=1e-4)
    fit = _training.Fit(recipe(5), [SMALL(1)], np.zeros((4, 1)), np.ones((1, 4)), names="a", seeds=(1,), clip=0.05)
    largest = fit.run(lambda networks, _: {"w": np.array([float(p.abs().max()) for p in networks.parameters()])})[1][
        "w"
    ]
    assert largest.max() <= np.float32(0.05)
    np.testing.assert_allclose(np.abs(_spectra.waves(target, found.frequencies)), 2 / np.sqrt(15))
    with pytest.raises(ValueError, match="expected some of `depths`, `widths` and `clips`, got none"):
        ff.training.delta_fit((), widths=(), clips=())


def test_nearest_means_are_those_of_a_tree():
    generator = np.random.default_rng(3)
    x, y, places = generator.random((50, 2)), generator.standard_normal(50), generator.random((1500, 2))
    _, nearest = scipy.spatial.cKDTree(x).query(places, k=4)
    means = nearest_means(x, y, places, (1, 4))
    np.testing.assert_allclose(means, [y[nearest[:, 0]], y[nearest].mean(axis=1)], atol=1e-12)
    with pytest.raises(ValueError, match="expected a `grid` that resolves 100 points"):
        ff.training.neighbour_spectra(points=100, grid=20)


# ---------------------------------------------------------------- acceptance rows, with other seeds than the drafts'
@pytest.fixture
def no_subnormals():
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


@pytest.mark.slow
@pytest.mark.parametrize("amplitudes", [1.0, 0.1 * np.arange(1, 11)], ids=["equal", "growing"])
def test_ten_sinusoids_after_2000_steps(amplitudes, no_subnormals):
    found = ff.training.sinusoid_learning(amplitudes=amplitudes, seeds=(101, 102, 103), recipe=Recipe(steps=2000))
    assert (found.amplitude_correlation(2000) <= -0.85).all()
    for run in found.runs.values():
        assert run.amplitude[-1, 0] >= 0.9 and run.amplitude[-1, -1] <= 0.15


def reduced(steps, rate=1e-3, **more):
    network = functools.partial(relu_network, width=128)
    return Recipe(network=network, optimizer=functools.partial(torch.optim.Adam, lr=rate), steps=steps, **more)


@pytest.mark.slow
def test_low_frequencies_survive_perturbed_parameters(no_subnormals):
    schedule = functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=6000)
    found = ff.training.parameter_robustness(
        tuple(range(2, 17, 2)), deltas=(2, 3, 4), directions=60, samples=100, seeds=(104, 105),
        recipe=reduced(6000, schedule=schedule),
    )  # fmt: skip
    assert (found.rank_correlation(3) <= -0.85).all()


@pytest.mark.slow
def test_petals_help(no_subnormals):
    found = ff.training.manifold_learning(
        (0, 10), frequencies=tuple(range(10, 81, 10)), samples=500, seeds=(106, 107), recipe=reduced(2500)
    )
    assert (found.late_loss[:, 1] < 0.6 * found.late_loss[:, 0]).all()


@pytest.mark.slow
def test_low_noise_in_labels_ruins_high_noise_dips(no_subnormals):
    pytest.importorskip("sklearn")
    from fastfreq.demo import load_digits

    parts = [load_digits(split) for split in ("train", "test")]
    x, y = (torch.cat([part[i] for part in parts]) for i in (0, 1))
    y = (y >= 5).long()
    found = ff.training.label_noise(
        x[:1400], y[:1400], validation=(x[1400:], y[1400:]), frequencies=(0.05, 4), seeds=(108,),
        recipe=reduced(600, 3e-4),
    )  # fmt: skip
    assert found.least[0, 0] > 4 * found.least[0, 1] and found.last[0, 1] > 2 * found.least[0, 1]


# ---------------------------------------------------------------- interruptions
class StepLR(torch.optim.lr_scheduler.StepLR):
    """Halves a rate; interrupted like by Ctrl-C in the midst of a step, when weights have changed already."""

    at: int | None = None

    def step(self, *given):
        if self.last_epoch == StepLR.at:
            raise KeyboardInterrupt
        super().step(*given)


HALVED = functools.partial(StepLR, step_size=7)


@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_an_interrupted_training_goes_on_bit_for_bit(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(_checkpoint, "_KEEP_EVERY", 0.0)
    run = functools.partial(EXPERIMENTS[kind], schedule=HALVED, optimizer=functools.partial(torch.optim.Adam, lr=0.01))
    expected = run()
    monkeypatch.setattr(StepLR, "at", 14)
    with pytest.raises(KeyboardInterrupt) as caught:
        run(checkpoint=tmp_path / "kept")
    assert "step 10 is kept in" in caught.value.__notes__[0]
    monkeypatch.setattr(StepLR, "at", None)
    steps = []
    monkeypatch.setattr(_training.Fit, "_clip_parameters", lambda _: steps.append(1))
    if kind != "delta_fit":  # which clips
        assert same(run(checkpoint=tmp_path / "kept"), expected)
        assert len(steps) == 1 + 10  # of 20
    monkeypatch.undo()
    assert same(run(checkpoint=tmp_path / "kept"), expected)  # finished


def test_networks_that_draw_go_on_bit_for_bit(tmp_path, monkeypatch):
    """One by one, with dropout: the states of their generators are kept, too."""
    monkeypatch.setattr(_checkpoint, "_KEEP_EVERY", 0.0)

    def network(inputs):
        return nn.Sequential(nn.Linear(inputs, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, 1))

    expected = sinusoids(network=network, schedule=HALVED)
    monkeypatch.setattr(StepLR, "at", 14)
    with pytest.raises(KeyboardInterrupt):
        sinusoids(network=network, schedule=HALVED, checkpoint=tmp_path)
    monkeypatch.undo()
    assert same(sinusoids(network=network, schedule=HALVED, checkpoint=tmp_path), expected)


def test_another_training_has_another_checkpoint_and_a_damaged_one_is_named(tmp_path):
    sinusoids(checkpoint=tmp_path)
    first = set(tmp_path.glob("*.pt"))
    for changed in ({"seeds": (3,)}, {"steps": 21}, {"optimizer": functools.partial(torch.optim.Adam, lr=3.001e-3)}):
        sinusoids(checkpoint=tmp_path, **changed)
    assert len(first) == 1 and len(set(tmp_path.glob("*.pt"))) == 4
    own = first.pop()
    (set(tmp_path.glob("*.pt")) - {own}).pop().replace(own)
    with pytest.raises(ValueError, match=f"the checkpoint of this training .*{own.name} is another's"):
        sinusoids(checkpoint=tmp_path)
    own.write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match="expected a checkpoint of a training, .* cannot be read.*remove it"):
        sinusoids(checkpoint=tmp_path)
    with pytest.raises(OSError, match="exists|directory"):
        sinusoids(checkpoint=next(tmp_path.glob("*.pt")))
    with pytest.raises(TypeError, match="`checkpoint` as a folder, got int"):
        recipe(checkpoint=3)


def test_without_a_checkpoint_an_interruption_says_the_way_out(monkeypatch):
    monkeypatch.setattr(StepLR, "at", 3)
    with pytest.raises(KeyboardInterrupt) as caught:
        sinusoids(schedule=HALVED)
    assert "Recipe(checkpoint=FOLDER)" in caught.value.__notes__[0]
