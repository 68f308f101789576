"""What hostile but legal networks, functions, data and contexts do to `ff.training`: the same figures, or a refusal."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff
from fastfreq.training import _classified, _probes, filtering
from fastfreq.training.high_frequency_share import regularity
from tests.in_place import InPlace

T = ff.training
pytestmark = pytest.mark.usefixtures("one_thread")
X = torch.linspace(0, 1, 20)[:-1, None]
SMALL = functools.partial(T.Recipe, steps=4, record_every=1)
PROJECTION = T.Projection(frequencies=[1.0])


def net(inputs=1, width=6):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, 1)).eval()


def in_both(run):
    """Of a network that works in place, and of its twin."""
    return (run(InPlace(net(), in_place).eval()) for in_place in (False, True))


# ---------------------------------------------------------------- networks
def test_tangent_kernels_of_networks_that_work_in_place():
    plain, other = in_both(lambda n: T.tangent_kernel_decay(n, X.clone(), frequencies=[1, 2], eigenvalues=2))
    assert plain.table() == other.table() and plain.eigenvalues.tolist() == other.eigenvalues.tolist()


def test_perturbed_networks_that_work_in_place_and_autocast():
    robustness = functools.partial(T.parameter_robustness, (1, 2), deltas=(0.5,), directions=5, samples=16)
    plain, other = in_both(lambda n: robustness(networks=[n]))
    with torch.autocast("cpu", torch.bfloat16):
        again = robustness(networks=[InPlace(net(), False)])
    assert plain.mean_ratio.tolist() == other.mean_ratio.tolist() == again.mean_ratio.tolist()
    with pytest.raises(ValueError, match="one type of floats, got .'torch.complex64'."):
        robustness(networks=[nn.Linear(1, 1, dtype=torch.complex64)])


def test_networks_that_a_factory_gives_again_are_each_their_own():
    """A module, or a part of one, that is outside the factory: trained by every seed, and not the caller's any more."""
    outside = net(width=8)
    before = copy.deepcopy(outside.state_dict())

    def whole(inputs):
        return outside

    def part(inputs):
        return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), outside[2])

    for network in (whole, part):
        run = functools.partial(T.sinusoid_learning, (1, 2), samples=16, recipe=SMALL(network=network))
        assert run(seeds=(0, 1)).runs[1].loss.tolist() == run(seeds=(1,)).runs[1].loss.tolist()
    assert all(torch.equal(before[name], value) for name, value in outside.state_dict().items())


@pytest.mark.parametrize("where", ["layer", "whole"])
def test_forwards_of_their_own_are_no_weights(where):
    relu = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1))
    nn.init.uniform_(relu[0].bias, -9, 9)
    (relu if where == "whole" else relu[0]).forward = lambda z: z.repeat(1, 4)
    with pytest.raises(ValueError, match="the forward of their class"):
        T.relu_transform(relu, [1.0], window=(0, 1))
    with pytest.raises(TypeError, match="a forward of its own"):
        T.LFPKernel.of_network(relu, inputs=[0.1, 0.2])


def test_complex_weights_and_frequency_zero_of_exact_transforms():
    with pytest.raises(ValueError, match="expected real weights"):
        T.relu_transform(nn.Linear(1, 1, dtype=torch.complex64), [1.0], window=(0, 1))
    relu = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1))
    facets = T.relu_transform(relu, [0.0, 1.0], window=(-3, 3)).facets
    assert np.isnan(facets[0]).all() and np.isfinite(facets[1]).all()


def test_outputs_that_are_no_numbers_are_no_accuracy():
    logits = torch.tensor([[[1.0, 2.0], [2.0, 1.0]], [[1.0, 2.0], [torch.nan, 1.0]]])
    found = _classified.accuracies(logits, torch.tensor([1, 1]))
    assert found[0] == 0.5 and found[1].isnan()
    images, labels = np.random.default_rng(0).random((12, 5)) * 3e38, np.arange(12) % 2  # products overflow, both ways
    train = functools.partial(T.single_layer_training, depth=3, width=4, epochs=1)
    with pytest.warns(RuntimeWarning, match="of seed 0 at variance 100 are no numbers from epoch 0 on"):
        assert np.isnan(train(images, labels, test=(images, labels), variances=(100.0,)).accuracy()).all()


