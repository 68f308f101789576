from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff
from fastfreq.features import ImageSearch, caricature, image_search

pytestmark = pytest.mark.usefixtures("one_thread")
STILL = {"jitter": 0, "scale": 0, "rotation": 0}


def net() -> nn.Module:
    """A layer that keeps all, one that keeps means of 3 x 3, one of whole channels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 6, 1), nn.AvgPool2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
        )
    return model.eval()


def pictures(n: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((n, 3, 12, 15))).float() * 0.8 + 0.1


@pytest.mark.parametrize("shape", [(3, 8, 11), (1, 7, 6), (4, 9, 9)])
def test_coefficients_of_pixels_are_those_that_give_them(shape):
    pixels = image_search.FourierImages(ImageSearch(decay=1), shape, torch.device("cpu"))
    images = torch.from_numpy(np.random.default_rng(1).random((2, *shape))).float() * 0.9 + 0.05
    torch.testing.assert_close(pixels(pixels.coefficients(images)), images, atol=2e-6, rtol=0)


def test_what_a_layer_loses_is_not_found_again():
    search = ImageSearch(steps=200, rate=0.1, decay=0, **STILL)
    found = ff.invert(net(), ["0", "1", "2"], pictures(), search=search)
    assert (found.code_errors < 2e-3).all()
    assert (found.pixel_errors[0] < 0.1).all() and (found.pixel_errors[1:] > 0.4).all()
    # means of 3 x 3 in three channels are kept: two thirds of noise and more is lost, means are right
    x = torch.from_numpy(np.moveaxis(found.images[1], -1, 0))
    pool = nn.AvgPool2d(3)
    assert (pool(x) - pool(pictures())).abs().max() < 0.05
    assert [row["layer"] for row in found.summary()] == ["0", "1", "2"]


def test_errors_are_those_of_the_images_found():
    model, images = net(), pictures()
    found = ff.invert(model, "1", images, search=ImageSearch(steps=10, **STILL))
    np.testing.assert_array_equal(found.originals, np.moveaxis(images.numpy(), 0, -1))
    x = torch.from_numpy(np.moveaxis(found.images[0], -1, 0))
    with torch.no_grad():
        code, again = (model[1](model[0](each)).flatten(1).double() for each in (images, x))
    energy = code.square().sum(dim=1)
    np.testing.assert_allclose(found.code_errors[0], (again - code).square().sum(dim=1) / energy, rtol=1e-5)
    np.testing.assert_allclose(found.gains[0], (again * code).sum(dim=1) / energy, rtol=1e-5)
    spread = (images - images.mean(dim=(1, 2, 3), keepdim=True)).square().sum(dim=(1, 2, 3))
    wanted = (x - images).square().sum(dim=(1, 2, 3)) / spread
    np.testing.assert_allclose(found.pixel_errors[0], wanted, rtol=1e-4)


def test_an_image_does_not_know_its_neighbours():
    search = ImageSearch(steps=5)
    every = ff.invert(net(), ["0", "2"], pictures(3), search=search)
    alone = ff.invert(net(), ["2"], pictures(3)[2:], search=search, first_image=2)
    np.testing.assert_array_equal(alone.images[0, ..., 0], every.images[1, ..., 2])


def test_a_caricature_has_more_of_the_code():
    found = caricature(net(), ["1", "4"], pictures(), search=ImageSearch(steps=1, rate=1e-6))
    np.testing.assert_allclose(found.gains, 1, atol=1e-3)  # it starts at the image
    later = caricature(net(), ["1", "4"], pictures(), search=ImageSearch(steps=20, **STILL))
    assert (later.gains > 1.01).all() and later.objective == "caricature" and "caricature" in repr(later)
    assert later.plot().axes


def test_flat_images_and_silent_codes_have_no_error():
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    model[0].weight.data.abs_().neg_()
    model[0].bias.data.fill_(-1)
    found = ff.invert(model, "1", torch.full((1, 3, 6, 6), 0.25), search=ImageSearch(steps=2))
    assert np.isnan(found.code_errors).all() and np.isnan(found.pixel_errors).all() and np.isnan(found.gains).all()
    assert np.isfinite(found.images).all()


def test_the_command_line_says_the_defaults():
    from fastfreq.cli import invert as inverting
    from fastfreq.cli import maximize as maximizing
    from fastfreq.features.invert import CARICATURE, INVERSION

    for name, said in maximizing.DEFAULTS.items():
        own = getattr(ImageSearch(), name)
        assert said.startswith("1/16" if own is None else f"{own:g}")
    for name, said in inverting.DEFAULTS.items():
        code, _, other = said.partition(", for a caricature ")
        assert code == f"{getattr(INVERSION, name):g}"
        own = getattr(CARICATURE, name)
        assert (other or code) == ("1/16" if own is None else f"{own:g}")


def test_what_is_wrong_is_refused():
    model, images = net(), pictures()
    with pytest.raises(KeyError, match="expected a layer named as in"):
        ff.invert(model, "9", images)
    with pytest.raises(ValueError, match="expected `objective` of"):
        ff.invert(model, "1", images, objective="other")  # pyright: ignore[reportArgumentType]
    for layers in ([], ["1", "1"], [1]):
        with pytest.raises((ValueError, TypeError), match="expected (at least one of )?`layers`"):
            ff.invert(model, layers, images)
    for option in ({"precision": "bf16"}, {"compile": True}, {"fold_batch_norm": True}):
        with pytest.raises(ValueError, match="as it is"):
            ff.invert(model, "1", images, **option)
    model[0].weight.data[0] = torch.inf
    with pytest.raises(FloatingPointError, match="layer .0. for image 0"):
        ff.invert(model, "0", images)
