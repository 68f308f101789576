from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fastfreq as ff
from fastfreq.features import ImageSearch, image_search
from fastfreq.features._shut_relu import OpenRectifiers

STILL = {"jitter": 0, "scale": 0, "rotation": 0}


pytestmark = pytest.mark.usefixtures("one_thread")


class Units(nn.Module):
    """One convolution and a rectifier, made once or in place."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None, *, stride: int = 1, in_place=False):
        super().__init__()
        c_out, c_in, h, w = weight.shape
        self.conv = nn.Conv2d(c_in, c_out, (h, w), stride=stride, bias=bias is not None)
        self.conv.weight.data.copy_(weight)
        if bias is not None and self.conv.bias is not None:
            self.conv.bias.data.copy_(bias)
        self.relu = nn.ReLU(inplace=in_place)

    def forward(self, x):
        return self.relu(self.conv(x)).mean(dim=(2, 3))


def filters(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Tokens(nn.Module):
    """Patches of 4 x 4 behind a class token, and a layer that mixes them."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 4, 4)
        self.cls = nn.Parameter(torch.randn(1, 1, 6))
        self.block = nn.Linear(6, 5)
        self.mix = nn.Linear(7, 7)

    def forward(self, x):
        tokens = torch.cat([self.cls.expand(len(x), -1, -1), self.embed(x).flatten(2).transpose(1, 2)], dim=1)
        return self.block(self.mix(tokens.mT).mT)[:, 0]


