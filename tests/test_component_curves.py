from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff
from fastfreq.inputs.component_curves import SHARES, ComponentCurves
from tests.in_place import InPlace

SHAPES = [(8, 8), (15, 22), (33, 20), (1, 7), (12, 1)]


def numpy_split(images, radius, inclusive):
    """Wang et al. by full FFTs in float64: (low, high, largest imaginary part)."""
    h, w = images.shape[-2:]
    side = min(h, w)
    ky, kx = np.fft.fftfreq(h)[:, None] * side, np.fft.fftfreq(w)[None, :] * side
    squares = ky**2 + kx**2
    disc = squares <= radius**2 + 1e-9 if inclusive else squares < radius**2 - 1e-9
    spectrum = np.fft.fft2(images.astype(np.float64))
    low, high = np.fft.ifft2(disc * spectrum), np.fft.ifft2(~disc * spectrum)
    return low.real, high.real, max(np.abs(low.imag).max(), np.abs(high.imag).max())


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_parts_are_numpys_and_add_up(shape, inclusive, dtype):
    images = torch.rand(3, 2, *shape, dtype=dtype, generator=torch.Generator().manual_seed(17))
    eps = torch.finfo(dtype).eps
    for radius in (0, 1, min(shape) / 3, min(shape) / 2, max(shape)):
        low, high = ff.split_components(images, radius, inclusive=inclusive)
        expected_low, expected_high, imaginary = numpy_split(images.numpy(), radius, inclusive)
        assert imaginary < 1e-14  # the mask is symmetric: no energy is thrown away
        np.testing.assert_allclose(low.numpy(), expected_low, atol=64 * eps)
        np.testing.assert_allclose(high.numpy(), expected_high, atol=64 * eps)
        assert (low + high - images).abs().max() <= 4 * eps


def test_low_parts_are_projections_of_growing_energy():
    images = torch.rand(2, 3, 15, 22, dtype=torch.float64, generator=torch.Generator().manual_seed(23))
    lows, highs = ff.split_components(images, [1.0, 2.0, 4.0, 7.0])
    energy = lows.square().sum(dim=(1, 2, 3, 4))
    assert (energy.diff() > 0).all()
    for low, high, radius in zip(lows, highs, (1.0, 2.0, 4.0, 7.0), strict=True):
        torch.testing.assert_close(ff.split_components(low, radius)[0], low)  # idempotent
        assert (low * high).sum().abs() < 1e-10  # orthogonal
        torch.testing.assert_close(low, ff.split_components(images, radius)[0])


def test_a_cosine_lies_in_one_part():
    y, x = torch.meshgrid(torch.arange(20).double() / 20, torch.arange(25).double() / 25, indexing="ij")
    wave = torch.cos(2 * torch.pi * (3 * y + 5 * x))  # radius 20 |(3/20, 5/25)| = 5
    for radius, inclusive, inside in ((5.1, False, 1), (5, True, 1), (5, False, 0), (4.9, True, 0)):
        low, _ = ff.split_components(wave, radius, inclusive=inclusive)
        torch.testing.assert_close(low, wave * inside, atol=1e-13, rtol=0)


def test_bad_splits_are_refused():
    with pytest.raises(TypeError, match="float type, got torch.uint8; divide"):
        ff.split_components(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 2)
    with pytest.raises(ValueError, match="radius from 0 to 9"):
        ff.split_components(torch.zeros(1, 3, 8, 9), 10)


# ---------------------------------------------------------------- curves
class OnePattern(nn.Module):
    """Class 1 where the coefficient of a cosine is positive: sees one frequency only."""

    def __init__(self, ky, kx, shape):
        super().__init__()
        y, x = torch.meshgrid(*(torch.arange(n) / n for n in shape), indexing="ij")
        self.pattern = nn.Parameter(torch.cos(2 * torch.pi * (ky * y + kx * x)))

    def forward(self, images):
        z = (images * self.pattern).sum(dim=(1, 2, 3))
        return torch.stack([torch.full_like(z, 1e-3), z], dim=1)


def test_a_model_of_one_frequency_flips_at_its_radius():
    shape = (16, 21)
    net = OnePattern(4, 0, shape).eval()
    rng = np.random.default_rng(1)
    labels = torch.ones(11, dtype=torch.int64)  # class 0 is what nothing looks like
    amplitude = torch.from_numpy(rng.uniform(0.1, 0.4, (11, 1, 1, 1))).float()
    images = 0.5 + amplitude * net.pattern.detach()
    curves = ff.component_curves(net, images, labels, radii=(2, 4, 4.5, 8))
    np.testing.assert_array_equal(curves.curve("low"), [0, 0, 1, 1])  # < 4 keeps (4, 0) out
    np.testing.assert_array_equal(curves.curve("high"), [1, 1, 0, 0])
    np.testing.assert_array_equal(curves.curve("only_high"), [1, 1, 0, 0])
    np.testing.assert_array_equal(curves.curve("like_low"), [0, 0, 1, 1])
    np.testing.assert_array_equal(curves.image_ids_of("only_high", 4), range(11))
    assert not len(curves.image_ids_of("only_low", 4)) and curves.accuracy == 1.0
    inclusive = ff.component_curves(net, images, labels, radii=(4,), inclusive=True)
    np.testing.assert_array_equal(inclusive.curve("low"), [1])


@pytest.fixture
def setting(make_net, make_images):
    net = make_net()
    return net, *make_images(net, n=13)


