from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff

pytestmark = pytest.mark.usefixtures("one_thread")


def net(*layers: nn.Module) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for module in layers:
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def pictures(n: int = 9, h: int = 47, w: int = 61) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 3, h, w), dtype=np.uint8))


@pytest.mark.parametrize(
    ("layers", "field"),
    [  # size and step by the rule r += (k - 1) d s, s *= stride; place (0, 0) starts at - sum of padding times s
        ([nn.Conv2d(3, 4, (3, 5), stride=(2, 3))], (0, 0, 3, 5, 2, 3)),
        (
            [nn.Conv2d(3, 4, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 5, 3, padding=1)],
            (-9, -9, 19, 19, 4, 4),
        ),
        ([nn.Conv2d(3, 4, 3, padding=2, dilation=2), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1)], (-3, -3, 7, 7, 2, 2)),
        ([nn.Conv2d(3, 4, 25, padding=12), nn.ReLU(), nn.Conv2d(4, 4, 25, padding=12)], (0, -24, 47, 49, 0, 1)),
    ],
    ids=["one", "stem", "dilated", "as high as the image"],
)
def test_receptive_fields_are_those_of_the_arithmetic(layers, field):
    model = net(*layers)
    found = ff.top_patches(model, pictures(1), layer=str(len(layers) - 1)).field
    names = ("top", "left", "height", "width", "step_y", "step_x")
    assert tuple(getattr(found, name) for name in names) == field


class Windows(nn.Module):
    """Means over windows of 4 x 4 places, in the columns of places alone."""

    def forward(self, x):
        n, c, h, w = x.shape
        return x + x.view(n, c, h, w // 4, 4).mean(dim=4, keepdim=True).expand(-1, -1, -1, -1, 4).reshape(x.shape)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(3, 4, 3, 2, 1), nn.ConvTranspose2d(4, 5, 2, 2)],
        [nn.Conv2d(3, 4, 3, 2, 1), nn.Upsample(scale_factor=3)],
        [nn.Conv2d(3, 4, 3, 1, 1), nn.AdaptiveAvgPool2d((7, 9))],
        [nn.Conv2d(3, 4, 3, 1, 1, padding_mode="circular")],
        [nn.Conv2d(3, 4, 2, 2), Windows()],
    ],
    ids=["transposed", "enlarged", "means of 6 or 7 rows", "circular", "windows"],
)
def test_a_box_holds_all_that_its_place_sees(layers):
    model, name = net(*layers), str(len(layers) - 1)
    found = ff.top_patches(model, pictures(1, 43, 80), layer=name)
    x = torch.rand(1, 3, 43, 80, generator=torch.Generator().manual_seed(1)).requires_grad_()
    maps = model[: len(layers)](x)
    for row in range(maps.shape[2]):
        for column in (0, 5, maps.shape[3] - 1) if row else range(maps.shape[3]):
            (gradient,) = torch.autograd.grad(maps[0, :, row, column].sum(), x, retain_graph=True)
            top, bottom, left, right = found.field.box(row, column, (43, 80))
            gradient[..., top:bottom, left:right] = 0
            assert not gradient.any(), (row, column)


def test_the_largest_of_each_image_and_where():
    model = net(nn.Conv2d(3, 6, 5, stride=2), nn.ReLU())
    images = pictures()
    found = ff.top_patches(model, images, layer="1", units=[0, 4])
    with torch.no_grad():
        maps = model[1](model[0](images.float() / 255))[:, [0, 4]].flatten(2)
    np.testing.assert_allclose(found.activations, maps.amax(dim=2).T, rtol=1e-5)
    np.testing.assert_array_equal(found.places, maps.argmax(dim=2).T)
    best = found.top(4, count=3)
    assert [p.image for p in best] == np.argsort(-found.activations[1])[:3].tolist()
    assert best[0].activation == found.activations[1].max()
    patches = found.patches(images, count=3)
    for patch, pixels in zip(best, patches[4], strict=True):
        top, bottom, left, right = patch.box
        assert (bottom - top, right - left) == (5, 5)
        np.testing.assert_array_equal(pixels, (images[patch.image].float() / 255)[:, top:bottom, left:right])
        with torch.no_grad():  # what the unit sees is all that it answers to
            assert float(model[0](torch.from_numpy(pixels)[None])[0, 4]) == pytest.approx(patch.activation, rel=1e-5)


@pytest.mark.parametrize("last", [False, True])
def test_as_many_channels_as_rows_and_columns_are_told_from_them(last):
    class Turned(nn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1) if last else x.clone()

    class Back(nn.Module):
        def forward(self, x):
            return x.permute(0, 3, 1, 2) if last else x

    model, images = net(nn.Conv2d(3, 8, 4, stride=4), Turned(), Back()), pictures(3, 32, 32)
    found = ff.top_patches(model, images, layer="1")
    with torch.no_grad():
        maps = model[0](images.float() / 255).flatten(2)
    np.testing.assert_allclose(found.activations, maps.amax(dim=2).T, rtol=1e-5)
    np.testing.assert_array_equal(found.places, maps.argmax(dim=2).T)


def test_other_images_are_noticed():
    model, images = net(nn.Conv2d(3, 6, 5)), pictures()
    found = ff.top_patches(model, images, layer="0", units=[1])
    with pytest.raises(ValueError, match="expected the images that were measured, image 0 is another"):
        found.patches(images.flip(0))
    with pytest.raises(ValueError, match="expected all images that were measured, image . is not"):
        found.patches(images[:5])
    with pytest.raises(KeyError, match="one of the 1 units measured, got 3"):
        found.top(3)
    assert len(found.plot(images=images).axes) == 9


def test_what_is_wrong_is_refused():
    model, images = net(nn.Conv2d(3, 6, 5)), pictures(2)
    with pytest.raises(KeyError, match="such as 0"):
        ff.top_patches(model, images, layer="00")
    for units in ([6], [-1, 2], [2, 1], [1, 1]):
        with pytest.raises(ValueError, match="expected `units`"):
            ff.top_patches(model, images, layer="0", units=units)
    with pytest.raises(ValueError, match="compile=False"):
        ff.top_patches(model, images, layer="0", compile=True)
    model[0].weight.data[2, 0, 1, 1] = torch.nan
    with pytest.raises(FloatingPointError, match="unit 2 of layer '0' for image 0"):
        ff.top_patches(model, images, layer="0")
