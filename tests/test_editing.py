"""Latent edits: against the singular vectors of dense matrices, as shifts of waves, and on the published toy."""

import math

import numpy as np
import pytest
import torch
from reproductions.wen2024_training import band_pass
from torch import nn

import fastfreq as ff
from fastfreq.layers.cyclic import CyclicConv, CyclicNet
from fastfreq.layers.editing import latent_coefficients
from fastfreq.layers.latent_edit import LatentEdit
from fastfreq.plots.latent_edit import factor_text


def seeded(make, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make().double().eval()


def images_of(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dense(layer, channels, size):
    """A linear layer as a matrix, by its action on unit images."""
    n = channels * math.prod(size)
    with torch.no_grad():
        unit = torch.eye(n, dtype=torch.float64).reshape(n, channels, *size)
        return (layer(unit) - layer(torch.zeros_like(unit))).reshape(n, -1).T.numpy()


LAYERS = {
    "cyclic": (lambda: CyclicConv(2, 3, (5, 3), beta=0.25), 2, (5, 3), (1, -1)),
    "cyclic, stride": (lambda: CyclicConv(2, 3, (4, 6), beta=0.5, stride=2), 2, (4, 6), (0, 1)),
    "1-D": (lambda: nn.Conv1d(3, 2, 5, padding=2, padding_mode="circular", stride=2), 3, (10,), (2,)),
    "2-D, stride": (
        lambda: nn.Conv2d(2, 4, (5, 3), padding=(2, 1), padding_mode="circular", stride=(3, 2)), 2, (9, 10), (1, 2),
    ),
    "2-D, dilation": (
        lambda: nn.Conv2d(2, 3, (3, 3), padding=(2, 1), padding_mode="circular", dilation=(2, 1)), 2, (7, 4), (3, 1),
    ),
    "own twin": (lambda: CyclicConv(2, 3, (4, 3)), 2, (4, 3), (2, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_edit_is_that_of_the_dense_singular_vectors(name):
    make, channels, size, frequency = LAYERS[name]
    layer = seeded(make)
    x = images_of(3, channels, *size)
    model = nn.Sequential(layer).eval()
    edit = ff.layers.edit_latent(model, "0", x, frequency=frequency, index=1, factor=(1, -2.5))
    np.testing.assert_array_equal(edit.edited[0], edit.outputs)
    matrix = dense(model, channels, size)
    _, values, right = np.linalg.svd(matrix)
    here = np.abs(values - edit.singular_value) < 1e-10
    assert here.sum() == (1 if name == "own twin" else 2)  # k and -k
    kept = right[: len(values)][here]
    flat = x.reshape(3, -1).numpy()
    part = flat @ kept.T @ kept
    change = (edit.edited[1] - edit.outputs).reshape(3, -1)
    np.testing.assert_allclose(change, -3.5 * part @ matrix.T, atol=1e-11)
    share = 1 if name == "own twin" else 2
    np.testing.assert_allclose(share * np.abs(edit.coefficients) ** 2, np.square(part).sum(axis=1), atol=1e-11)


def test_a_phase_turns_the_representation_in_its_own_plane():
    layer = seeded(lambda: CyclicConv(3, 2, (5, 7), beta=0.25))
    x = images_of(4, 3, 5, 7)
    matrix = dense(layer, 3, (5, 7))
    edit = ff.layers.edit_latent(nn.Sequential(layer).eval(), "0", x, frequency=(2, 3), factor=(1j, -1j, -1))
    right = np.linalg.pinv(matrix)
    turned, back, opposite = ((e - edit.outputs).reshape(4, -1) @ right.T for e in edit.edited)
    # (i - 1) + (-i - 1) = -2 = (-1 - 1), and i - 1 and -i - 1 are at right angles
    np.testing.assert_allclose(turned + back, opposite, atol=1e-9)
    np.testing.assert_allclose((turned * back).sum(axis=1), 0, atol=1e-9)


@pytest.mark.parametrize(("size", "frequency"), [((9, 5), (1, 0)), ((6, 7), (2, -3))])
def test_a_phase_is_a_shift_along_the_frequency(size, frequency):
    """All of a one-channel wave is in one coordinate: exp(i phi) with phi = 2 pi <k, m> / n moves it by -m pixels."""
    layer = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular").double().eval()
    places = np.meshgrid(*map(np.arange, size), indexing="ij")
    turns = sum(k * p / n for k, p, n in zip(frequency, places, size, strict=True))
    x = torch.from_numpy(np.cos(2 * np.pi * turns + 0.3))[None, None]
    move = (2, 1)
    phase = 2 * np.pi * sum(k * m / n for k, m, n in zip(frequency, move, size, strict=True))
    edit = ff.layers.edit_latent(nn.Sequential(layer).eval(), "0", x, frequency=frequency, factor=np.exp(1j * phase))
    expected = np.roll(edit.outputs, [-m for m in move], axis=(2, 3))
    np.testing.assert_allclose(edit.edited[0], expected, atol=1e-12)


def test_the_partner_takes_the_conjugate():
    net = seeded(lambda: CyclicNet([2, 4, 3], (5, 4), beta=0.25))
    x = images_of(3, 2, 5, 4)
    factor = 0.3 + 1.1j
    edit = ff.layers.edit_latent(net, "layers.1", x, frequency=(1, 1), factor=factor)
    twin = ff.layers.edit_latent(net, "layers.1", x, frequency=(-1, -1), factor=factor.conjugate())
    np.testing.assert_allclose(edit.edited, twin.edited, atol=1e-12)
    assert np.abs(edit.edited - edit.outputs).max() > 1e-3


def test_later_layers_see_the_edit_and_earlier_ones_do_not():
    net = seeded(
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1), nn.ReLU())
    )
    x = images_of(2, 1, 7, 6)
    edit = ff.layers.edit_latent(net, "2", x, frequency=(0, 0), index=0, factor=2)
    with torch.no_grad():
        hidden = torch.relu(net[0](x))
        _, _, right = np.linalg.svd(net.get_parameter("2.weight").sum(dim=(2, 3)).numpy())
        mean = hidden.mean(dim=(2, 3)).numpy()  # frequency zero, channel by channel
        change = (mean @ right[0])[:, None] * right[0]
        expected = torch.relu(net[2](hidden + torch.from_numpy(change)[:, :, None, None])).numpy()
    np.testing.assert_allclose(edit.edited[0], expected, atol=1e-12)
    np.testing.assert_allclose(edit.coefficients.real**2, 42 * (mean @ right[0]) ** 2, atol=1e-12)
    found = latent_coefficients(net, "2", x, frequency=(0, 0))
    np.testing.assert_array_equal(found.numpy(), edit.coefficients)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [31, 32])
def test_edits_of_the_published_toy(seed):
    """Layer 3 of a trained band-pass network: factors act on the output's component at the edited frequency."""
    net, _ = band_pass(seed=seed)
    x = torch.randn(200, 1, 16, generator=torch.Generator().manual_seed(seed))
    edit = ff.layers.edit_latent(net, "layers.2", x, frequency=(1,), factor=(2, 0.5, 1j, -1j))
    before = np.fft.fft(edit.outputs[:, 0], axis=-1)[:, 1]
    ratios = [np.vdot(before, np.fft.fft(e[:, 0], axis=-1)[:, 1]) / np.vdot(before, before).real for e in edit.edited]
    assert 1.4 <= abs(ratios[0]) <= 2.1
    assert 0.4 <= abs(ratios[1]) <= 0.6
    for ratio, angle in zip(ratios[2:], (math.pi / 2, -math.pi / 2), strict=True):
        assert abs(ratio) == pytest.approx(1, abs=0.1)
        assert np.angle(ratio) == pytest.approx(angle, abs=0.1)


def test_refusals(make_net):
    net = make_net()
    x = torch.rand(2, 3, 8, 12)

    def edit(layer="body", images=x, frequency=(1, 0), **rest):
        ff.layers.edit_latent(net, layer, images, frequency=frequency, **rest)

    with pytest.raises(KeyError, match=r"model.named_modules\(\), such as stem"):
        edit("nothing")
    with pytest.raises(TypeError, match="a convolution"):
        edit("norm")
    with pytest.raises(ValueError, match="`frequency` of 2 integers"):
        edit(frequency=(1,))
    with pytest.raises(ValueError, match="`index` from 0 to 15"):
        edit(index=16)
    with pytest.raises(ValueError, match="sign but no phase"):
        edit(frequency=(2, 0), factor=1j)  # the stride halves 8 rows to 4
    with pytest.raises(ValueError, match="finite `factor`"):
        edit(factor=(2, math.nan))
    with pytest.raises(ValueError, match="finite numbers"):
        edit(images=x * math.inf)
    with pytest.raises(ValueError, match="at least one image"):
        edit(images=x[:0])
    with pytest.raises(ValueError, match="stride"):
        edit(images=torch.rand(2, 3, 7, 12))
    with pytest.raises(ValueError, match="without groups"):
        ff.layers.edit_latent(
            nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)).eval(), "0", torch.rand(1, 4, 5, 5), frequency=(0, 0)
        )
    with pytest.raises(ValueError, match="calls '0' 2 times"):
        layer = nn.Conv2d(2, 2, 1)
        ff.layers.edit_latent(
            nn.Sequential(layer, nn.ReLU(), layer).eval(), "0", torch.rand(1, 2, 3, 3), frequency=(0, 0)
        )
    with pytest.raises(ValueError, match="evaluation mode"):
        net.train()
        edit()


