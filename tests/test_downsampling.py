"""Where to down-sample: band-limited layers are found and lose nothing, losses against the definition, accuracies."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff
from fastfreq.layers._coarse import CoarseConv, interpolation, multiply_adds
from fastfreq.layers.downsampling import smallest_grid
from fastfreq.layers.downsampling_result import Downsampling
from fastfreq.vocabulary.statistics import wilson

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("n", "stride"), [(12, 2), (12, 3), (15, 3), (10, 5), (9, 2), (7, 4), (5, 5)])
def test_interpolation_is_exact_below_half_a_cycle_per_sample(n, stride):
    m = -(-n // stride)
    matrix, period = interpolation(n, stride), stride * m
    np.testing.assert_allclose(matrix[::stride], np.eye(m), atol=1e-12)
    for k in range((m + 1) // 2):
        wave = np.cos(2 * np.pi * k * np.arange(n) / period + 0.3)
        np.testing.assert_allclose(matrix @ wave[::stride], wave, atol=1e-12)


def test_smallest_grid_by_hand():
    power = np.zeros((6, 9))
    power[0, 0], power[0, 2], power[0, 7], power[1, 0] = 90, 4, 4, 2
    assert smallest_grid(power, 0.85) == (1, 1)
    assert smallest_grid(power, 0.98) == (4, 5)  # column frequency 2 needs 5 pixels
    assert smallest_grid(np.ones((6, 9)), 0.999) == (6, 9)
    assert smallest_grid(np.zeros((6, 9)), 0.9) == (1, 1)


class Blur(nn.Module):
    """Low-pass filtering by FFT, then a 1 x 1 layer: its output has frequencies up to 2 only."""

    def __init__(self, size):
        super().__init__()
        self.size = size
        self.mix = nn.Conv2d(3, 40, 1)
        self.rough = nn.Conv2d(40, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def low(self, x):
        spectrum = torch.fft.fft2(x)
        for axis, n in ((2, self.size[0]), (3, self.size[1])):
            keep = (torch.fft.fftfreq(n, 1 / n).abs() <= 2).to(x)
            spectrum = spectrum * keep.reshape(-1, *[1] * (3 - axis))
        return torch.fft.ifft2(spectrum).real

    def forward(self, x):
        return self.head(torch.relu(self.rough(self.mix(self.low(x)))).mean(dim=(2, 3)))


def blurred(size=(21, 15), n=50):
    torch.manual_seed(5)
    net = Blur(size).eval()
    with torch.no_grad():
        net.rough.weight.mul_(3)
    x = torch.randn(n, 3, *size)
    with torch.no_grad():
        return net, x, net(x).argmax(dim=1)


def test_band_limited_layer_takes_the_largest_stride_and_changes_no_answer():
    net, x, labels = blurred()
    found = ff.downsampling(net, x, labels, energy=0.999, strides=(2, 3, 5), rounds=2)
    mix = found.layers["mix"]
    assert (mix.size, mix.stride) == ((21, 15), 3)  # 5 leaves 3 columns, which hold frequency 1 only
    assert mix.losses[3] < 1e-9 and mix.losses[5] > 0.01
    assert mix.crop == (6, 5)  # frequency 2 needs 5 pixels of both sides; proportions are kept
    assert found.layers["rough"].stride == 1
    assert found.accuracy[0] == 1 and found.difference[0] == 0


def test_losses_are_their_definition_and_ignore_labels(make_net, make_images):
    net = make_net()
    x, labels = make_images(net, n=17)
    found = ff.downsampling(net, x, labels, energy=0.6, strides=(2, 4), batch_size=5, rounds=1)
    with torch.no_grad():
        y = net.stem(x).double().numpy()
    scale = (net.norm.weight.double().square() / (net.norm.running_var.double() + net.norm.eps)).detach().numpy()
    scale = scale[:, None, None]
    total = (scale * np.square(y - y.mean(axis=(0, 2, 3), keepdims=True))).sum()
    for stride in (2, 4):
        back = interpolation(11, stride) @ y[:, :, ::stride, ::stride] @ interpolation(14, stride).T
        assert found.layers["stem"].losses[stride] == pytest.approx((scale * np.square(y - back)).sum() / total)
    other = ff.downsampling(net, x, (labels + 1) % 5, energy=0.6, strides=(4, 2), rounds=1)
    for name, layer in other.layers.items():
        assert layer.losses == pytest.approx(found.layers[name].losses)
    assert found.accuracy[0] == 1 and other.accuracy[0] == 0


@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect"])
def test_coarse_layer_is_the_layer_sampled_and_interpolated(mode):
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3, stride=(2, 1), padding=1, groups=2, padding_mode=mode).double()
    x = torch.randn(2, 4, 13, 9, dtype=torch.float64)
    with torch.no_grad():
        y = layer(x)
        coarse = CoarseConv(layer, y.shape[2:], 3)(x).numpy()
    y = y.numpy()
    expected = interpolation(7, 3) @ y[:, :, ::3, ::3] @ interpolation(9, 3).T
    np.testing.assert_allclose(coarse, expected, atol=1e-12)
    assert layer.stride == (2, 1)
    with pytest.raises(ValueError, match="make it anew"), torch.no_grad():
        CoarseConv(layer, (7, 9), 3)(x[:, :, :5])


def test_multiplications_by_hand():
    layer = nn.Conv2d(4, 6, 3, groups=2)
    assert multiply_adds(layer, (8, 10)) == 6 * 2 * 9 * 80
    assert multiply_adds(layer, (8, 10), 2) == 6 * 2 * 9 * 20 + 6 * (4 * 5 * 8 + 8 * 5 * 10)


def test_applying_leaves_the_model_alone_and_gives_the_measured_network():
    net, x, labels = blurred(n=30)
    found = ff.downsampling(net, x, labels, energy=0.7, rounds=1)
    assert "rough" in found.strides
    before = {name: value.clone() for name, value in net.state_dict().items()}
    coarse = ff.layers.downsampled(net, found)
    assert isinstance(coarse.rough, CoarseConv) and isinstance(net.rough, nn.Conv2d)
    with torch.no_grad():
        np.testing.assert_array_equal((coarse(x).argmax(dim=1) == labels).numpy(), found.coarse_correct)
        coarse.rough.conv.weight.zero_()
    assert all((net.state_dict()[name] == value).all() for name, value in before.items())
    with pytest.raises(ValueError, match="no convolution"):
        ff.layers.downsampled(nn.Sequential(nn.Conv2d(3, 3, 1)), found)


def test_figures_of_a_suggestion_known_by_hand(tmp_path):
    net, x, labels = blurred(n=4)
    found = ff.downsampling(net, x, labels, rounds=3)
    correct = np.arange(100) < 90
    coarse = np.concatenate([np.arange(90) >= 6, np.arange(10) < 1])  # 6 lost, 1 won
    fields = {name: getattr(found, name) for name in ("model", "input_size", "energy", "layers", "batch")}
    one = Downsampling(**fields, correct=correct, coarse_correct=coarse, seconds=np.array([[2.0, 1], [4, 3]]))
    assert one.difference[0] == pytest.approx(-0.05)
    assert one.difference[1] < -0.05 < one.difference[2]
    assert one.p_value == pytest.approx(2 * (1 + 7) / 2**7)
    assert one.time_ratio == (0.625, 0.5, 0.75)
    assert one.coarse_accuracy == pytest.approx((0.85, *(float(v) for v in wilson(85, 100))))
    saved = sum(found.layers[n].multiply_adds - found.layers[n].coarse_multiply_adds for n in found.strides)
    assert one.multiply_add_ratio == pytest.approx(1 - saved / sum(v.multiply_adds for v in found.layers.values()))
    one.save(tmp_path / "coarse.npz")
    again = ff.load(tmp_path / "coarse.npz")
    assert again.table() == one.table() and again.in_words() == one.in_words() and again.strides == one.strides
    figure = one.plot()
    assert "85" in figure.get_supxlabel() or "0.850" in figure.get_supxlabel()
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["mix", "rough"]


@pytest.mark.filterwarnings("ignore:Using padding")
def test_layers_left_out_are_named(make_net):
    class Odd(nn.Conv2d):
        def forward(self, x):
            return super().forward(x.relu())

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), Odd(4, 4, 3), nn.ConvTranspose2d(4, 4, 2), nn.Conv2d(4, 4, 2, padding="same"),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ).eval()  # fmt: skip
    x, labels = torch.randn(3, 3, 9, 8), torch.tensor([0, 1, 2])
    found = ff.downsampling(net, x, labels, rounds=1)
    assert list(found.layers) == ["0"]
    assert {name for name, _ in found.skipped} == {"1", "2", "3"}
    with pytest.raises(ValueError, match="among the plain convolutions"):
        ff.downsampling(net, x, labels, layers=["2"])


def test_refusals(make_net, make_images):
    net = make_net()
    x, labels = make_images(net, n=3)
    for options, message in (
        ({"energy": 1.0}, "`energy` above 0"),
        ({"energy": math.nan}, "`energy` above 0"),
        ({"strides": (1, 2)}, "`strides` of integers"),
        ({"rounds": 0}, "at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            ff.downsampling(net, x, labels, **options)
    with pytest.raises(ValueError, match="finite floats"):
        ff.downsampling(net, x[:0], labels[:0])
    with pytest.raises(ValueError, match="labels below 5"):
        ff.downsampling(net, x, labels + 5)
    with pytest.raises(ValueError, match="evaluation mode"):
        ff.downsampling(net.train(), x, labels)