# ---------------------------------------------------------------- images of coefficients
@pytest.mark.parametrize("shape", [(3, 8, 11), (1, 7, 6), (5, 9, 9)])
def test_pixels_are_the_real_wave_sum_that_numpy_makes(shape):
    c, h, w = shape
    search = ImageSearch(decay=1.5)
    given = np.random.default_rng(0).standard_normal((2, c, h, w // 2 + 1, 2)).astype(np.float32)
    found = image_search.FourierImages(search, shape, torch.device("cpu"))(torch.from_numpy(given))
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(h), np.fft.rfftfreq(w), indexing="ij"))
    half = (given[..., 0] + 1j * given[..., 1]) / np.maximum(radius, 1 / max(h, w)) ** 1.5 / 4
    # cosines and sines written out, column by column
    y, x, columns = np.arange(h), np.arange(w), np.arange(w // 2 + 1)
    twice = np.where((columns == 0) | (2 * columns == w), 1, 2)
    rows = np.exp(2j * np.pi * np.outer(y, np.arange(h)) / h)
    waves = np.exp(2j * np.pi * np.outer(columns, x) / w) * twice[:, None]
    plain = np.real(np.einsum("yk,nckl,lx->ncyx", rows, half, waves)) / np.sqrt(h * w)
    mixed = np.einsum("ij,njyx->niyx", search.mixing(c), plain)
    np.testing.assert_allclose(found.numpy(), 1 / (1 + np.exp(-mixed)), atol=2e-6)


@pytest.mark.parametrize("shape", [(3, 4, 7), (1, 5, 6), (2, 3, 8), (2, 1, 1)])
def test_the_derivative_of_pixels_is_that_of_differences(shape):
    c, h, w = shape
    mixing = None if c == 1 else torch.randn(c, c, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weight = torch.rand(h, w // 2 + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.5
    given = torch.randn(2, c, h, w // 2 + 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert torch.autograd.gradcheck(image_search._Pixels.apply, (given.requires_grad_(), weight, mixing, w))


def test_colours_of_independent_numbers_have_the_covariance():
    for rows in (None, ((0.5, 0.2, 0), (0.2, 0.4, 0.1), (0, 0.1, 0.9))):
        root = ImageSearch(colours=rows).mixing(3)
        wanted = np.array(image_search.NATURAL_COLOURS if rows is None else rows)
        np.testing.assert_allclose(root @ root.T * wanted[0, 0] / (root @ root.T)[0, 0], wanted, atol=1e-12)
        assert np.linalg.norm(root, axis=1).max() == pytest.approx(1)
    np.testing.assert_array_equal(ImageSearch().mixing(4), np.eye(4))
    with pytest.raises(ValueError, match="expected `colours` of 4 channels, got 3"):
        ImageSearch(colours=image_search.NATURAL_COLOURS).mixing(4)
    with pytest.raises(ValueError, match="positive eigenvalues"):
        ImageSearch(colours=((1, 2), (2, 1)))


def test_moves_keep_shapes_in_pixels():
    """A round blob in an oblong image stays round whatever is turned; a shift alone is a shift."""
    y, x = np.mgrid[:33, :47]
    blob = torch.tensor(np.exp(-((y - 16) ** 2 + (x - 23) ** 2) / 18), dtype=torch.float32)[None, None]
    turned = image_search.draw_moves(ImageSearch(steps=4, jitter=0, scale=0, rotation=60), (1, 33, 47), rng())
    assert turned is not None
    found = image_search.moved(blob.expand(4, -1, -1, -1), torch.from_numpy(turned))
    assert (found - blob).abs().max() < 0.03
    shift = torch.tensor([[[1, 0, 2 * 5 / 47], [0, 1, 2 * -3 / 33]]], dtype=torch.float32)
    torch.testing.assert_close(image_search.moved(blob, shift)[..., 3:, :-5], blob[..., :-3, 5:], atol=1e-5, rtol=0)
    sizes = image_search.draw_moves(ImageSearch(steps=500, rotation=0, jitter=0.1, scale=0.2), (1, 33, 47), rng())
    assert sizes is not None
    assert 1 / 1.2 <= sizes[:, 0, 0].min() < 0.85 and 1.18 < sizes[:, 0, 0].max() <= 1.2
    assert 3.2 < np.abs(sizes[:, 0, 2] * 47 / 2).max() <= 3.3 and np.abs(sizes[:, 1, 2] * 33 / 2).max() <= 3.3
    assert image_search.draw_moves(ImageSearch(**STILL), (1, 33, 47), rng()) is None


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_penalties_are_the_papers():
    images = np.random.default_rng(1).random((2, 3, 5, 7)).astype(np.float32)
    x = 255 * images.astype(np.float64) - 127.5
    alpha = ((x**2).sum(axis=1) ** 3).mean(axis=(1, 2)) / 80.0**6
    variation = (np.diff(x, axis=2) ** 2).sum((1, 2, 3)) + (np.diff(x, axis=3) ** 2).sum((1, 2, 3))
    wanted = 0.7 * alpha + 0.3 * variation / 35 / (80 / 6.5) ** 2
    found = image_search.penalty(torch.from_numpy(images), ImageSearch(alpha_norm=0.7, total_variation=0.3))
    assert found is not None
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5)
    assert image_search.penalty(torch.from_numpy(images), ImageSearch()) is None


def test_share_of_high_frequencies():
    y, x = np.mgrid[:20, :30]
    low, high = np.cos(2 * np.pi * 3 * x / 30), np.cos(2 * np.pi * (6 * y / 20 + x / 30))  # radius .1 and .302
    image = (0.5 + 0.2 * low + 0.1 * high)[None].astype(np.float32)
    assert image_search.high_frequency_share(image) == pytest.approx(0.2, abs=1e-6)
    assert image_search.high_frequency_share(np.full((3, 4, 5), 0.3, np.float32)) == 0


# ---------------------------------------------------------------- what is found
def test_the_image_of_a_linear_unit_is_its_filter():
    """Under a quadratic penalty the optimum of <w, x> is w."""
    weight = filters(3, 3, 7, 9)
    colours = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    search = ImageSearch(steps=150, decay=0, alpha_norm=100, alpha=2, colours=colours, **STILL)
    found = ff.maximize(Units(weight).eval(), "conv", input_size=(3, 7, 9), objective="center", search=search)
    for unit in range(3):
        x, w = found[unit].image.ravel() - 0.5, weight[unit].numpy().ravel()
        assert x @ w / np.linalg.norm(x) / np.linalg.norm(w) > 0.99


def test_total_variation_takes_high_frequencies_away():
    net = Units(filters(1, 3, 3, 3)).eval()

    def energy(weight: float) -> float:
        search = ImageSearch(steps=60, decay=0, total_variation=weight, **STILL)
        found = ff.maximize(net, "relu", [0], input_size=(3, 24, 21), search=search)[0]
        return found.high_frequency_share * found.image.var()

    free, held, held_more = (energy(weight) for weight in (0, 0.03, 0.3))
    assert free > 1.5 * held > 2.25 * held_more > 0


def test_a_unit_does_not_know_its_neighbours(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 9, 5, padding=2), nn.ReLU(), nn.Conv2d(9, 13, 3), nn.ReLU()).eval()
    search = ImageSearch(steps=12)
    every = ff.maximize(net, "3", input_size=(3, 17, 22), search=search, seed=3)
    assert sorted(every.units) == list(range(13)) and every.details["batch_size"] == "16"
    some = ff.maximize(net, "3", [11, 2], input_size=(3, 17, 22), search=search, seed=3)
    for unit in (2, 11):
        np.testing.assert_array_equal(some[unit].image, every[unit].image)
        assert some[unit].activation == every[unit].activation
    other = ff.maximize(net, "3", [2], input_size=(3, 17, 22), search=search, seed=4)
    assert np.abs(other[2].image - every[2].image).max() > 0.01
    few = ff.maximize(net, "3", [11, 2, 5], input_size=(3, 17, 22), search=search, seed=3, batch_size=2)
    np.testing.assert_allclose(few[2].image, every[2].image, atol=0.02)  # another batch size rounds in another way


def test_activations_are_those_of_the_images_found():
    net = Units(filters(4, 3, 3, 3), stride=2, in_place=True).eval()
    model = ff.NormalizedModel(net, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.2)).eval()
    for objective in ("channel", "center"):
        found = ff.maximize(model, "relu", input_size=(3, 13, 18), objective=objective, search=ImageSearch(steps=20))
        x = torch.from_numpy(found.images)
        with torch.no_grad():
            maps = F.relu(net.conv((x - model.mean[:, None, None]) / model.std[:, None, None]))
            rolled = [torch.roll(x, s, d) for d in (2, 3) for s in (-4, 4)]
            shifted = torch.stack(
                [F.relu(net.conv((r - model.mean[:, None, None]) / model.std[:, None, None])) for r in rolled]
            )

        def of(values, objective=objective):
            mine = torch.diagonal(values, dim1=-4, dim2=-3)  # (..., h, w, units)
            return mine.mean(dim=(-3, -2)) if objective == "channel" else mine[..., 3, 4, :]

        np.testing.assert_allclose(found.activations, of(maps), rtol=1e-5)
        if objective == "center":  # 4 pixels are 1.8 places: the larger of the two around them
            mine = torch.diagonal(shifted, dim1=-4, dim2=-3)
            each = [mine[0, 1:3, 4], mine[1, 4:6, 4], mine[2, 3, 2:4], mine[3, 3, 5:7]]
            least = torch.stack([pair.amax(dim=0) for pair in each]).amin(0)
        else:
            least = of(shifted).amin(0)
        np.testing.assert_allclose([found[u].shifted for u in range(4)], least, rtol=1e-4, atol=1e-6)
        assert (found.activations > [found[u].start for u in range(4)]).all()


def test_a_central_unit_is_looked_for_where_its_pattern_has_gone():
    """By a shift of whole places nothing changes in a network without borders; the place itself sees other pixels."""
    net = nn.Sequential(nn.Conv2d(3, 5, 6, stride=4, padding=3, padding_mode="circular"), nn.ReLU()).eval()
    with torch.no_grad():
        net[0].weight.copy_(filters(5, 3, 6, 6))
    search = ImageSearch(steps=10, **STILL)
    found = ff.maximize(net, "1", input_size=(3, 24, 32), objective="center", search=search)
    np.testing.assert_allclose([found[u].shifted for u in range(5)], found.activations, rtol=1e-4)
    with torch.no_grad():
        stayed = net(torch.roll(torch.from_numpy(found.images), 4, 2))[range(5), range(5), 3, 4].numpy()
    assert np.median(stayed / found.activations) < 0.5


@pytest.mark.parametrize("shape", [(1, 9, 7), (5, 6, 13)])
def test_any_number_of_channels_and_small_images(shape):
    net = Units(filters(2, shape[0], 3, 3)).eval()
    found = ff.maximize(net, "relu", input_size=shape, search=ImageSearch(steps=10))
    assert found.images.shape == (2, *shape) and not found.dead
    assert found.images.min() >= 0 and found.images.max() <= 1 and found.plot().axes


def test_tokens():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Tokens().eval()
    size = (3, 8, 12)  # 2 x 3 patches
    for objective, token in (("cls", 0), (3, 3), ("center", 1 + 3 + 1)):
        found = ff.maximize(net, "block", input_size=size, objective=objective, search=ImageSearch(steps=5))
        with torch.no_grad():
            x = torch.from_numpy(found.images)
            tokens = torch.cat([net.cls.expand(5, -1, -1), net.embed(x).flatten(2).mT], dim=1)
            wanted = net.block(net.mix(tokens.mT).mT)[:, token].diagonal()
        np.testing.assert_allclose(found.activations, wanted, rtol=1e-4, atol=1e-6)
    assert found.objective == "center"
    with pytest.raises(ValueError, match="expected a token from 0 to 6 as `objective`, got 7"):
        ff.maximize(net, "block", input_size=size, objective=7)


# ---------------------------------------------------------------- shut rectifiers
def test_open_rectifiers_return_what_rectifiers_do():
    x = filters(4, 3, 5, 5)
    x[1:3] = -x[1:3].abs()  # of the second and third image not one is open, and the second may not
    for call in (F.relu, torch.relu, lambda t: t.relu(), F.relu6, lambda t: F.relu(t.clone(), inplace=True)):
        grads = []
        for opened in (False, True):
            given = x.clone().requires_grad_()
            if opened:
                with OpenRectifiers(torch.tensor([True, False, True, True])):
                    out = call(given * 1)
            else:
                out = call(given * 1)
            (-out.sum()).backward()
            grads.append((out.detach(), given.grad))
        assert torch.equal(grads[0][0], grads[1][0])
        others = [0, 1, 3]
        assert torch.equal(grads[0][1][others], grads[1][1][others])
        assert not grads[0][1][2].any() and (grads[1][1][2] == -1).all()
    changed = (x.clone().requires_grad_() * 1).mul(1)
    with OpenRectifiers(torch.ones(4, dtype=torch.bool)):
        F.relu_(changed)
    assert torch.equal(changed.detach(), F.relu(x))


def test_units_shut_at_the_start_are_opened_and_dead_ones_said():
    weight = filters(3, 3, 3, 3)
    weight[1] = 0
    net = Units(weight, torch.tensor([-2.0, -1.0, 0.0])).eval()  # the first is shut at grey, nothing opens the second
    with torch.no_grad():
        assert net(torch.full((1, 3, 12, 12), 0.5))[0, 0] == 0
    found = ff.maximize(net, "relu", input_size=(3, 12, 12), search=ImageSearch(steps=60, **STILL))
    assert found.dead == [1] and found[0].activation > 0.05 and found[1].activation == 0
    assert "1 dead: 1" in found.headline() and [row["dead"] for row in found.table()] == [False, True, False]
    without = ff.maximize(
        net, "relu", [0], input_size=(3, 12, 12), search=ImageSearch(steps=60, through_relu=0, **STILL)
    )
    assert without.dead == [0] and without[0].activation == 0


# ---------------------------------------------------------------- refusals
class Twice(nn.Module):
    """Runs one layer twice, and never another."""

    def __init__(self):
        super().__init__()
        self.part, self.unused = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.part(self.part(x)).mean(dim=(2, 3))


class Deaf(nn.Module):
    """Takes no gradients."""

    def __init__(self, *sizes: int):
        super().__init__()
        self.part = nn.Conv2d(*sizes)

    def forward(self, x):
        with torch.no_grad():
            return self.part(x).mean(dim=(2, 3))


def test_what_is_wrong_is_refused():
    net = nn.Sequential()
    net.add_module("layer1", nn.Conv2d(3, 4, 3))
    net.add_module("layer2", nn.Conv2d(4, 4, 3))
    net.eval()
    call = {"input_size": (3, 9, 9), "search": ImageSearch(steps=1)}
    with pytest.raises(KeyError, match="such as layer2, layer1"):
        ff.maximize(net, "layr2", **call)
    for units, message in (
        ([4], "from 0 to 3 of layer 'layer2', each once, got 4 out"),
        ([-1], "-1"),
        ([1, 1], "twice"),
    ):
        with pytest.raises(ValueError, match=message):
            ff.maximize(net, "layer2", units, **call)
    with pytest.raises(ValueError, match=r"expected layer 'layer2' to return tokens \(n, t, c\) for objective 'cls'"):
        ff.maximize(net, "layer2", objective="cls", **call)
    with pytest.raises(ValueError, match="expected `objective` of 'channel'"):
        ff.maximize(net, "layer2", objective="middle", **call)
    with pytest.raises(ValueError, match="of images of|that takes images of"):
        ff.maximize(net, "layer2", input_size=(1, 9, 9))
    with pytest.raises(ValueError, match=r"as \(c, h, w\), got \(3, 9\)"):
        ff.maximize(net, "layer2", input_size=(3, 9))  # pyright: ignore[reportArgumentType]
    for layer, times in (("part", 2), ("unused", 0)):
        with pytest.raises(ValueError, match=f"it runs {times} times"):
            ff.maximize(Twice().eval(), layer, **call)
    net.layer1.weight.data[:] = torch.nan
    with pytest.raises(FloatingPointError, match="unit 0 of layer 'layer2'"):
        ff.maximize(net, "layer2", **call)
    with pytest.raises(ValueError, match="to have gradients with respect to pixels"):
        ff.maximize(Deaf(3, 2, 1).eval(), "part", **call)
    with pytest.warns(UserWarning, match="another one is beside it"):
        norm = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)).eval()
        ff.maximize(norm, "1", **call)
    with pytest.raises(ValueError, match="expected `scale` of at least 0"):
        ImageSearch(scale=-1)