@pytest.mark.parametrize(("shape", "axes"), [((1, 6, 5), 6), ((3, 6, 5), 6), ((4, 6, 5), 6), ((2, 12), 6)])
def test_saved_and_drawn(shape, axes, tmp_path):
    net = seeded(lambda: CyclicNet([shape[0], 3, shape[0]], shape[1:], beta=0.25))
    frequency = (0,) * (len(shape) - 2) + (1,)
    edit = ff.layers.edit_latent(net, "layers.1", images_of(10, *shape), frequency=frequency)
    edit.save(tmp_path / "edit.npz")
    again = ff.load(tmp_path / "edit.npz")
    assert isinstance(again, LatentEdit)
    np.testing.assert_array_equal(again.edited, edit.edited)
    assert (again.frequency, again.own_twin, again.layer) == (frequency, False, "layers.1")
    figure = again.plot()
    assert len(figure.axes) == 8 * axes  # eight of the ten images
    assert [a.get_title() for a in figure.axes[:axes]] == ["input", "output", "× 2", "× 0.5", "× i", "× -i"]
    assert "first 8 of 10" in figure.get_supxlabel().replace("\n", " ")


def test_logits_are_bars(make_net):
    edit = ff.layers.edit_latent(make_net(classes=4), "body", torch.rand(2, 3, 8, 12), frequency=(0, 0), factor=2)
    figure = edit.plot()
    assert len(figure.axes[1].patches) == 4
    assert "no phase" in figure.get_supxlabel().replace("\n", " ")


def test_factors_in_words():
    assert [factor_text(f) for f in (2, 0.5, 1j, -1j, 0.6 - 0.8j, 1 + 1j)] == [
        "2", "0.5", "i", "-i", "0.6 - 0.8i", "1 + i",
    ]  # fmt: skip