def test_curves_are_a_plain_evaluation(setting):
    net, images, labels = setting
    curves = ff.component_curves(net, images, labels, radii=(2, 5), clip=True)
    for r, radius in enumerate((2, 5)):
        low, high, _ = numpy_split(images.numpy(), radius, inclusive=False)
        with torch.inference_mode():
            predicted = [net(torch.from_numpy(p.clip(0, 1)).float()).argmax(dim=1) for p in (low, high)]
        right = [p == labels for p in predicted]
        expected = {
            "low": right[0],
            "high": right[1],
            "only_low": right[0] & ~right[1],
            "only_high": right[1] & ~right[0],
        }
        for share, members in expected.items():
            np.testing.assert_array_equal(curves.members(share)[r], members)
            low_end, high_end = curves.interval(share)
            assert low_end[r] <= curves.curve(share)[r] <= high_end[r]
    assert ff.component_curves(net, images, labels).radii.tolist() == [e * 11 / 8 for e in range(1, 8)]


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("shape", [(8, 8), (15, 22), (33, 20)], ids=str)
def test_the_model_sees_the_parts_of_split_components(make_net, make_images, shape, inclusive):
    net = make_net()
    images, labels = make_images(net, n=6, shape=(3, *shape))
    radii = [1, 2.5, min(shape) / 2]
    for batch in (1, 4, 100):
        curves = ff.component_curves(net, images, labels, radii=radii, inclusive=inclusive, batch_size=batch)
        for parts, found in zip(
            ff.split_components(images, radii, inclusive=inclusive),
            (curves.predicted_low, curves.predicted_high),
            strict=True,
        ):
            with torch.inference_mode():
                expected = [net(part).argmax(dim=1).numpy() for part in parts]
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_model_that_changes_its_input_in_place_gives_the_same(setting, layout):
    net, images, labels = setting
    images = images.contiguous(memory_format=layout)
    kept = images.clone()
    for clip in (False, True):
        there, fresh = (
            ff.component_curves(InPlace(net, b).eval(), images, labels, radii=(2, 4, 5), clip=clip)
            for b in (True, False)
        )
        for name in ("predicted", "predicted_low", "predicted_high"):
            np.testing.assert_array_equal(getattr(there, name), getattr(fresh, name))
    assert torch.equal(images, kept)


def test_batches_are_halved_when_memory_runs_out(setting):
    net, images, labels = setting

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            if len(x) > 3:
                raise torch.OutOfMemoryError("too many")
            return self.net(x)

    whole = ff.component_curves(net, images, labels, radii=(2, 5))
    found = ff.component_curves(Small().eval(), images, labels, radii=(2, 5), batch_size=13)
    for name in ("predicted", "predicted_low", "predicted_high"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))


def test_shards_of_images_and_of_radii_merge(setting, make_net):
    net, images, labels = setting
    whole = ff.component_curves(net, images, labels, radii=(2, 3, 5))
    shards = [ff.component_curves(net, images, labels, radii=(2, 3, 5), shard=(i, 3), batch_size=2) for i in range(3)]
    radii = [ff.component_curves(net, images, labels, radii=r) for r in ((2, 5), (3,))]
    for merged in (shards[2] + shards[0] + shards[1], radii[1] + radii[0]):
        for name in ("radii", "image_ids", "labels", "predicted", "predicted_low", "predicted_high"):
            np.testing.assert_array_equal(getattr(merged, name), getattr(whole, name))
    for other, message in (
        (ff.component_curves(net, images, labels, radii=(2, 3, 5), shard=(1, 3), clip=True), "the same clip"),
        (ff.component_curves(net, images, labels, radii=(2, 3, 5), shard=(1, 3), inclusive=True), "the same inclusive"),
        (ff.component_curves(make_net(seed=1), images, labels, radii=(2, 3, 5), shard=(1, 3)), "different weights"),
    ):
        with pytest.raises(ValueError, match=message):
            _ = shards[0] + other


def test_tables_files_of_both_formats_and_the_picture(setting, tmp_path):
    net, images, labels = setting
    curves = ff.component_curves(net, images, labels, radii=(2, 5))
    curves.save(tmp_path / "c.npz")
    arrays = {n: getattr(curves, n) for n in ("image_ids", "labels", "predicted", "predicted_low", "predicted_high")}
    header = {"radii": [2.0, 5.0], "inclusive": False, "clip": False, "shape": [3, 11, 14], "details": {}}
    for loaded in (ff.load(tmp_path / "c.npz"), ComponentCurves.from_format_1(header, arrays)):
        assert loaded.radii.tolist() == [2, 5] and not loaded.inclusive
        for share in SHARES:
            np.testing.assert_array_equal(loaded.members(share), curves.members(share))
    frame = curves.to_dataframe()
    assert len(frame) == 2 and all(share in frame for share in SHARES)
    assert len(curves.plot().axes) == 2


def test_bad_arguments_are_refused(setting):
    net, images, labels = setting
    for radii in ((), (3, 2), (2, 2)):
        with pytest.raises(ValueError, match="`radii` ascending"):
            ff.component_curves(net, images, labels, radii=radii)
    curves = ff.component_curves(net, images, labels, radii=(2,))
    with pytest.raises(ValueError, match="a share of"):
        curves.curve("middle")
    with pytest.raises(ValueError, match=r"one of the radii \[2.0\], got 3"):
        curves.image_ids_of("low", 3)
