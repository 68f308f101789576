"""`ff.filters` against impulses pushed through networks, planted Gabor functions and wavelets written out."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

import fastfreq as ff
from fastfreq.features import fit_gabors, nearest_wavelets
from fastfreq.features.gabor import Gabors, _gabor
from fastfreq.features.linear_parts import Compositions

SIDES = (29, 38)
pytestmark = pytest.mark.usefixtures("one_thread")


# ---------------------------------------------------------------- compositions
class Branches(nn.Module):
    """Strides, groups, dilation, a sum of two ways, pooling by means, and a weight that an activation makes."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(2, 6, (4, 3), stride=(2, 1), padding=2, padding_mode="circular")
        self.norm = nn.BatchNorm2d(6)
        self.b = nn.Conv2d(6, 6, 3, padding="same", groups=2, dilation=(1, 2))
        self.pool = nn.AvgPool2d(2, padding=1)
        self.c = nn.Conv2d(6, 4, (1, 3), bias=False)
        self.positive = nn.Parameter(torch.randn(6, 6, 1, 1))

    def forward(self, x):
        x = self.norm(self.a(x))
        x = nn.functional.conv2d(x, nn.functional.softplus(self.positive)) + self.b(x)
        return self.c(self.pool(x))


def linear_network(seed=0):
    torch.manual_seed(seed)
    net = Branches().eval()
    nn.init.uniform_(net.norm.running_var, 0.5, 2)
    nn.init.normal_(net.norm.running_mean)
    return net


def impulse_responses(net, layer, sides, channels):
    """(channels of the layer, c, h, w) what each pixel alone does to the middle of the layer's output."""
    net = net.double()
    seen = []
    hook = net.get_submodule(layer).register_forward_hook(lambda *a: seen.append(a[2]))
    pixels = torch.eye(channels * sides[0] * sides[1], dtype=torch.float64).view(-1, channels, *sides)
    with torch.no_grad():
        net(torch.cat([torch.zeros(1, channels, *sides, dtype=torch.float64), pixels]))
    hook.remove()
    (y,) = seen
    middle = y[:, :, y.shape[2] // 2, y.shape[3] // 2]
    return (middle[1:] - middle[0]).T.reshape(-1, channels, *sides).numpy()


@pytest.mark.parametrize("layer", ["a", "b", "c"])
def test_compositions_are_what_impulses_do_to_the_network(layer):
    net = linear_network()
    compositions = Compositions(net, (2, *SIDES), largest=64)
    compositions.prepare([layer])
    found = compositions.of(layer, 99)
    expected = impulse_responses(net, layer, SIDES, 2)
    rows, columns = (np.flatnonzero(np.abs(expected).sum(axis=(0, 1, 2 + (1 - axis))) > 0) for axis in (0, 1))
    inside = np.ix_(
        range(len(expected)), range(2), np.arange(rows[0], rows[-1] + 1), np.arange(columns[0], columns[-1] + 1)
    )
    np.testing.assert_allclose(found.filters, expected[inside], rtol=0, atol=1e-12 * np.abs(expected).max())
    assert found.stride == {"a": (2, 1), "b": (2, 1), "c": (4, 2)}[layer] and found.ignored == ()


def test_a_second_layer_is_the_combination_of_first_layer_filters_that_lee_et_al_draw():
    """V_k = sum_j (W2_kj with zeros between) * W1_j, full: SciPy's convolution; ReLU and maxima are left out."""
    from scipy.signal import correlate2d

    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1), nn.Conv2d(3, 2, 4), nn.Flatten()
    )
    first, second = (net[i].weight.detach().double().numpy() for i in (0, 3))
    spread = np.zeros((2, 3, 7, 7))
    spread[:, :, ::2, ::2] = second
    expected = sum(np.stack([correlate2d(spread[k, j], first[j, 0, ::-1, ::-1]) for k in range(2)]) for j in range(3))
    found = ff.filters(net, input_size=(1, 31, 34))["3"]
    np.testing.assert_allclose(found.filters[:, 0], expected, rtol=0, atol=1e-12)
    assert found.ignored == ("1 x max_pool2d", "1 x relu") and found.stride == (2, 2)


def test_a_first_layer_has_its_weights_and_half_weights_do(make_net):
    net = make_net().half()
    found = ff.filters(net, input_size=(3, 11, 14))
    np.testing.assert_array_equal(found["stem"].filters, net.stem.weight.detach().double().numpy())
    assert found.execution == ("stem", "body") and found["body"].ignored == ("1 x relu",)
    assert np.isnan(found["stem"].gabors.frequency).all() and "too small" in found.headline()


