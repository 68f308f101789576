"""`ff.invariance` against its definition written out, and motions against closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

import fastfreq as ff
from fastfreq.features import motions
from fastfreq.plots import invariance as plots


def smooth(n=3, c=2, h=24, w=31):
    """Images of a few low frequencies, each continued beyond its edges by its mirror image."""
    y, x = (np.arange(side) + 0.5 for side in (h, w))
    rng = np.random.default_rng(0)
    waves = [
        rng.random((n, c, 1, 1)) * np.outer(np.cos(np.pi * a * y / h), np.cos(np.pi * b * x / w))
        for a in range(4)
        for b in range(4)
    ]
    return torch.from_numpy((0.5 + 0.05 * sum(waves)).astype(np.float32))


# ---------------------------------------------------------------- motions
def test_shifts_are_those_of_the_mirrored_image():
    x = torch.rand(2, 3, 7, 10, generator=torch.Generator().manual_seed(0))
    down, right = motions.moved(x, "shift", 3.0)
    wide = np.pad(x.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)), mode="symmetric")
    np.testing.assert_allclose(down, wide[:, :, :7, 3:-3], atol=1e-6)
    np.testing.assert_allclose(right, wide[:, :, 3:-3, :10], atol=1e-6)


def test_shifts_by_a_fraction_are_exact_for_waves():
    h, w, d = 9, 14, 0.3
    y, x = np.arange(h) + 0.5, np.arange(w) + 0.5
    wave = lambda s, t: np.outer(np.cos(np.pi * 2 * s / h), np.cos(np.pi * 5 * t / w))  # noqa: E731
    image = torch.from_numpy(wave(y, x)[None, None].astype(np.float32))
    down, right = motions.moved(image, "shift", d)
    np.testing.assert_allclose(down[0, 0], wave(y - d, x), atol=1e-6)
    np.testing.assert_allclose(right[0, 0], wave(y, x - d), atol=1e-6)


@pytest.mark.parametrize(("kind", "amount"), [("rotation", 13.0), ("dilation", 1.2), ("dilation", 0.8)])
def test_rotations_and_dilations_are_scipys(kind, amount):
    images = smooth()
    found = motions.moved(images, kind, amount)
    angles = (math.radians(amount), -math.radians(amount)) if kind == "rotation" else (0.0,)
    factor = 1.0 if kind == "rotation" else amount
    assert len(found) == len(angles)
    centre = (np.array(images.shape[2:]) - 1) / 2
    for moved, angle in zip(found, angles, strict=True):
        back = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) / factor
        offset = centre - back @ centre
        wanted = ndimage.affine_transform(images[1, 1].double().numpy(), back, offset, order=5, mode="reflect")
        np.testing.assert_allclose(moved[1, 1], wanted, atol=2e-3 if kind == "rotation" else 3e-4)


def test_a_quarter_turn_is_numpys():
    x = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    one, other = motions.moved(x, "rotation", 90.0)
    turns = [np.rot90(x[0, 0].numpy(), k) for k in (1, -1)]
    np.testing.assert_allclose(one[0, 0], turns[0], atol=1e-6)
    np.testing.assert_allclose(other[0, 0], turns[1], atol=1e-6)


def test_shrinking_takes_out_what_the_smaller_image_cannot_hold():
    w = 40
    fine = np.cos(np.pi * 36 * (np.arange(w) + 0.5) / w)  # .45 cycles per pixel: folds at a factor of .8
    image = torch.from_numpy(np.tile(fine, (w, 1))[None, None].astype(np.float32))
    (small,) = motions.moved(image, "dilation", 0.8)
    assert float(small.abs().max()) < 1e-5


# ---------------------------------------------------------------- the measurement
@pytest.mark.parametrize("kind", motions.KINDS)
def test_distances_are_their_definition(kind, make_net, make_images):
    net = make_net()
    images, _ = make_images(net, n=4, shape=(3, 16, 19))
    stem = ff.wavelet_stem("haar")
    amounts = {"shift": (0.5, 3), "rotation": (5, 30), "dilation": (0.8, 1.25)}[kind]
    result = ff.invariance(net, images, kind=kind, amounts=amounts, layers=["body"], fixed={"own": stem})
    assert list(result.sizes) == ["pixels", "own", "body", "output"]

    def codes(x):
        body = net.body(torch.relu(net.norm(net.stem(x))))
        found = {"pixels": x, "own": stem.codes(x), "body": body, "output": net(x)}
        return {name: value.detach().double().flatten(1) for name, value in found.items()}

    plain, grey = codes(images), codes(images.mean(dim=(2, 3), keepdim=True).expand_as(images))
    for code in result.sizes:
        rows = []
        for amount in amounts:
            apart = [(codes(x)[code] - plain[code]).norm(dim=1) for x in motions.moved(images, kind, amount)]
            rows.append(torch.stack(apart).square().mean(dim=0).sqrt())
        wanted = torch.stack(rows)
        for to, unit in (("norm", plain[code]), ("contrast", plain[code] - grey[code])):
            np.testing.assert_allclose(result.relative(code, to=to), wanted / unit.norm(dim=1), rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(result.curve(code, to=to), (wanted / unit.norm(dim=1)).mean(dim=1), rtol=1e-3)
    low, high = result.interval("body")
    assert (low < result.curve("body")).all() and (result.curve("body") < high).all()


class Average(nn.Module):
    """Logits that no shift of a periodic image changes: means over all pixels of a pointwise function."""

    def __init__(self):
        super().__init__()
        self.point = nn.Conv2d(1, 4, 1)

    def forward(self, x):
        return torch.relu_(self.point(x)).mean(dim=(2, 3))


def test_an_invariant_code_does_not_move_and_in_place_layers_are_read_before():
    image = np.tile(np.cos(2 * np.pi * np.arange(32) / 4), (32, 1))[None, None] * 0.3 + 0.5
    image = torch.from_numpy(np.concatenate([image, image[..., ::-1]]).astype(np.float32))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Average().eval()
    result = ff.invariance(net, image, amounts=(2,), layers=["point"])
    with torch.no_grad():
        wanted = net.point(image).double().flatten(1).norm(dim=1)
    np.testing.assert_allclose(result.norms["point"], wanted, rtol=1e-6)  # with its negative numbers
    assert result.curve("point")[0] > 0.1 > 0.02 > result.curve("output")[0]


def test_a_fixed_layer_is_measured_by_its_codes(make_images, make_net):
    images, _ = make_images(make_net(), n=3, shape=(3, 16, 16))
    stem = ff.features.scattering_stem((16, 16)).eval()
    alone = ff.invariance(stem, images, amounts=(1, 2))
    beside = ff.invariance(make_net(), images, amounts=(1, 2), layers=[], fixed={"s": stem})
    np.testing.assert_allclose(alone.distances["output"], beside.distances["s"], rtol=1e-5)
    assert list(alone.sizes) == ["pixels", "output"] and "scattering stem" in alone.details["model"]
    orthonormal = ff.invariance(ff.wavelet_stem("db2", levels=2).eval(), images, amounts=(1,))
    np.testing.assert_allclose(orthonormal.distances["output"], orthonormal.distances["pixels"], rtol=1e-5)


def test_black_images_have_no_relative_distance(make_net):
    result = ff.invariance(make_net(), torch.zeros(2, 3, 16, 16), amounts=(1,))
    assert np.isnan(result.curve("pixels")).all() and (result.distances["output"] < 1e-5).all()
    assert "output" in result.headline() or "no code" in result.headline()
    result.plot()


def test_what_cannot_be_is_refused(make_net, make_images):
    net = make_net()
    images, _ = make_images(net, n=2, shape=(3, 8, 20))
    with pytest.raises(ValueError, match=r"expected shifts above 0 and below the shorter side, 8 pixels, got \[8.0\]"):
        ff.invariance(net, images, amounts=(8,))
    with pytest.raises(ValueError, match="expected rotations above 0 and up to 180 degrees"):
        ff.invariance(net, images, kind="rotation", amounts=(0, 5))
    with pytest.raises(ValueError, match=r"expected dilations from 0.25 to 4 without 1"):
        ff.invariance(net, images, kind="dilation", amounts=(0.5, 1))
    with pytest.raises(ValueError, match="expected `kind` of"):
        ff.invariance(net, images, kind="shear")
    with pytest.raises(ValueError, match="expected at least|expected images of at least 2 x 2"):
        ff.invariance(net, images[..., :1, :1])
    with pytest.raises(ValueError, match="expected `fixed` as a list of"):
        ff.invariance(net, images, fixed=("dct",))
    with pytest.raises(ValueError, match="expected sides of at least 32 for curvelets"):
        ff.invariance(net, images, fixed=("curvelet",))
    with pytest.raises(ValueError, match=r"expected names of codes each once, got \['stem'\] twice"):
        ff.invariance(net, images, layers=["stem"], fixed={"stem": ff.wavelet_stem("haar")})
    with pytest.raises(KeyError, match="expected a layer named as in"):
        ff.invariance(net, images, layers=["none"])
    with pytest.raises(ValueError, match="expected compile=False"):
        ff.invariance(net, images, compile=True)
    with pytest.raises(ValueError, match="expected a model in evaluation mode"):
        ff.invariance(ff.wavelet_stem("haar"), images)
    result = ff.invariance(net, images, amounts=(1,))
    with pytest.raises(KeyError, match="expected one of the codes measured"):
        result.curve("head")
    with pytest.raises(ValueError, match="expected `to` of"):
        result.curve("pixels", to="grey")
    with pytest.raises(ValueError, match="expected results of one motion"):
        plots.plot_many({"a": result, "b": ff.invariance(net, images, kind="rotation")})


def test_a_layer_that_runs_twice_is_refused(make_images, make_net):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return self.conv(self.conv(x)).mean(dim=(2, 3))

    images, _ = make_images(make_net(), n=2)
    with pytest.raises(ValueError, match="expected layer 'conv' to run once in a forward pass, it runs again"):
        ff.invariance(Twice().eval(), images)


@pytest.mark.parametrize("measure", [ff.invariance, ff.feature_spectra, "heatmap"])
def test_layers_with_tokens_first_are_refused_whatever_the_batch(measure):
    class TokensFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.mixed, self.head = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 8), nn.Linear(8, 5)

        def forward(self, x):
            return self.head(self.mixed(self.patches(x).flatten(2).permute(2, 0, 1)).mean(dim=0))

    images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))  # as many as tokens
    options = {"layers": ["mixed"], "batch_size": 16}
    with pytest.raises(ValueError, match="layer 'mixed' to return one row per image, it returns 16 for 2 images"):
        if measure == "heatmap":
            ff.heatmap(TokensFirst().eval(), images, torch.zeros(16, dtype=torch.int64), eps=1.0, size=3, **options)
        else:
            measure(TokensFirst().eval(), images, **options)
