from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastfreq as ff
from fastfreq import plots
from fastfreq.inputs.feature_spectra.result import FeatureSpectra, image_rings


def wave(cycles, size):
    y, x = np.meshgrid(np.arange(size[0]) / size[0], np.arange(size[1]) / size[1], indexing="ij")
    return np.cos(2 * np.pi * (cycles[0] * y + cycles[1] * x)).astype(np.float32)


class Fixed(nn.Module):
    """Returns the same maps for every image."""

    def __init__(self, maps):
        super().__init__()
        self.maps = nn.Parameter(torch.from_numpy(np.asarray(maps)))

    def forward(self, x):
        return self.maps.expand(len(x), *self.maps.shape)


class Chain(nn.Module):
    """Runs its parts one after the other on the image and returns logits."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x):
        for part in self.children():
            part(x)
        return x.mean(dim=(2, 3))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mix = nn.Linear(width, width)

    def forward(self, x):
        return x + torch.tanh(self.mix(x))


class TinyTransformer(nn.Module):
    """Patches of 4 x 4, some tokens before the grid, two blocks, then a merge to a coarser grid."""

    def __init__(self, prefix=3, patch=4, width=6):
        super().__init__()
        self.embed = nn.Conv2d(3, width, patch, patch)
        self.prefix = nn.Parameter(torch.randn(1, prefix, width))
        self.blocks = nn.ModuleList([Block(width), Block(width)])
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.prefix.expand(len(x), -1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens.mean(dim=1))


def by_hand(maps, shape):
    """(n, r) delta log amplitude of maps (n, c, h, w), over the whole plane, by NumPy."""
    logs = np.log(np.abs(np.fft.fft2(maps.astype(np.float64))) + 1e-6).mean(axis=1)
    ky, kx = (np.fft.fftfreq(n, 1 / n) * (min(shape) / side) for n, side in zip(maps.shape[2:], shape, strict=True))
    rings = np.floor(np.hypot(ky[:, None], kx[None]) + 0.5).astype(int)
    means = [logs[:, rings == r].mean(axis=1) for r in np.unique(rings)]
    return np.unique(rings), np.stack(means, axis=1) - logs[:, 0, 0, None]


@pytest.mark.parametrize("shape", [(24, 24), (33, 47), (20, 9)], ids=str)
def test_profiles_equal_the_definition(make_net, make_images, shape):
    net = make_net()
    images, labels = make_images(net, n=7, shape=(3, *shape))
    result = ff.feature_spectra(net, images, layers=["stem", "body"], batch_size=3)
    with torch.inference_mode():
        stem = net.stem(images)
        body = net.body(torch.relu(net.norm(stem)))
    for name, maps in (("input", images), ("stem", stem), ("body", body)):
        rings, delta = by_hand(maps.numpy(), shape)
        profile = result.radial(name)
        np.testing.assert_array_equal(profile.radius, rings)
        np.testing.assert_allclose(profile.value, delta.mean(axis=0), rtol=1e-4, atol=1e-4)
        half = 2.446912 * delta.std(axis=0, ddof=1) / np.sqrt(7)  # t of 6 degrees
        np.testing.assert_allclose(profile.high - profile.low, 2 * half, rtol=1e-2, atol=1e-4)
        assert profile.cells.sum() == maps.shape[2] * maps.shape[3]
        assert result[name].size == tuple(maps.shape[2:])


@pytest.mark.parametrize("image", [(48, 48), (48, 36)], ids=str)
@pytest.mark.parametrize("cycles", [(0, 3), (2, -2), (4, 0)], ids=str)
def test_one_cosine_lights_one_ring_in_layers_of_different_size(image, cycles):
    sizes = {"fine": image, "coarse": (image[0] // 4, image[1] // 4)}
    net = Chain(**{name: Fixed([1 + wave(cycles, size)]) for name, size in sizes.items()}).eval()
    result = ff.feature_spectra(net, torch.rand(2, 3, *image), layers=list(sizes))
    expected = int(np.hypot(cycles[0] * min(image) / image[0], cycles[1] * min(image) / image[1]) + 0.5)
    for name in sizes:
        profile = result.radial(name)
        floor = np.median(profile.value[1:])
        lit = profile.value - floor > 1
        assert profile.radius[lit & (profile.radius > 0)].tolist() == [expected]
        assert result[name].cells[0] >= 1 and profile.value[0] <= 0


@pytest.mark.parametrize("image", [(16, 16), (13, 31), (40, 8), (7, 7)], ids=str)
def test_rings_cover_the_plane_and_agree_between_sizes(image):
    rings, twice = image_rings(image, image)
    assert twice.sum() == image[0] * image[1]
    small = (max(image[0] // 2, 1), max(image[1] // 2, 1))
    coarse, _ = image_rings(small, image)
    inner = (slice(0, small[0] // 2), slice(0, small[1] // 2))
    np.testing.assert_array_equal(coarse[inner], rings[inner])


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize("shape", [(24, 24), (20, 36)], ids=str)
def test_tokens_return_to_their_grid_without_class_and_register_tokens(prefix, shape):
    torch.manual_seed(0)
    net = TinyTransformer(prefix).eval()
    images = torch.rand(4, 3, *shape)
    result = ff.feature_spectra(net, images)
    assert list(result.layers) == ["input", "blocks.0", "blocks.1"]
    grid = (shape[0] // 4, shape[1] // 4)
    assert result["blocks.0"].size == grid and result["blocks.0"].dropped == prefix
    with torch.inference_mode():
        maps = net.embed(images).movedim(1, -1)
        for block in net.blocks:
            maps = block(maps)
    rings, delta = by_hand(maps.movedim(-1, 1).numpy(), shape)
    np.testing.assert_allclose(result.radial("blocks.1").value, delta.mean(axis=0), rtol=1e-4, atol=1e-4)
    assert result.nyquist("blocks.1") == min(grid) // 2


def test_other_layouts_of_tokens():
    shape = (24, 36)
    values = wave((2, 0), (6, 9))
    tokens = np.concatenate([np.full((1, 3), 7, np.float32), np.repeat(values.reshape(-1, 1), 3, axis=1)])
    merged = np.repeat(wave((1, 0), (3, 5)).reshape(-1, 1), 3, axis=1)
    net = Chain(
        embed=nn.Conv2d(3, 3, 4, 4),
        tokens=Fixed(tokens),  # a class token before 6 x 9
        merged=Fixed(merged),  # 3 x 5, half of 6 x 9 rounded up
        last=Fixed(np.repeat(values[..., None], 40, axis=2)),  # (h, w, c)
    ).eval()
    result = ff.feature_spectra(net, torch.rand(2, 3, *shape), layers=["tokens", "merged", "last"])
    assert [result[name].size for name in ("tokens", "merged", "last")] == [(6, 9), (3, 5), (6, 9)]
    assert [result[name].dropped for name in ("tokens", "merged", "last")] == [1, 0, 0]
    np.testing.assert_allclose(result.radial("tokens").value, result.radial("last").value, atol=1e-3)
    no_patches = Chain(tokens=Fixed(tokens)).eval()
    assert ff.feature_spectra(no_patches, torch.rand(1, 3, *shape), layers=["tokens"])["tokens"].size == (6, 9)
    given = ff.feature_spectra(net, torch.rand(1, 3, *shape), layers=["tokens"], token_grid=(5, 11))
    assert given["tokens"].size == (5, 11) and given["tokens"].dropped == 0


@pytest.mark.parametrize("shape", [(32, 32), (24, 32)])
def test_as_many_channels_as_rows_and_columns_are_told_from_them(shape):
    """8 channels of 8 x 8, or of 6 x 8, last and first: one spectrum."""

    class Turned(nn.Module):
        def __init__(self, *axes):
            super().__init__()
            self.axes = axes

        def forward(self, x):
            return x.permute(self.axes).clone()

    def chained(**parts):
        return nn.Sequential(OrderedDict(**parts, pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten())).eval()

    torch.manual_seed(0)
    turned = {"maps": nn.Conv2d(3, 8, 4, 4), "last": Turned(0, 2, 3, 1)}
    net = chained(**turned, norm=nn.LayerNorm(8), back=Turned(0, 3, 1, 2))
    images = torch.rand(3, 3, *shape)
    result = ff.feature_spectra(net, images, layers=["maps", "last", "norm", "back"])
    assert {result[name].size for name in ("maps", "last", "norm", "back")} == {(shape[0] // 4, 8)}
    for same, other in (("maps", "last"), ("norm", "back")):
        np.testing.assert_allclose(result.radial(same).value, result.radial(other).value, atol=1e-4)
    if shape == (32, 32):
        fixed = chained(resized=nn.Upsample((32, 32)), **turned)
        with pytest.raises(ValueError, match=r"layer 'last'.*\(8, 8, 8\).*could be either.*another aspect ratio"):
            ff.feature_spectra(fixed, images, layers=["last"])


def test_maps_that_are_not_padded_keep_their_channels_first():
    """32 channels of 32 x 26: as channels last they would have the aspect ratio of the image."""
    net = Chain(maps=nn.Sequential(nn.Conv2d(3, 32, (1, 7)), nn.ReLU())).eval()
    result = ff.feature_spectra(net, torch.rand(1, 3, 32, 32), layers=["maps"])
    assert result["maps"].size == (32, 26) and result["maps"].channels == 32


def test_maps_that_are_zero_count_as_flat_or_not_at_all():
    alive = 2 + wave((0, 2), (12, 16)) + wave((3, 1), (12, 16))
    net = Chain(some=Fixed([alive, np.zeros_like(alive)]), every=Fixed([alive, alive])).eval()
    images = torch.rand(2, 3, 12, 16)
    flat = ff.feature_spectra(net, images, layers=["some", "every"])
    skipped = ff.feature_spectra(net, images, layers=["some", "every"], skip_dead=True)
    np.testing.assert_allclose(flat.radial("some").value, flat.radial("every").value / 2, rtol=1e-5)
    np.testing.assert_allclose(skipped.radial("some").value, skipped.radial("every").value, rtol=1e-5)


def test_the_default_layers_are_the_innermost_blocks():
    class Residual(nn.Module):
        def __init__(self, a, b):
            super().__init__()
            self.conv = nn.Conv2d(a, b, 3, 2, 1)
            self.short = nn.Sequential(nn.Conv2d(a, b, 1, 2))

        def forward(self, x):
            return F.relu(self.conv(x) + self.short(x))

    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(Residual(4, 4), nn.ReLU(), Residual(4, 5)), nn.Flatten(2))
    model = nn.Sequential(net, nn.AdaptiveAvgPool1d(1), nn.Flatten()).eval()
    result = ff.feature_spectra(model, torch.rand(2, 3, 18, 14))
    assert list(result.layers) == ["input", "0.1.0", "0.1.2"]
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert list(ff.feature_spectra(plain.eval(), torch.rand(2, 3, 8, 8)).layers) == ["input", "0", "2"]


def test_one_answer_whatever_the_batches_and_shards(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=11)
    whole = ff.feature_spectra(net, images, labels)
    parts = [ff.feature_spectra(net, images, labels, shard=(i, 3)) for i in range(3)]
    for other in (parts[2] + parts[0] + parts[1], ff.feature_spectra(net, images, batch_size=4)):
        np.testing.assert_array_equal(other.image_ids, whole.image_ids)
        for name in whole.layers:
            np.testing.assert_allclose(other[name].delta, whole[name].delta, rtol=1e-4, atol=1e-4)
            assert other.zero_frequency(name) == pytest.approx(whole.zero_frequency(name), rel=1e-5)
    with pytest.raises(ValueError, match="the same asked"):
        _ = parts[0] + ff.feature_spectra(net, images, layers=["stem"], shard=(1, 3))
    with pytest.raises(ValueError, match="different weights"):
        _ = parts[0] + ff.feature_spectra(make_net(seed=1), images, shard=(1, 3))


class InPlace(nn.Module):
    """Normalises its input and rectifies its features, in the memory that it is given or in new memory."""

    def __init__(self, net, in_place):
        super().__init__()
        self.net, self.in_place = net, in_place

    def forward(self, x):
        net, there = self.net, self.in_place
        x = x.sub_(0.4).div_(0.5) if there else x.sub(0.4).div(0.5)
        x = F.relu(net.norm(F.relu(net.stem(x), inplace=there)), inplace=there)
        return net.head(F.relu(net.body(x), inplace=there).mean(dim=(2, 3)))


def test_a_model_that_works_in_place_gives_the_same(make_net, make_images):
    net = make_net()
    images, _ = make_images(net, n=7)
    kept = images.clone()
    there, fresh = (ff.feature_spectra(InPlace(net, b).eval(), images, batch_size=4) for b in (True, False))
    for name in fresh.facts:
        np.testing.assert_array_equal(there[name].delta, fresh[name].delta)
    assert torch.equal(images, kept)


def test_batches_are_halved_when_memory_runs_out(make_net, make_images):
    net = make_net()
    images, _ = make_images(net, n=11)
    whole = ff.feature_spectra(net, images, layers=["stem", "body"])

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            logits = self.net(x)
            if len(x) > 3:  # after every layer was read
                raise torch.OutOfMemoryError("too many")
            return logits

    found = ff.feature_spectra(Small().eval(), images, layers=["net.stem", "net.body"], batch_size=11)
    assert found.n_images == 11
    for name in ("stem", "body"):
        np.testing.assert_allclose(found[f"net.{name}"].delta, whole[name].delta, rtol=1e-4, atol=1e-4)


def test_folding_leaves_the_layers_as_they_are(make_images):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm_a, self.b, self.norm_b = (
                nn.Conv2d(3, 4, 3),
                nn.BatchNorm2d(4),
                nn.Conv2d(4, 5, 3),
                nn.BatchNorm2d(5),
            )

        def forward(self, x):
            return self.norm_b(self.b(F.relu(self.norm_a(self.a(x))))).mean(dim=(2, 3))

    torch.manual_seed(0)
    net = Net()
    net(torch.rand(9, 3, 12, 9))
    net.eval()
    images, _ = make_images(net, n=4)
    plain, folded = (ff.feature_spectra(net, images, layers=["a"], fold_batch_norm=b) for b in (False, True))
    np.testing.assert_allclose(folded["a"].delta, plain["a"].delta, rtol=1e-4, atol=1e-4)


class Twice(nn.Module):
    """Runs its part twice, on the batch or on halves of it, or as windows."""

    def __init__(self, how):
        super().__init__()
        self.part, self.how = nn.Conv2d(3, 3, 3, padding=1), how

    def forward(self, x):
        if self.how == "twice":
            x = self.part(self.part(x))
        elif self.how == "halves":
            x = torch.cat([self.part(half) for half in (x[::2], x[1::2])])
        else:
            x = self.part(x.unfold(3, 4, 4).movedim(3, 1).flatten(0, 1)).unflatten(0, (len(x), -1)).mean(dim=1)
        return x.mean(dim=(2, 3))


@pytest.mark.parametrize(("how", "message"), [("twice", "to run once"), ("halves", "of 4 images"), ("windows", "of 4")])
def test_layers_that_do_not_run_once_on_every_image_are_refused(how, message):
    with pytest.raises(ValueError, match=message):
        ff.feature_spectra(Twice(how).eval(), torch.rand(4, 3, 8, 12), layers=["part"])


def test_what_is_wrong_is_refused(make_net, make_images):
    net = make_net()
    images, _ = make_images(net, n=3)
    with pytest.raises(KeyError, match="expected a layer named as in"):
        ff.feature_spectra(net, images, layers=["tail"])
    with pytest.raises(ValueError, match="leave it out of `layers`"):
        ff.feature_spectra(net, images, layers=["head"])
    with pytest.raises(ValueError, match="did not"):
        net.unused = nn.Conv2d(3, 3, 1).eval()
        ff.feature_spectra(net, images, layers=["unused"])
    odd = Chain(embed=nn.Conv2d(3, 3, 4, 4), tokens=Fixed(np.ones((47, 3), np.float32))).eval()
    with pytest.raises(ValueError, match=r"give `token_grid=\(rows, columns\)`"):
        ff.feature_spectra(odd, torch.rand(1, 3, 40, 40), layers=["tokens"])
    nan = Chain(bad=Fixed(np.full((1, 4, 4), np.nan, np.float32))).eval()
    with pytest.raises(FloatingPointError, match="in layer 'bad'"):
        ff.feature_spectra(nan, torch.rand(1, 3, 8, 8), layers=["bad"])
    for arguments, message in (
        ({"layers": ["stem", "stem"]}, "each once"),
        ({"layers": ["input"]}, "other than 'input'"),
        ({"compile": True}, "compile=False"),
        ({"token_grid": (0, 3)}, "positive `token_grid`"),
    ):
        with pytest.raises(ValueError, match=message):
            ff.feature_spectra(net, images, **arguments)
    with pytest.raises(TypeError, match="list of names"):
        ff.feature_spectra(net, images, layers="stem")
    with pytest.raises(KeyError, match="one of the layers measured"):
        ff.feature_spectra(net, images, layers=["stem"]).radial("body")


def test_save_load_table_and_picture(make_net, make_images, tmp_path):
    net = make_net()
    images, _ = make_images(net, n=6, shape=(3, 16, 20))
    result = ff.feature_spectra(net, images)
    result.save(tmp_path / "features.npz")
    again = ff.load(tmp_path / "features.npz")
    assert list(again.layers) == list(result.layers) == ["input", "stem", "body"] and again.facts == result.facts
    np.testing.assert_array_equal(again.radial("body").value, result.radial("body").value)
    table = result.to_dataframe()
    assert len(table) == sum(len(result.radial(name).radius) for name in result.layers)
    high = result.high_frequency()
    assert set(high) == {"input", "stem", "body"}
    row = table[(table.layer == "body") & (table.cycles_per_image == result.nyquist("body"))]
    assert row.delta_log_amplitude.item() == high["body"][0]
    assert set(result.high_frequency(at=8)) == {"input", "stem"}
    figure = result.plot()
    assert "shorter side" in figure.axes[0].get_xlabel()
    plots.save_png(figure, tmp_path / "features.png")
    assert (tmp_path / "features.png").stat().st_size > 10_000


def test_files_of_format_1_are_read(make_net, make_images):
    result = ff.feature_spectra(make_net(), make_images(make_net(), n=3)[0])
    plain = [
        [name, {"kind": a.kind, "size": list(a.size), "channels": a.channels, "dropped": a.dropped}]
        for name, a in result.layers.items()
    ]
    arrays = {"image_ids": result.image_ids}
    for i, layer in enumerate(result.layers.values()):
        arrays |= {f"{kind}/{i}": getattr(layer, kind) for kind in ("cells", "delta", "zero")}
    old = FeatureSpectra.from_format_1(
        {"shape": [3, 11, 14], "skip_dead": False, "details": {}, "layers": plain}, arrays
    )
    assert old.facts == result.facts and old.asked == result.asked
    for name in result.facts:
        np.testing.assert_array_equal(old.radial(name).value, result.radial(name).value)
        assert old.zero_frequency(name) == result.zero_frequency(name)