# ---------------------------------------------------------------- functions of the caller's
def test_functions_that_write_over_what_they_are_given():
    def doubled(points):
        points *= 2
        return np.sin(points)

    share = functools.partial(T.high_frequency_share, net(), size=128, cutoffs=(0.5,))
    assert share(doubled).loss.tolist() == share(lambda p: np.sin(2 * p)).loss.tolist()


def test_responses_are_told_apart_and_are_tensors_of_real_numbers():
    def scaled(by):
        return lambda outputs: outputs * by

    def named(function):
        return _probes._response(function, False)[1]

    names = [named(f) for f in (scaled(1.0), scaled(2.0), functools.partial(torch.softmax, dim=1))]
    names += [named(functools.partial(torch.softmax, dim=0)), named(nn.Softmax(dim=0)), named(nn.Softmax(dim=1))]
    assert len(set(names)) == len(names) and named(scaled(1.0)) == names[0]
    for response, got in ((lambda o: torch.complex(o, o), "torch.complex64"), (lambda o: o.numpy(), "ndarray")):
        tracker = ff.FrequencyTracker(X, torch.sin(6.28 * X), measures=PROJECTION, response=response)
        with pytest.raises(TypeError, match=f"tensor of real numbers from `response`, got {got}"):
            tracker.step(net(), 0)


def test_kernels_and_curves_from_torch_and_complex_ones():
    images, labels = np.random.default_rng(0).random((12, 3)), np.arange(12) % 2
    learning = functools.partial(T.kernel_learning, images, labels, per_bin=3, recipe=SMALL())
    assert learning(kernel=lambda x: torch.eye(12).requires_grad_()).eigenvalues.tolist() == [1.0] * 12
    with pytest.raises(TypeError, match="`kernel` as an array of real numbers"):
        learning(kernel=lambda x: 1j * np.eye(12))
    with pytest.raises(TypeError, match="`manifold` as an array of real numbers"):
        T.manifold_learning((0,), frequencies=(1,), samples=16, manifold=lambda z, _: 1j * z[:, None], recipe=SMALL())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"optimizer": lambda _: 3}, "`optimizer` to make an optimizer of torch, got int"),
        ({"schedule": torch.optim.lr_scheduler.ReduceLROnPlateau}, "by steps alone, got ReduceLROnPlateau"),
    ],
)
def test_what_recipes_make_is_named(words, said):
    with pytest.raises(TypeError, match=said):
        T.sinusoid_learning((1,), samples=16, recipe=SMALL(**words))