def test_a_layer_that_runs_again_has_the_filters_of_each_use():
    """The second use sees through the first: the full correlation of both, which SciPy writes out."""
    from scipy.signal import correlate2d

    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)

        def forward(self, x):
            return torch.relu(self.conv(torch.relu(self.conv(x)))).mean(dim=(2, 3))

    torch.manual_seed(3)
    net = Again()
    weight = net.conv.weight[0, 0].detach().double().numpy()
    for words in ({}, {"layers": ["conv"]}):
        found = ff.filters(net, input_size=(1, 21, 24), wavelets=(), **words)
        assert list(found.layers) == ["conv", "conv (use 2)"] == list(found.execution)
        np.testing.assert_allclose(found["conv"].filters[0, 0], weight, rtol=0, atol=1e-14)
        twice = correlate2d(weight, weight[::-1, ::-1])
        np.testing.assert_allclose(found["conv (use 2)"].filters[0, 0], twice, rtol=0, atol=1e-12)
        assert found["conv"].ignored == () and found["conv (use 2)"].ignored == ("1 x relu",)
    assert list(ff.filters(net, input_size=(1, 21, 24), layers=["conv (use 2)"]).layers) == ["conv (use 2)"]
    small = ff.filters(net, input_size=(1, 21, 24), layers=["conv"], largest=4)
    assert list(small.layers) == ["conv"] and small.skipped[0][0] == "conv (use 2)"
    with pytest.raises(ValueError, match=r"layer 'conv \(use 2\)': sees 5 x 5 pixels, more than"):
        ff.filters(net, input_size=(1, 21, 24), layers=["conv (use 2)"], largest=4)


class Gated(nn.Module):
    """What follows the first layer is refused for another reason each."""

    def __init__(self, how):
        super().__init__()
        self.first, self.how, self.second = nn.Conv2d(1, 4, 3, padding=1), how, nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        x = self.first(x)
        if self.how == "gate":
            x = x * torch.sigmoid(x)
        elif self.how == "softmax":
            x = x.softmax(dim=1)
        elif self.how == "norm":
            x = nn.functional.group_norm(x, 2)
        elif self.how == "everywhere":
            x = x + x.mean(dim=(2, 3), keepdim=True)
        elif self.how == "place":
            x = x * torch.linspace(0, 1, x.shape[-1], dtype=x.dtype)
        elif self.how == "detached":
            x = x.detach()
        return self.second(x).flatten(1)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("gate", "neither linear"),
        ("softmax", "neither linear"),
        ("norm", "neither linear"),
        ("everywhere", "beyond the borders"),
        ("place", "not a filter"),
        ("detached", "cut off"),
    ],
)
def test_what_is_no_filter_is_left_out_with_the_reason(how, why):
    torch.manual_seed(0)
    found = ff.filters(Gated(how), input_size=(1, 21, 24))
    assert list(found.layers) == ["first"]
    ((name, reason),) = found.skipped
    assert name == "second" and why in reason
    with pytest.raises(ValueError, match=f"layer 'second'.*{why}"):
        ff.filters(Gated(how), input_size=(1, 21, 24), layers=["second"])
    with pytest.raises(KeyError, match="was skipped"):
        found["second"]


def test_filters_that_padding_would_cut_or_that_are_too_large_are_left_out():
    layers = [nn.Conv2d(1 if i == 0 else 2, 2, 5, padding=2) for i in range(4)]
    net = nn.Sequential(*layers)
    found = ff.filters(net, input_size=(1, 15, 16), largest=12)
    assert [layer.size for layer in found.layers.values()] == [(5, 5), (9, 9)]
    assert "sees 13 x 13 pixels, more than" in found.skipped[0][1]
    found = ff.filters(net, input_size=(1, 15, 16), largest=40)
    assert list(found.layers) == ["0", "1", "2"] and "beyond the borders of 15 x 16" in found.skipped[0][1]
    dilated = nn.Sequential(nn.Conv2d(1, 2, 3, dilation=6, padding=6), nn.Conv2d(2, 2, 1))  # gaps at the border
    assert ff.filters(dilated, input_size=(1, 9, 30)).layers == {}


def test_arguments_are_refused(make_net):
    for words, message in (
        ({"layers": ["sten"]}, "did you mean stem"),
        ({"layers": ["head"]}, "expected `layers` among"),
        ({"units": 0}, "`units` and `largest` from 1"),
        ({"input_size": (3, 11)}, r"\(c, h, w\)"),
        ({"input_size": (4, 11, 14)}, "pass the `input_size`"),
        ({"wavelets": ["nonsense"]}, "discrete wavelet"),
    ):
        with pytest.raises(ValueError, match=message):
            ff.filters(make_net(), **{"input_size": (3, 11, 14), **words})
    with pytest.raises(ValueError, match="two-dimensional convolutions"):
        ff.filters(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), input_size=(3, 2, 2))


