from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import fastfreq as ff
from fastfreq import plots
from fastfreq.plots import heatmap


def map_of(figure):
    """The first image drawn, with its axes."""
    axes = next(a for a in figure.axes if a.images)
    return axes, axes.images[0]


@pytest.fixture
def result(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=10)
    return ff.heatmap(net, images, labels, eps=2.0, metrics=("loss",), layers=["stem", "body"])


@pytest.mark.parametrize("size", [(8, 8), (9, 9), (11, 14), (5, 10)], ids=str)
def test_zero_frequency_is_drawn_at_zero(make_net, make_images, size):
    net = make_net()
    images, labels = make_images(net, shape=(3, max(size[0], 11), max(size[1], 14)))
    part = ff.heatmap(net, images, labels, eps=3.0, size=size)
    axes, image = map_of(part.plot())
    left, right, bottom, top = image.get_extent()
    assert (right - left, bottom - top) == (size[1], size[0])
    row, column = int(0 - top), int(0 - left)  # the cell that covers (0, 0)
    assert (row, column) == (size[0] // 2, size[1] // 2)
    np.testing.assert_array_equal(image.get_array(), part.error)
    assert "cycles per image" in axes.get_xlabel()


def test_errors_have_one_scale_and_differences_a_symmetric_one(result):
    assert map_of(result.plot())[1].get_clim() == (0, 1)
    low, high = map_of(result.plot(difference=True))[1].get_clim()
    assert low == -high < 0
    assert map_of(result.plot(metric="loss"))[1].get_clim() != (0, 1)
    side_by_side = heatmap.plot_many({"a": result, "b": result})
    assert [image.get_clim() for axes in side_by_side.axes for image in axes.images] == [(0, 1), (0, 1)]


def test_titles_carry_the_settings_and_formulas_are_not_parsed(result):
    figure = heatmap.plot_many({"net $x^$": result})
    assert "net $x^$" in figure.axes[0].get_title()
    title = result.plot().get_suptitle()
    assert "eps 2" in title and "yin2019" in title and "10 images" in title
    assert plots.figure_png(figure).startswith(b"\x89PNG")


def test_cells_that_were_not_evaluated_are_masked(make_net, make_images):
    net = make_net()
    images, labels = make_images(net)
    part = ff.heatmap(net, images, labels, eps=2.0, frequencies=[(0, 0), (1, 1)])
    drawn = np.ma.masked_invalid(map_of(part.plot())[1].get_array())
    assert drawn.count() == 3


def test_a_radial_profile_shows_its_interval(result):
    axes = heatmap.plot_radial({"net": result}).axes[0]
    profile = result.radial()
    line = next(line for line in axes.lines if len(line.get_xdata()) == len(profile.radius))
    np.testing.assert_allclose(line.get_ydata(), profile.value)
    assert axes.collections and axes.get_ylim()[0] <= 0 and axes.get_ylim()[1] >= 1


def test_every_other_picture_is_drawn(result, make_net, make_images, tmp_path):
    net = make_net(seed=1)
    images, labels = make_images(make_net(), n=10)
    other = ff.heatmap(net, images, labels, eps=2.0)
    figures = [
        result.compare(other).plot(),
        heatmap.plot_layers(result),
        heatmap.plot_effective_eps(result),
        ff.gradient_heatmap(net, images, labels, eps=2.0).plot(),
        plots.plot_basis_gallery((11, 14), convention="fhmap", eps=2.0, image=images[0]),
    ]
    for i, figure in enumerate(figures):
        plots.save_png(figure, tmp_path / f"{i}.png")
        assert (tmp_path / f"{i}.png").stat().st_size > 5_000
    with pytest.raises(ValueError, match="expected a path that ends in .png"):
        plots.save_png(figures[0], tmp_path / "a.pdf")
    with pytest.raises(ValueError, match="got none"):
        heatmap.plot_many({})


def test_pyplot_is_never_loaded_and_a_missing_matplotlib_is_explained():
    code = "import fastfreq.plots, sys; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys; sys.modules['matplotlib'] = None; import fastfreq.plots"
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'fastfreq[plots]'" in failed.stderr