# ---------------------------------------------------------------- data
@pytest.mark.parametrize(("d", "apart"), [(2, 1e7), (100, 1e4)])
def test_distances_of_near_probes_far_from_others(d, apart):
    """Two clusters: |x|^2 + |y|^2 - 2 x y had lost the distances inside each, |x|^2 alone being 1e8 times as large."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((40, d))
    points[20:] += apart / np.sqrt(d)
    points[3] = points[2]
    expected = np.square(points[:, None] - points[None]).sum(axis=2)
    found = filtering.squared_distances(torch.from_numpy(points)).numpy()
    np.testing.assert_allclose(found, expected, rtol=2e-3 if d > 64 else 1e-6)
    assert found[2, 3] == 0 and (found == found.T).all()


def test_kernels_of_samples_far_from_zero():
    samples = np.random.default_rng(0).random((6, 3))
    np.testing.assert_allclose(T.rbf_kernel(samples + 1e8), T.rbf_kernel(samples), atol=1e-6)


def test_images_of_bfloat16_and_too_large_for_float32():
    images, labels = torch.rand(12, 3), torch.arange(12) % 2
    train = functools.partial(T.single_layer_training, depth=3, width=4, epochs=1, variances=(1.0,))
    half = images.bfloat16()
    found, expected = (train(x, labels, test=(x, labels)).table() for x in (half, half.float()))
    assert found == expected
    with pytest.raises(ValueError, match="`images` of numbers that float32 holds, got some up to"):
        train(images.double() * 1e300, labels, test=(images, labels))


def test_labels_of_one_class_have_no_spectrum():
    found = T.neighbour_spectra((1,), points=1, grid=16, recipe=SMALL())
    assert np.isnan(found.exponents()[1]).all() and np.isfinite(found.exponents()[0]).all()


def test_a_watch_has_a_file_of_its_own(tmp_path):
    tracker = ff.FrequencyTracker(X, torch.sin(6.28 * X), measures=PROJECTION, path=tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"a file of its own for each watch, .*a.npz is taken"):
        tracker.watch("norm", lambda n: {"norm": 1.0}, path=tmp_path / "a.npz")
    assert tracker.watch("layer/1", lambda n: {"norm": 1.0}).path == tmp_path / "a-layer-1.npz"
    with pytest.raises(ValueError, match=r"a-layer-1.npz is taken"):
        tracker.watch("layer-1", lambda n: {"norm": 1.0})


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: T.ExactDFT(grid=(-4, -4)), ValueError, r"`grid` as points along each axis, from 1, got \(-4, -4\)"),
        (
            lambda: ff.FrequencyTracker(X[:3], torch.tensor([0, 1, 2**45]), measures=PROJECTION),
            ValueError,
            "classes that are few enough for a column each, got some up to 35184372088832",
        ),
        (lambda: T.LFPKernel(3, 1.0, 1.0).gamma_l2(cutoff=1), ValueError, "above the square root of 3 dimensions"),
        (
            lambda: T.linear_frequency_principle(
                [0, 0.3, 1], [1, 2, 0], points=[0.5], kernel=T.LFPKernel(1, 1.0, 1.0), method="lattice", cutoff=2.5
            ),
            TypeError,
            "`cutoff` as an integer, got 2.5",
        ),
        (
            lambda: T.linear_frequency_principle([0.0], [1.0], points=[0.5], kernel=3),
            TypeError,
            "`kernel` as an LFPKernel, got int",
        ),
        (
            lambda: T.torus_flow(np.ones(16), transform=np.ones(16), times=[0], order=400),
            ValueError,
            "whose rates float64 holds, got order 400",
        ),
        (lambda: T.TwoLayerReLU(10).fit([0, 1, 2], [1, 2]), ValueError, r"finite `targets` of shape \(3,\)"),
        (lambda: T.TwoLayerReLU(10).fit([0, 1], [1, np.nan]), ValueError, "finite `targets`"),
        (
            lambda: T.high_frequency_share(net(), np.sin, size=128, cutoffs=(0.5,), deviation=1e300),
            ValueError,
            "`deviation` above 0 and below 1e99",
        ),
    ],
)
def test_refusals(call, error, said):
    with pytest.raises(error, match=said):
        call()


def test_sums_over_lattices_are_bounded_from_above():
    kernel = T.LFPKernel(2, 1.0, 1.0)
    k = np.stack(np.meshgrid(*[np.arange(-200, 201)] * 2), axis=-1).reshape(-1, 2)
    least = float(np.sqrt(kernel.gamma_squared(k[k.any(axis=1)]).sum()))
    assert all(least < kernel.gamma_l2(cutoff=cutoff) for cutoff in (2, 3, 8, 64))
    assert kernel.gamma_l2(cutoff=64) < 1.05 * least


def test_all_eigenvalues_of_a_kernel_that_has_each_twice():
    model = nn.Linear(2, 2).double().eval()
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 2)))
    single = np.linalg.eigvalsh((x @ x.T + 1).numpy() / 5)[::-1]
    found = T.tangent_kernel_decay(model, x, frequencies=[[1.0, 0.0]], eigenvalues=10)
    np.testing.assert_allclose(found.eigenvalues, np.repeat(single, 2), atol=1e-12)
    assert found.eigen_error.max() < 1e-12


def test_measurements_that_train_leave_the_network_as_it_was():
    model = nn.Sequential(nn.Linear(1, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).train()
    before = copy.deepcopy(model.state_dict())

    def trained(network):
        network.train()
        network(X).sum().backward()
        return {"gradient": float(network[0].weight.grad.norm())}

    tracker = ff.FrequencyTracker(X, torch.sin(6.28 * X), measures=PROJECTION)
    tracker.watch("trained", trained)
    tracker.step(model, 0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training and model[0].weight.grad is None


class Alone(nn.Module):
    """A network that is no chain, and so trained by itself."""

    def __init__(self, chain):
        super().__init__()
        self.chain = chain

    def forward(self, x):
        return self.chain(x)


def tied(inputs):
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    second.weight = first.weight
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), first, nn.Tanh(), second, nn.Linear(8, 1))


def decaying_weights(parameters):
    """No decay of biases, which are told by their number of axes."""
    groups = {True: [], False: []}
    for parameter in parameters:
        groups[parameter.ndim > 1].append(parameter)
    given = [{"params": groups[True], "weight_decay": 5.0}, {"params": groups[False], "weight_decay": 0.0}]
    return torch.optim.AdamW(given, lr=1e-2)


def by_size(parameters):
    return torch.optim.SGD([{"params": [p], "lr": 0.1 / p.numel()} for p in parameters], lr=0.1)


def clipped(parameters):
    found = torch.optim.SGD(parameters, lr=0.5)

    def clip(optimizer, *_):
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 0.01)

    found.register_step_pre_hook(clip)
    return found


@pytest.mark.parametrize(
    "words",
    [{"network": tied}, {"optimizer": decaying_weights}, {"optimizer": by_size}, {"optimizer": clipped}],
    ids=["tied weights", "groups by axes", "rates by size", "clipped by norm"],
)
def test_networks_beside_each_other_are_trained_as_alone(words):
    network = words.get("network", functools.partial(T.relu_network, depth=3, width=8))
    run = functools.partial(T.sinusoid_learning, (1, 2), samples=16, seeds=(0, 1))
    together, alone = (
        run(recipe=T.Recipe(steps=20, record_every=5, **{**words, "network": made}))
        for made in (network, lambda inputs: Alone(network(inputs)))
    )
    for seed in (0, 1):
        np.testing.assert_allclose(together.runs[seed].loss, alone.runs[seed].loss, atol=1e-6)


def test_weights_with_hooks_and_of_several_types_are_refused():
    def hooked(inputs):
        network = T.relu_network(inputs, depth=2, width=4)
        network[0].weight.register_hook(lambda gradient: 0 * gradient)
        return network

    kinds = iter((torch.float32, torch.float64))
    for network, said in (
        (hooked, "without hooks of their own, which no copy has, .'0.weight'"),
        (lambda n: nn.Linear(n, 1, dtype=next(kinds)), "networks of one type, the factory gave .'torch.float32'"),
    ):
        with pytest.raises(ValueError, match=said):
            T.sinusoid_learning((1,), samples=16, seeds=(0, 1), recipe=SMALL(network=network))


def test_regularity_is_that_of_the_settings_too():
    """ELU's slope jumps from alpha to 1, Softplus to x at its threshold; hooks may do anything."""
    hooked = nn.Sequential(nn.Linear(1, 2), nn.Tanh())
    hooked[1].register_forward_hook(lambda *_: None)
    orders = [regularity(m) for m in (nn.ELU(), nn.ELU(0.5), nn.Softplus(), nn.Softplus(threshold=3), hooked)]
    np.testing.assert_equal(orders, [2, 1, np.inf, 0, np.nan])
    share = T.high_frequency_share(
        nn.Sequential(nn.Linear(1, 30), nn.ELU(0.3), nn.Linear(30, 1)), np.sin, size=2048, cutoffs=(2, 3, 4, 6, 8)
    )
    assert share.guaranteed == 1 and share.decay() in ("power law", "unclear") and share.exponent() < 4