def test_models_as_people_have_them_give_the_same(make_net):
    net = make_net()
    expected = ff.filters(net, input_size=(3, 11, 14))

    def same(found):
        for a, b in zip(found.layers.values(), expected.layers.values(), strict=True):
            np.testing.assert_allclose(a.filters, b.filters, rtol=0, atol=1e-14)

    same(ff.filters(net.train(), input_size=(3, 11, 14)))
    assert net.training
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        same(ff.filters(net, input_size=(3, 11, 14)))
    same(ff.filters(nn.DataParallel(net), input_size=(3, 11, 14)))
    same(ff.filters(make_net().to(memory_format=torch.channels_last), input_size=(3, 11, 14)))
    net.stem.weight.data[0, 0, 0, 0] = torch.nan
    assert [reason for _, reason in ff.filters(net, input_size=(3, 11, 14)).skipped] == [
        "weights before it, or its own, are NaN or infinite"
    ] * 2


# ---------------------------------------------------------------- Gabor functions
def planted(side, count, seed):
    """Gabor functions whose wave and envelope a pattern of this side holds."""
    rng = np.random.default_rng(seed)
    frequency = rng.uniform(0.12, 0.35, count)
    along = np.maximum(rng.uniform(0.14, 0.2, count) * side, 0.4 / frequency)
    return Gabors(
        orientation=rng.uniform(0, 180, count),
        frequency=frequency,
        centre=(side - 1) / 2 + rng.uniform(-1.5, 1.5, (count, 2)),
        reach=np.stack([along, along * rng.uniform(0.8, 1.4, count)], axis=1),
        amplitude=rng.uniform(0.1, 10, count),
        phase=rng.uniform(-np.pi, np.pi, count),
        residual=np.zeros(count),
    )


def errors(found, true):
    """Degrees, and shares of the frequency."""
    return np.abs((found.orientation - true.orientation + 90) % 180 - 90), np.abs(found.frequency / true.frequency - 1)


def test_gabor_functions_are_found_exactly():
    true = planted(11, 60, seed=3)
    patterns = true.drawn((11, 13))
    found = fit_gabors(patterns)
    np.testing.assert_allclose(found.drawn((11, 13)), patterns, rtol=0, atol=1e-8 * np.abs(patterns).max())
    for name in ("orientation", "frequency", "centre", "reach", "amplitude", "bandwidth"):
        np.testing.assert_allclose(getattr(found, name), getattr(true, name), rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("side", [21, 31])
def test_planted_gabor_functions_are_found_under_noise(side):
    """To a degree and a hundredth of the frequency, at noise of a twentieth of the amplitude."""
    true = planted(side, 100, seed=side)
    noise = np.random.default_rng(4).standard_normal((100, side, side))
    degrees, shares = errors(fit_gabors(true.drawn((side, side)) + 0.05 * true.amplitude[:, None, None] * noise), true)
    assert degrees.max() < 1 and shares.max() < 0.01


@pytest.mark.parametrize("side", [11, 15, 21])
def test_no_unbiased_fit_could_be_closer(side):
    """Errors are those of Cramer's and Rao's bound, by the derivatives of the function itself; so are the shares of
    patterns found to a degree and a hundredth of the frequency, and far from all of small ones, at this noise.
    """
    count, level = 400, 0.05
    true = planted(side, count, seed=5)
    true = dataclasses.replace(true, amplitude=np.ones(count))
    patterns = true.drawn((side, side)) + level * np.random.default_rng(6).standard_normal((count, side, side))
    degrees, shares = errors(fit_gabors(patterns), true)
    angle = np.deg2rad(true.orientation)
    along, across = (
        np.stack(each, axis=1) for each in ((np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle)))
    )
    linear = [np.cos(true.phase), -np.sin(true.phase)]
    k = true.frequency[:, None] * along
    parameters = np.column_stack([true.centre[:, ::-1], k, np.log(true.reach), *linear])
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    places = torch.stack([x.reshape(-1), y.reshape(-1)]).double()
    values, jacobian = _gabor(torch.from_numpy(parameters), places)
    drawn = true.drawn((side, side))
    np.testing.assert_allclose(values.numpy().reshape(drawn.shape), drawn, atol=1e-12)
    numeric = torch.autograd.functional.jacobian(
        lambda p: _gabor(p[None], places)[0][0], torch.from_numpy(parameters)[7]
    )
    np.testing.assert_allclose(jacobian[7].numpy(), numeric.numpy(), atol=1e-12)
    covariance = np.linalg.inv((jacobian.transpose(1, 2) @ jacobian).numpy()) * level**2
    bounds = [np.sqrt(np.einsum("ui,uij,uj->u", unit, covariance[:, 2:4, 2:4], unit)) for unit in (along, across)]
    of_share, of_degrees = bounds[0] / true.frequency, np.rad2deg(bounds[1] / true.frequency)
    for found, bound, limit in ((shares, of_share, 0.01), (degrees, of_degrees, 1.0)):
        typical = np.sqrt(np.median(np.square(found / bound)) / scipy.stats.chi2.ppf(0.5, 1))
        assert 0.9 < typical < 1.1
        within = np.array([math.erf(limit / each / math.sqrt(2)) for each in bound])  # of normal errors as large
        spread = math.sqrt((within * (1 - within)).sum())
        assert abs((found < limit).sum() - within.sum()) < 4 * spread + 1