# ---------------------------------------------------------------- a real network
@pytest.mark.slow
def test_real_units_are_raised_above_real_images(shared_data, tmp_path):
    factory = "\ndef resnet20():\n    return CifarResNet(3)\n"
    (tmp_path / "nets.py").write_text((shared_data / "cifar_nets.py").read_text() + factory)
    weights = shared_data / "weights" / "cifar10_resnet20.safetensors"
    net = ff.load_model(f"{tmp_path / 'nets.py'}:resnet20", weights=weights).model
    model = ff.NormalizedModel(net, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)).eval()
    images = np.load(shared_data / "cifar10" / "cifar10_subset.npz")
    pixels = torch.from_numpy(images[next(k for k in images.files if "test" in k and images[k].ndim == 4)][:300])
    seen = []
    hook = net.layer2.register_forward_hook(lambda _m, _a, maps: seen.append(maps.mean(dim=(2, 3))))
    with torch.no_grad():
        model(pixels.permute(0, 3, 1, 2).float() / 255)
    hook.remove()
    best = seen[0].amax(dim=0).numpy()
    found = ff.maximize(model, "layer2", input_size=(3, 32, 32), search=ImageSearch(steps=64))
    shifted = np.array([found[unit].shifted for unit in range(len(best))])
    assert (shifted > best).mean() >= 0.9 and not found.dead