def test_patterns_that_are_no_gabor_functions_say_so():
    rng = np.random.default_rng(0)
    found = fit_gabors(np.stack([rng.standard_normal((9, 9)), np.zeros((9, 9)), np.ones((9, 9))]))
    assert found.residual[0] > 0.3 and np.isnan(found.frequency[1]) and np.isinf(found.bandwidth[2])
    assert np.isnan(fit_gabors(np.ones((2, 4, 9))).residual).all() and fit_gabors(
        np.ones((0, 9, 9))
    ).residual.shape == (0,)


# ---------------------------------------------------------------- wavelets
@pytest.mark.parametrize(("name", "level"), [("db2", 1), ("db4", 2), ("sym4", 1), ("haar", 3), ("coif1", 2)])
def test_wavelets_of_pywavelets_are_recognised(name, level):
    """PyWavelets' own synthesis of one coefficient, turned, moved and scaled."""
    pywt = pytest.importorskip("pywt")
    coefficients = pywt.wavedec2(np.zeros((64, 64)), name, mode="periodization", level=level)
    side = coefficients[1][0].shape[0]
    patterns = []
    for band in range(3):
        details = [np.zeros((side, side)) for _ in range(3)]
        details[band][side // 2, side // 2] = -2.5
        coefficients[1] = tuple(details)
        patterns.append(np.rot90(pywt.waverec2(coefficients, name, mode="periodization"), 2))
    found = nearest_wavelets(np.stack(patterns), wavelets=("haar", "db2", "db4", "sym4", "coif1"))
    assert found.names == tuple(f"{name} {level} {kind}" for kind in ("rows", "columns", "diagonal"))
    assert found.residual.max() < 1e-12


# ---------------------------------------------------------------- figures of a layer
def test_statistics_of_a_layer_whose_filters_are_known():
    """Upright grey waves of a known frequency, one filter of one colour, one of noise, one of zeros."""
    x = np.arange(11) - 5.0
    wave = np.exp(-(x[:, None] ** 2 + x**2) / 12) * np.cos(2 * np.pi * 0.25 * x)
    net = nn.Sequential(nn.Conv2d(3, 4, 11))
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].weight[0] = torch.from_numpy(wave)
        net[0].weight[1, 1] = torch.from_numpy(wave.T)
        net[0].weight[2] = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 11, 11)))
    layer = ff.filters(net, input_size=(3, 40, 40))["0"]
    np.testing.assert_allclose((layer.gabors.orientation[:2] + 45) % 180, [45, 135], atol=1e-3)
    np.testing.assert_allclose(layer.gabors.frequency[:2], 0.25, atol=1e-5)
    np.testing.assert_allclose(layer.peaks()[0][:2], 0.25, atol=1 / 44)
    np.testing.assert_allclose(layer.colour, [0, 2 / 3, layer.colour[2], np.nan], atol=1e-6)
    np.testing.assert_allclose(layer.pattern_share[:2], 1, atol=1e-9)
    assert layer.gabor_residual[2] > 0.5 and np.isnan(layer.gabor_residual[3])
    assert layer.wavelets[3] == "" and layer.row("x")["gabor_like"] == 0.5


def test_real_networks_have_gabor_functions_in_their_first_layer(shared_data):
    import sys

    from safetensors.torch import load_file

    sys.path.insert(0, str(shared_data))
    try:
        import imagenet_nets
    finally:
        sys.path.pop(0)
    net = imagenet_nets.resnet18().eval()
    weights = load_file(shared_data / "weights" / "imagenet_resnet18_ktb_large.safetensors")
    net.load_state_dict({name: value.float() for name, value in weights.items()})
    found = ff.filters(net, input_size=(3, 224, 224), layers=["conv1"])
    assert found.table()[0]["gabor_like"] > 0.7 and 1 < found.table()[0]["bandwidth"] < 2
